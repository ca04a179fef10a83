"""Host time of one hand-off between two streams, against the floor of the same run.

The floor is what the pair's own C functions cost and, issued from C, two capture queries, a
record and a wait; the same again where the release is included. Contenders meet round-robin;
the device is idle when a round begins, and drained off the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from time import perf_counter_ns
from typing import Any

from benchmarks import report, timing
from benchmarks.cases import OURS
from benchmarks.gpu import native
from benchmarks.gpu.contenders import DEVICE_WIDE, HOST_FLOOR, OWN, Bench, HandOff, bench
from benchmarks.gpu.machine import Machine

KEPT = ", results kept"
FLOOR_ONE_WAY, FLOOR_BOTH_WAYS = "floor, one way", "floor, there and back"
BARE = {
    "a record": native.RECORD,
    "a wait": native.WAIT,
    "a capture query": native.QUERY,
    "a push": native.PUSH,
    "a push and one back": native.BOTH_WAYS,
    "a push with an event of its own": native.OWN_EVENT,
}
AT_MOST_FLOOR, AT_LEAST_OWN = 1.5, 3.0
Run = Callable[[int], int]


def run(machine: Machine, *, rounds: int = 200, turns: int = 64) -> dict[str, Any]:
    """Every pair across streams, and on the default stream."""
    groups = []
    for producer, consumer in machine.pairs:
        for default in (False, True):
            if default and producer is consumer:
                continue
            with bench(machine, producer, consumer, default=default) as found:
                group = _measure(machine, found, rounds, turns)
            group["where"] = "default stream" if default else "across streams"
            group["judged"] = not default and producer is not consumer
            groups.append(group)
    verdicts = [line for group in groups for line in _verdicts(group)]
    return {"rounds": rounds, "turns": turns, "groups": groups, "verdicts": verdicts}


def _measure(machine: Machine, found: Bench, rounds: int, turns: int) -> dict[str, Any]:
    runs: dict[str, Run] = {}
    for name, function in found.contenders.items():
        if name == DEVICE_WIDE:
            continue  # its time is the device's; see the pipeline
        runs[name] = _dropped(function, found.x)
        runs[name + KEPT] = _kept(function, found.x)
    for name, what in BARE.items():
        runs[name] = _bare(machine, found, what)
    figures: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    with timing.quiet_collector():
        for each in runs.values():
            each(turns)
        for turn in range(rounds):
            shift = turn % len(order)
            for name in order[shift:] + order[:shift]:
                machine.synchronize()
                figures[name].append(runs[name](turns) / turns)
    _sum_floors(figures)
    lines = []
    for name, each in figures.items():
        under = figures.get(_floor_of(name))
        ratios = {"ratio_to_ours": timing.ratio(each, figures[_alike(name)])}
        ratios["ratio_to_floor"] = under and timing.ratio(each, under)
        lines.append({"name": name, **timing.summary(each), **ratios})
    return {"pair": found.pair, "contenders": lines, "absent": found.absent}


def _sum_floors(figures: dict[str, list[float]]) -> None:
    """Round by round: the host's part and the driver's."""
    for name, host, push in (
        (FLOOR_ONE_WAY, HOST_FLOOR + KEPT, "a push"),
        (FLOOR_BOTH_WAYS, HOST_FLOOR, "a push and one back"),
    ):
        if host in figures:
            parts = zip(figures[host], figures[push], strict=True)
            figures[name] = [a + b for a, b in parts]


def _alike(name: str) -> str:
    """Ours, with the release where `name` includes it."""
    return OURS + KEPT if name.endswith(KEPT) or name == FLOOR_ONE_WAY else OURS


def _floor_of(name: str) -> str:
    return FLOOR_ONE_WAY if _alike(name) == OURS + KEPT else FLOOR_BOTH_WAYS


def _dropped(function: HandOff, x: Any) -> Run:
    loop = timing.make_loop("f(x)")
    return lambda turns: loop(function, x, turns)


def _kept(function: HandOff, x: Any) -> Run:
    """Time the hand-offs and not the releases."""

    def run(turns: int) -> int:
        start = perf_counter_ns()
        kept = list(map(function, repeat(x, turns)))
        taken = perf_counter_ns() - start
        del kept
        return taken

    return run


def _bare(machine: Machine, found: Bench, what: str) -> Run:
    return lambda turns: machine.calls.time(what, found.p, found.c, turns)


def table(found: dict[str, Any]) -> str:
    """One table a pair and place; ratios are medians round by round, with their quartiles."""
    parts = []
    for group in found.get("groups", []):
        rows = [
            (
                line["name"],
                f"{line['median_ns']:.0f}",
                *_shown(line["ratio_to_floor"]),
                *_shown(line["ratio_to_ours"]),
            )
            for line in group["contenders"]
        ]
        head = ("", "median ns", "x floor", "spread", "x ours", "spread")
        parts.append(f"{group['pair']}, {group['where']}\n{report.table(head, rows)}\n")
    return "\n".join(parts)


def _shown(ratio: dict[str, float] | None) -> tuple[str, str]:
    if ratio is None:
        return "-", "-"
    return f"{ratio['median']:.2f}", f"{ratio['p25']:.2f}..{ratio['p75']:.2f}"


def _verdicts(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The limits between two frameworks across streams."""
    if not group["judged"]:
        return
    lines = {line["name"]: line for line in group["contenders"]}
    for name, own in ((OURS, OWN), (OURS + KEPT, OWN + KEPT)):
        ratio = lines[name]["ratio_to_floor"]
        line = {"pair": group["pair"], "who": name}
        yield line | _judged(
            f"at most {AT_MOST_FLOOR:g} x floor", ratio, lambda r: r <= AT_MOST_FLOOR
        )
        ratio = lines[own]["ratio_to_ours"]
        said = f"at least {AT_LEAST_OWN:g} x faster than {own}"
        yield line | _judged(said, ratio, lambda r: r >= AT_LEAST_OWN)


def _judged(
    limit: str, ratio: dict[str, float] | None, holds: Callable[[float], bool]
) -> dict[str, Any]:
    if ratio is None:
        return {"limit": limit, "verdict": "not run"}
    return {
        "limit": limit,
        "ratio": ratio,
        "verdict": "met" if holds(ratio["median"]) else "missed",
    }
