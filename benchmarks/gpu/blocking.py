"""Does the host wait? Its time in one hand-off while the producer's kernel runs 1 us to 100 ms."""

from __future__ import annotations

from time import perf_counter_ns
from typing import Any

from benchmarks import timing
from benchmarks.cases import OURS
from benchmarks.gpu.contenders import HOST_FLOOR, bench
from benchmarks.gpu.machine import Machine

KERNELS_US = (1, 10, 100, 1_000, 10_000, 100_000)
#: Longest to shortest: a host that waits would differ by five orders of magnitude.
AT_MOST = 3.0


def run(machine: Machine, *, rounds: int = 20) -> dict[str, Any]:
    """Every contender of every pair against each length of the kernel."""
    groups = []
    for producer, consumer in machine.pairs:
        with bench(machine, producer, consumer, default=False) as found:
            found.contenders.pop(HOST_FLOOR, None)
            curves: dict[str, dict[str, Any]] = {}
            for name, function in found.contenders.items():
                function(found.x)
                points = {}
                for length in KERNELS_US:
                    figures = []
                    for _ in range(rounds if length < 100_000 else max(1, rounds // 4)):
                        machine.synchronize()
                        producer.busy(length)
                        start = perf_counter_ns()
                        result = function(found.x)
                        figures.append(float(perf_counter_ns() - start))
                        del result
                    points[str(length)] = timing.summary(figures)
                curves[name] = points
        groups.append({"pair": found.pair, "curves": curves, **_judged(curves[OURS])})
    return {"kernels_us": KERNELS_US, "rounds": rounds, "groups": groups}


def _judged(points: dict[str, Any]) -> dict[str, Any]:
    medians = [point["median_ns"] for point in points.values()]
    ratio = round(max(medians) / min(medians), 2)
    return {
        "longest_to_shortest": ratio,
        "limit": f"at most {AT_MOST:g}",
        "verdict": "met" if ratio <= AT_MOST else "missed",
    }
