"""One exchange, proven: values, address, writes seen on the other side, time."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import dlexchange as dx

from .specimens import SPECIMENS, VALUES, Specimen

__all__ = ["Verdict", "exchange", "in_short"]


class Verdict(NamedTuple):
    """What became of one pair. `outcome` is the cell of the matrix."""

    producer: str
    consumer: str
    outcome: str
    """shared, copied, wrong, refused, absent, failed, crashed or hung."""
    why: str = ""
    """Why it was not shared; empty where it was."""
    asked: str = ""
    """What had to be asked for ("copy=True" or "device='cpu'"); empty for a plain call."""
    writes: str = ""
    """Where a write was made that the other side saw (shared), or did not see (copied):
    both, producer, consumer, or none where neither side can be written to."""
    sealed: str = ""
    """Why nothing was written on one side or on both."""
    read_only: str = ""
    """"kept" or "lost" where the producer's memory is read-only; empty where it is not."""
    ns: float | None = None
    """Nanoseconds a hand-off, the fastest of seven loops, including release."""


class _Wrong(Exception):
    """An exchange that must not be: its text is the verdict."""


#: What is tried, in this order: a copy to another device is never made unasked.
_WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("", {}),
    ("copy=True", {"copy": True}),
    ("device='cpu'", {"device": "cpu"}),
)


def exchange(producer: str, consumer: str) -> Verdict:
    """Make an array, hand it over and look at both sides."""
    try:
        theirs, ours = SPECIMENS[producer], SPECIMENS[consumer]
        try:
            x = theirs.make()
        except Exception as error:
            return Verdict(producer, consumer, "absent", f"no array: {in_short(error)}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dx.errors.ReadOnlyWarning)
            return _hand_over(producer, consumer, x, theirs, ours)
    except _Wrong as wrong:
        return Verdict(producer, consumer, "wrong", str(wrong))
    except Exception as error:
        return Verdict(producer, consumer, "failed", in_short(error))


def _hand_over(producer: str, consumer: str, x: Any, theirs: Specimen, ours: Specimen) -> Verdict:
    refusals = []
    for asked, keywords in _WAYS:

        def call(keywords: dict[str, Any] = keywords) -> Any:
            return dx.convert(x, consumer, **keywords)

        try:
            y = call()
        except dx.ExchangeError as error:
            refusals.append(in_short(error))
            continue
        if ours.read(y) != VALUES:
            raise _Wrong(f"values differ: {ours.read(y)[:4]} ... instead of {VALUES[:4]} ...")
        read_only = _read_only(x, consumer)
        shared = theirs.address(x) == ours.address(y)
        why = "" if shared else _why_copied(x, consumer, asked, refusals)
        writes, sealed = _write(x, y, theirs, ours, seen=shared)
        outcome = "shared" if shared else "copied"
        del y  # paddle keeps for good what it imports twice at a time
        ns = _time(call)
        return Verdict(producer, consumer, outcome, why, asked, writes, sealed, read_only, ns)
    return Verdict(producer, consumer, "refused", refusals[0])


def _write(x: Any, y: Any, theirs: Specimen, ours: Specimen, *, seen: bool) -> tuple[str, str]:
    """Write on each side that can; the other must see it where memory is shared."""
    written = []
    sides = (("producer", theirs, x, ours, y, 1001.0), ("consumer", ours, y, theirs, x, 2002.0))
    for name, here, mine, there, other, value in sides:
        if here.write is None:
            continue
        try:
            here.write(mine, value)
        except Exception:  # read-only memory: the consumer keeps the producer's word
            continue
        if here.read(mine)[0] != value:
            raise _Wrong(f"the {name} cannot read back what it wrote")
        if (there.read(other)[0] == value) != seen:
            raise _Wrong(
                f"a write by the {name} is {'not ' if seen else ''}seen on the other side, but "
                f"the addresses {'are the same' if seen else 'differ'}"
            )
        written.append(name)
    sealed = "; ".join(dict.fromkeys(side.sealed for side in (theirs, ours) if side.sealed))
    return ("both" if len(written) == 2 else "".join(written) or "none"), sealed


def _why_copied(x: Any, consumer: str, asked: str, refusals: list[str]) -> str:
    """Ask the library itself: copy=False must refuse what was copied."""
    if asked:
        return refusals[0]
    try:
        dx.convert(x, consumer, copy=False)
    except dx.CopyError as error:
        return in_short(error)
    raise _Wrong("a copy was made although copy=False was asked for")


def _read_only(x: Any, consumer: str) -> str:
    try:
        if not dx.from_dlpack(x).readonly:
            return ""
    except dx.ExchangeError:
        return ""
    try:
        with dx.strict():
            dx.convert(x, consumer)
    except dx.CopyError:
        return "kept"
    except dx.ExchangeError:
        return "lost"
    return "kept"


def _time(call: Callable[[], Any]) -> float:
    rounds, best = 1, 0.0
    while best * rounds < 1e6 and rounds < 1 << 16:
        rounds *= 4
        best = _loop(call, rounds)
    return min(best, *(_loop(call, rounds) for _ in range(6)))


def _loop(call: Callable[[], Any], rounds: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(rounds):
        call()
    return (time.perf_counter_ns() - start) / rounds


def in_short(error: BaseException) -> str:
    """Return an error's message and its cause's, on one line."""
    words = " ".join(str(error).split()) or type(error).__name__
    line = words if len(words) <= 160 else words[:157] + "..."
    return f"{line} ({in_short(error.__cause__)})" if error.__cause__ is not None else line
