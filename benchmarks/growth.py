"""Cost of one hand-off against the size of everything: flat where it should be flat.

Dimensions may cost a little each. Live results, the number of types that take part, and the
number of streams that pushes go between should cost nothing. Threads share the interpreter's
lock: what is shown is wall time over all hand-offs, so a flat line means that the lock is all
they fight for.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from benchmarks import cases, floor, push, report, timing, versions
from benchmarks.timing import Contender

PAIRS = (("numpy", "tensor"), ("torch", "tensor"), ("torch", "numpy"), ("numpy", "torch"))
NDIMS = (0, 1, 2, 3, 4, 6, 8, 9, 12, 16, 24, 32)
FLOOR_NDIM = 8
LIVE = (0, 1, 10, 100, 1_000, 10_000, 100_000)
THREADS = (1, 2, 4, 8)
TYPES = (1, 2, 4, 8, 16, 32, 64, 128)
NEXT = "f(x())"  # from an endless cycle; its step is in every figure alike

Curve = dict[str, Any]


def _array(ndim: int) -> Any:
    import numpy as np

    shape = (2,) * min(ndim, 4) + (1,) * max(ndim - 4, 0)
    return np.arange(16, dtype=np.float32)[: 2 ** min(ndim, 4)].reshape(shape)


def _native(producer: str, array: Any) -> Any:
    import torch

    return torch.from_numpy(array).clone() if producer == "torch" else array


def _curve(axis: str, pair: tuple[str, str], who: str, points: dict[int, list[float]]) -> Curve:
    found = [{"at": at, **timing.summary(figures)} for at, figures in points.items()]
    return {"axis": axis, "pair": " -> ".join(pair), "who": who, "points": found}


def against_ndim(rounds: int) -> Iterator[Curve]:
    """One source of each rank, ours and (up to its 8) the floor."""
    for producer, consumer in PAIRS:
        arrays = {ndim: _native(producer, _array(ndim)) for ndim in NDIMS}
        lines: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
            cases.OURS: (cases.ours(consumer), NDIMS),
            cases.FLOOR: (
                floor.function(producer, consumer),
                tuple(n for n in NDIMS if n <= FLOOR_NDIM),
            ),
        }
        contenders = [
            Contender(f"{who} {ndim}", function, "f(x)", arrays[ndim])
            for who, (function, ndims) in lines.items()
            for ndim in ndims
        ]
        figures = timing.measure(contenders, rounds=rounds)
        for who, (_, ndims) in lines.items():
            points = {ndim: figures[f"{who} {ndim}"] for ndim in ndims}
            yield _curve("ndim", (producer, consumer), who, points)


def against_live(rounds: int) -> Iterator[Curve]:
    """The same hand-off while so many results of it are held."""
    for producer, consumer in PAIRS:
        function, x = cases.ours(consumer), _native(producer, _array(1))
        points = {}
        for live in LIVE:
            held = [function(x) for _ in range(live)]
            one = Contender("ours", function, "f(x)", x)
            points[live] = timing.measure([one], rounds=rounds)["ours"]
            del held
        yield _curve("live results", (producer, consumer), cases.OURS, points)


def against_types(rounds: int) -> Iterator[Curve]:
    """Sources of so many types in turn, beside as many sources of one type."""
    import numpy as np

    array = np.arange(16, dtype=np.float32)
    methods = {"__dlpack__": array.__dlpack__, "__dlpack_device__": array.__dlpack_device__}
    for consumer in ("tensor", "numpy"):
        function = cases.ours(consumer)
        contenders = []
        for count in TYPES:
            producers = [type(f"Producer{i}", (), methods)() for i in range(count)]
            same = [type(producers[0])() for _ in range(count)]
            for who, sources in (("as many types", producers), ("one type", same)):
                contender = Contender(f"{who} {count}", function, NEXT, cycle(sources).__next__)
                contenders.append(contender)
        figures = timing.measure(contenders, rounds=rounds)
        for who in ("as many types", "one type"):
            points = {count: figures[f"{who} {count}"] for count in TYPES}
            yield _curve("types", ("any __dlpack__", consumer), who, points)


def against_threads(turns: int) -> Iterator[Curve]:
    """Wall time over all hand-offs of all threads."""
    for producer, consumer in PAIRS:
        function = cases.ours(consumer)
        points = {
            count: [_in_threads(count, function, producer, turns) for _ in range(10)]
            for count in THREADS
        }
        yield _curve("threads", (producer, consumer), cases.OURS, points)


def against_streams(rounds: int) -> Iterator[Curve]:
    """The library's own part of a push among so many streams, on a null driver table."""
    found = push.measure(rounds)
    points = [
        {"at": int(count), "median_ns": median, "min_ns": best}
        for count, (median, best) in found.get("push_ns_by_streams", {}).items()
    ]
    if points:
        yield {"axis": "streams", "pair": "push", "who": cases.OURS, "points": points}
    else:
        print(f"  streams: not run: {found['why']}", file=sys.stderr)


def _in_threads(count: int, function: Callable[[Any], Any], producer: str, turns: int) -> float:
    start = threading.Barrier(count + 1)

    def work(x: Any) -> None:
        start.wait()
        for _ in range(turns):
            function(x)

    threads = [
        threading.Thread(target=work, args=(_native(producer, _array(1)),)) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    start.wait()
    began = perf_counter_ns()
    for thread in threads:
        thread.join()
    return (perf_counter_ns() - began) / (count * turns)


def main(*, fast: bool, path: Path | None) -> int:
    """Measure every curve, print them, write them."""
    rounds = 5 if fast else 100
    curves = []
    for found in (
        against_ndim(rounds),
        against_live(rounds),
        against_types(rounds),
        against_streams(rounds),
        against_threads(2_000 if fast else 50_000),
    ):
        for curve in found:
            curves.append(curve)
            print(f"  {curve['axis']}: {curve['pair']}, {curve['who']}", file=sys.stderr)
    document = {"suite": "growth", "rounds": rounds, "environment": versions.describe()}
    document["curves"] = curves
    print(report.environment(document))
    for axis in dict.fromkeys(curve["axis"] for curve in curves):
        print(f"\nns a hand-off against {axis}\n{_table(axis, curves)}")
    if path is not None:
        report.write(document, path)
        print(f"written: {path}")
    return 0


def _table(axis: str, curves: list[Curve]) -> str:
    chosen = [curve for curve in curves if curve["axis"] == axis]
    at = list(dict.fromkeys(point["at"] for curve in chosen for point in curve["points"]))
    rows = []
    for curve in chosen:
        found = {point["at"]: f"{point['min_ns']:.0f}" for point in curve["points"]}
        rows.append((curve["pair"], curve["who"], *(found.get(size, "-") for size in at)))
    return report.table(("pair", "who", *map(str, at)), rows)
