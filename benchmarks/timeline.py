"""``python -m benchmarks.timeline``: when each stage of a two-framework pipeline works.

torch makes an array, jax takes it over, both on the host; in the place of a kernel each stage
sleeps, so that what is seen is who waits for whom, not how fast this machine is. Once as
`dlexchange.pipeline` runs it, a thread a stage; once as a loop that hands over by DLPack and
waits between the stages, as ``cudaDeviceSynchronize`` would make it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns, sleep
from typing import Any

import dlexchange as dx
from benchmarks import report, versions
from dlexchange.pipeline import Pipeline

WITH, WITHOUT = "dlexchange.pipeline", "a loop that waits between stages"
DEVICE = "host stages, torch and jax, that sleep in the place of a kernel; no GPU"
STAGES = ("torch", "jax")
#: The second stage is the longer one: it sets the pace.
SECONDS = {"torch": 0.03, "jax": 0.04}
Spans = list[dict[str, Any]]


class _Stages:
    """The two stages' work, and when each item's began and ended."""

    def __init__(self) -> None:
        import jax
        import torch

        self._torch, self._jax = torch, jax
        self.begin()
        self.go_on(0, jax.dlpack.from_dlpack(self.make(0)))

    def begin(self) -> None:
        self.spans: Spans = []
        self._start = perf_counter_ns()

    def _noted(self, stage: str, item: int, work: Callable[[], Any]) -> Any:
        begun = perf_counter_ns() - self._start
        result = work()
        sleep(SECONDS[stage])
        ended = perf_counter_ns() - self._start
        self.spans.append({"stage": stage, "item": item, "begin_ns": begun, "end_ns": ended})
        return result

    def make(self, item: int) -> Any:
        """The first stage."""
        return self._noted("torch", item, lambda: self._torch.full((16,), float(item)))

    def go_on(self, item: int, x: Any) -> Any:
        """The second stage; it waits for its own result, and holds nobody else up."""
        return self._noted("jax", item, lambda: (x + 1).block_until_ready())


def _with(stages: _Stages, items: int) -> None:
    pipe = Pipeline("timeline", inflight=4)

    @pipe.stage
    def make(_: Any, item: int) -> tuple[int, Any]:
        return item, stages.make(item)

    @pipe.stage
    def go_on(_: Any, message: tuple[int, Any]) -> Any:
        item, x = message
        return stages.go_on(item, dx.to_jax(x))

    make >> go_on

    async def main() -> None:
        async with pipe:
            stages.begin()
            await asyncio.gather(*(pipe(item) for item in range(items)))

    asyncio.run(main())


def _without(stages: _Stages, items: int) -> None:
    stages.begin()
    for item in range(items):
        stages.go_on(item, stages._jax.dlpack.from_dlpack(stages.make(item)))


def run(items: int) -> dict[str, Any]:
    """Both ways, one after the other, with the same stages."""
    stages, ways = _Stages(), {}
    for name, way in ((WITHOUT, _without), (WITH, _with)):
        way(stages, items)
        ways[name] = _measured(stages.spans)
    return {"items": items, "stages": STAGES, "ways": ways}


def _measured(spans: Spans) -> dict[str, Any]:
    """Wall time over the longest stage: 1 is perfect overlap of the others with it."""
    wall = max(span["end_ns"] for span in spans) - min(span["begin_ns"] for span in spans)
    busy = {
        stage: sum(s["end_ns"] - s["begin_ns"] for s in spans if s["stage"] == stage)
        for stage in STAGES
    }
    ratio = round(wall / max(busy.values()), 3)
    return {"wall_ns": wall, "busy_ns": busy, "wall_over_longest_stage": ratio, "spans": spans}


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.timeline")
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--json", type=Path, default=report.RESULTS / "timeline.json")
    options = parser.parse_args()
    found = run(options.items)
    document = {"suite": "timeline", "device": DEVICE}
    document |= {"environment": versions.describe(), **found}
    print(report.environment(document))
    rows = [
        (name, f"{way['wall_ns'] / 1e6:.0f}", f"{way['wall_over_longest_stage']:.2f}")
        for name, way in found["ways"].items()
    ]
    print(report.table((DEVICE, "wall ms", "wall / longest stage"), rows))
    report.write(document, options.json)
    print(f"written: {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
