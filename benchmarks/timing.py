"""Many contenders in one process, round-robin, so that noise meets all of them alike.

Rounds are short and many: the machine's state (clock, neighbours on its cores) changes
slower than a round, so the ratio of two contenders of one round is steadier than either.

A contender is a text over ``f`` and ``x``. Each gets a loop of its own code object: the
interpreter specialises a call site for what it has seen there, and no contender may
spoil another's. The results are dropped at once, so every figure includes release.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from time import perf_counter_ns
from typing import Any

_LOOP = """
def loop(f, x, turns):
    start = clock()
    for _ in repeat(None, turns):
        {call}
    return clock() - start
"""
EMPTY = "pass"


@dataclass(frozen=True)
class Contender:
    """What is timed: `call` is a text over ``f`` and ``x``."""

    name: str
    function: Callable[..., Any] | None
    call: str
    x: Any


def make_loop(call: str) -> Callable[[Any, Any, int], int]:
    """A fresh ``loop(f, x, turns)`` that returns the nanoseconds of all its turns."""
    names: dict[str, Any] = {"repeat": repeat, "clock": perf_counter_ns}
    exec(_LOOP.format(call=call), names)
    return names["loop"]


@contextmanager
def quiet_collector() -> Iterator[None]:
    """No garbage collection while the clock runs."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Runner:
    """One contender's loop, with as many turns as fill a round."""

    def __init__(self, contender: Contender, round_ns: int) -> None:
        self.contender = contender
        self.loop = make_loop(contender.call)
        self.turns = 64
        self.run()  # what only the first call pays is nobody's cost of a hand-off
        while (taken := self.undisturbed()) < round_ns / 4:
            self.turns *= 2
        self.turns = max(1, int(self.turns * round_ns / taken))

    def undisturbed(self) -> int:
        """The fastest of a few runs: one that lost the processor would leave so few
        turns that the clock's own cost shows in every figure."""
        return min(self.run() for _ in range(5))

    def run(self) -> int:
        return self.loop(self.contender.function, self.contender.x, self.turns)


def measure(
    contenders: Sequence[Contender], *, rounds: int, round_ns: int = 250_000
) -> dict[str, list[float]]:
    """Time every contender once a round, `rounds` times, each round from another start.

    Returns
    -------
    dict
        Name to nanoseconds a call, one figure a round, less the fastest empty loop.
    """
    names = [contender.name for contender in contenders]
    if len(set(names)) != len(names):
        raise ValueError(f"two contenders share a name: {names}")
    figures: dict[str, list[float]] = {name: [] for name in names}
    overhead = float("inf")
    with quiet_collector():
        empty = _Runner(Contender("empty", None, EMPTY, None), round_ns // 4)
        runners = [_Runner(contender, round_ns) for contender in contenders]
        for turn in range(rounds):
            overhead = min(overhead, empty.run() / empty.turns)
            shift = turn % len(runners)
            for runner in runners[shift:] + runners[:shift]:
                figures[runner.contender.name].append(runner.run() / runner.turns)
    return {name: [each - overhead for each in found] for name, found in figures.items()}


def summary(figures: Sequence[float]) -> dict[str, float]:
    """Minimum, median and quartiles, in nanoseconds."""
    low, middle, high = _quartiles(figures)
    found = {"min_ns": min(figures), "median_ns": middle, "p25_ns": low, "p75_ns": high}
    return {name: round(value, 1) for name, value in found.items()}


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """`over` to `under`, round by round: median and quartiles; and that of the minima."""
    low, middle, high = _quartiles([a / b for a, b in zip(over, under, strict=True)])
    found = {"median": middle, "p25": low, "p75": high, "of_min": min(over) / min(under)}
    return {name: round(value, 3) for name, value in found.items()}


def _quartiles(figures: Sequence[float]) -> tuple[float, float, float]:
    if len(figures) < 2:
        return figures[0], figures[0], figures[0]
    low, middle, high = statistics.quantiles(figures, n=4, method="inclusive")
    return low, middle, high
