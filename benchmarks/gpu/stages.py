"""A pipeline of two frameworks, a thread and a stream each: wall time over its longest stage.

1 is perfect overlap, 2 is none. The kernels spin on one multiprocessor, so that two of them
can run at once and what is seen is the waiting, not the sharing of the device.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns
from typing import Any

import dlexchange as dx
from benchmarks import timing
from benchmarks.cases import OURS
from benchmarks.gpu.contenders import DEVICE_WIDE
from benchmarks.gpu.machine import Machine
from benchmarks.gpu.sides import Side

#: A message between the stages is what `send` makes of an array; `done` ends an item.
Way = tuple[Callable[[Any], Any], Callable[[Any], Any], Callable[[], None]]


def run(
    machine: Machine, *, items: int = 50, stage_us: int = 2_000, rounds: int = 5
) -> dict[str, Any]:
    """Each stage alone, then both, ordered by us and by device-wide synchronisation."""
    first, second = machine.sides
    alone = {side.name: _alone(machine, side, items, stage_us) for side in (first, second)}
    ways: dict[str, Way] = {
        OURS: (dx.from_dlpack, second.ours, lambda: None),
        DEVICE_WIDE: (
            lambda x: (machine.synchronize(), first.capsule(x))[1],
            second.of_capsule,
            machine.synchronize,
        ),
    }
    walls: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            walls[name].append(_wall(machine, first, second, way, items, stage_us))
    longest = max(alone.values())
    return {
        "items": items,
        "stage_us": stage_us,
        "stage_alone_ns": alone,
        "ways": {
            name: timing.summary(found)
            | {"wall_over_longest_stage": [round(wall / longest, 3) for wall in sorted(found)]}
            for name, found in walls.items()
        },
    }


def _alone(machine: Machine, side: Side, items: int, stage_us: int) -> float:
    with side.use(side.stream()):
        machine.synchronize()
        start = perf_counter_ns()
        for _ in range(items):
            side.busy(stage_us)
        machine.synchronize()
        return float(perf_counter_ns() - start)


def _wall(
    machine: Machine, first: Side, second: Side, way: Way, items: int, stage_us: int
) -> float:
    send, take, done = way
    between: queue.Queue[Any] = queue.Queue(4)
    p, c = first.stream(), second.stream()

    def produce() -> None:
        try:
            with first.use(p):
                for _ in range(items):
                    x = first.array()
                    first.busy(stage_us)
                    between.put(send(x))
                    del x
        finally:
            between.put(None)

    def consume() -> None:
        with second.use(c):
            while (message := between.get()) is not None:
                y = take(message)
                second.busy(stage_us)
                z = second.touch(y)
                done()
                del message, y, z

    machine.synchronize()
    start = perf_counter_ns()
    with ThreadPoolExecutor(2) as pool:
        stages = [pool.submit(produce), pool.submit(consume)]
        for stage in stages:
            stage.result()
    machine.synchronize()
    return float(perf_counter_ns() - start)
