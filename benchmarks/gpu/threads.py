"""Hand-offs between threads: a Tensor made in one, consumed in another; and many at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from time import perf_counter_ns
from typing import Any

import dlexchange as dx
from benchmarks import timing
from benchmarks.cases import OURS
from benchmarks.gpu.contenders import bench
from benchmarks.gpu.machine import Machine
from benchmarks.gpu.sides import Side

COUNTS = (1, 2, 4, 8)


def run(machine: Machine, *, rounds: int = 100, turns: int = 64) -> dict[str, Any]:
    """Both halves of a hand-off between two threads, and wall time in 1 to 8 threads."""
    groups = []
    for producer, consumer in machine.pairs:
        halves = _halves(machine, producer, consumer, rounds, turns)
        walls = {n: _many(machine, producer, consumer, n, rounds * turns) for n in COUNTS}
        groups.append(
            {
                "pair": f"{producer.name} -> {consumer.name}",
                "halves": {name: timing.summary(figures) for name, figures in halves.items()},
                "wall_ns_a_hand_off": {str(n): round(wall, 1) for n, wall in walls.items()},
            }
        )
    return {"rounds": rounds, "turns": turns, "groups": groups}


def _halves(
    machine: Machine, producer: Side, consumer: Side, rounds: int, turns: int
) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {
        "making the Tensor": [],
        "consuming it in another thread": [],
        "releasing it there": [],
    }
    p, c = producer.stream(), consumer.stream()

    def consume(sent: list[Any]) -> tuple[int, int]:
        with consumer.use(c):
            start = perf_counter_ns()
            results = list(map(consumer.ours, sent))
            middle = perf_counter_ns()
            sent.clear()
            results.clear()
            return middle - start, perf_counter_ns() - middle

    with producer.use(p), ThreadPoolExecutor(1) as thread, timing.quiet_collector():
        x = producer.array()
        for _ in range(rounds):
            machine.synchronize()
            start = perf_counter_ns()
            sent = list(map(dx.from_dlpack, repeat(x, turns)))
            taken = perf_counter_ns() - start
            for name, ns in zip(
                figures, (taken, *thread.submit(consume, sent).result()), strict=True
            ):
                figures[name].append(ns / turns)
        machine.synchronize()
    return figures


def _many(machine: Machine, producer: Side, consumer: Side, count: int, turns: int) -> float:
    """Wall time over all hand-offs of all threads, each between streams of its own."""
    barrier = threading.Barrier(count + 1, timeout=60)  # if a thread fails, the others do

    def work() -> None:
        with bench(machine, producer, consumer, default=False) as found:
            function, x = found.contenders[OURS], found.x
            barrier.wait()
            for _ in range(turns // count):
                function(x)
            barrier.wait()

    with ThreadPoolExecutor(count) as pool:
        done = [pool.submit(work) for _ in range(count)]
        barrier.wait()
        start = perf_counter_ns()
        barrier.wait()
        taken = perf_counter_ns() - start
        for each in done:
            each.result()
    return taken / (turns // count * count)
