"""What pipelines cost: ``python -m benchmarks.pipeline [--soak N] [--json FILE]``.

- hop: what a stage adds to a request's way through, without any work, beside the same chain
  of asyncio.Queue and to_thread;
- overlap: two stages of equal length, the wall time beside the slower stage's total;
- gap: how long the event loop stands still while a stage works for half a second;
- progress: what a step costs where nobody listens;
- soak: many requests, a tenth of them cancelled at random points: memory, descriptors,
  threads and outcomes.

Stages sleep where they work: no GPU is used, and nothing here speaks of one.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from dlexchange.pipeline import Pipeline

LENGTHS = (1, 9)


def chain(length: int, work: Any = None, **options: Any) -> Pipeline:
    """Build a chain of equal stages."""
    pipe = Pipeline("chain", **options)
    stages = [pipe.stage(work or (lambda ctx, x: x), name=f"s{i}") for i in range(length)]
    for a, b in itertools.pairwise(stages):
        a >> b
    return pipe


async def time_of(ask: Any, n: int) -> float:
    """Return the median time of a request, in microseconds; one at a time."""
    for _ in range(n // 10 + 1):
        await ask(0)
    took = []
    for _ in range(n):
        start = time.perf_counter_ns()
        await ask(0)
        took.append(time.perf_counter_ns() - start)
    return statistics.median(took) / 1000


async def ours(length: int, n: int) -> float:
    """Time a request through a chain of stages."""
    async with chain(length) as pipe:
        return await time_of(pipe, n)


async def queues(length: int, n: int) -> float:
    """Time a request through the same chain of asyncio.Queue and to_thread."""
    inboxes: list[asyncio.Queue[Any]] = [asyncio.Queue(4) for _ in range(length + 1)]

    async def serve(i: int) -> None:
        while True:
            x = await inboxes[i].get()
            await inboxes[i + 1].put(await asyncio.to_thread(lambda y: y, x))

    tasks = [asyncio.create_task(serve(i)) for i in range(length)]

    async def ask(x: Any) -> Any:
        await inboxes[0].put(x)
        return await inboxes[-1].get()

    try:
        return await time_of(ask, n)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def hop(n: int, rounds: int = 5) -> dict[str, float]:
    """Measure what one more stage costs, in microseconds: the best of several medians.

    Rounds of ours and of the other alternate, so that both see the same machine.
    """
    short, long = LENGTHS
    best: dict[tuple[str, int], float] = {}
    for _ in range(rounds):
        for name, time_chain in (("ours", ours), ("asyncio.Queue + to_thread", queues)):
            for length in LENGTHS:
                took = asyncio.run(time_chain(length, n))
                best[name, length] = min(took, best.get((name, length), took))
    found = {}
    for name in ("ours", "asyncio.Queue + to_thread"):
        found[f"{name}: per hop, us"] = (best[name, long] - best[name, short]) / (long - short)
        found[f"{name}: whole chain of {long}, us"] = best[name, long]
    ratio = found["ours: per hop, us"] / found["asyncio.Queue + to_thread: per hop, us"]
    return {**found, "ratio per hop": ratio}


def overlap(items: int = 30, seconds: float = 0.02) -> dict[str, float]:
    """Measure wall time over the slower stage's total, for two stages that sleep."""
    spent: Counter[str] = Counter()

    def work(ctx: Any, x: Any) -> Any:
        start = time.perf_counter()
        time.sleep(seconds)
        spent[ctx.stage] += time.perf_counter() - start
        return x

    async def main() -> float:
        async with chain(2, work, inflight=4) as pipe:
            start = time.perf_counter()
            async for _ in pipe.map(range(items)):
                pass
            return time.perf_counter() - start

    wall = asyncio.run(main())
    return {"wall / slowest stage": wall / max(spent.values())}


def gap(seconds: float = 0.5, rounds: int = 5) -> dict[str, float]:
    """Measure the longest pause of the event loop while a stage works, in milliseconds.

    The control is the same loop beside a task that only sleeps: what the machine does.
    """

    def work(ctx: Any, x: Any) -> Any:
        time.sleep(seconds)
        return x

    async def longest(ask: Any) -> float:
        longest = 0.0
        async with chain(1, work) as pipe:
            task = asyncio.ensure_future(ask(pipe))
            last = time.perf_counter()
            while not task.done():
                await asyncio.sleep(0)
                now = time.perf_counter()
                longest, last = max(longest, now - last), now
        return longest * 1000

    found = {}
    for name, ask in (
        ("while a stage works", lambda pipe: pipe(0)),
        ("control", lambda pipe: asyncio.sleep(seconds)),
    ):
        gaps = sorted(asyncio.run(longest(ask)) for _ in range(rounds))
        found[f"{name}: median of {rounds} longest gaps, ms"] = gaps[rounds // 2]
        found[f"{name}: worst, ms"] = gaps[-1]
    return found


def progress(steps: int = 100_000) -> dict[str, float]:
    """Measure a call of ctx.progress where nobody listens, in microseconds."""

    def work(ctx: Any, x: Any) -> Any:
        start = time.perf_counter()
        for i in range(steps):
            ctx.progress(i)
        return (time.perf_counter() - start) / steps * 1e6

    with chain(1, work).sync() as p:
        return {"progress without a listener, us": p(0)}


def resources() -> dict[str, int]:
    """Return what must not grow."""
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    return {
        "resident KiB": pages * os.sysconf("SC_PAGE_SIZE") // 1024,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
    }


def soak(n: int, cancelled: float = 0.1, seed: int = 0) -> dict[str, Any]:
    """Send many requests, cancel a part at random points, and account for all of them."""
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    seen: list[dict[str, int]] = []

    async def ask(pipe: Pipeline, x: int) -> None:
        task = asyncio.ensure_future(pipe(x))
        if rng.random() < cancelled:
            for _ in range(rng.randint(0, 12)):
                await asyncio.sleep(0)
            task.cancel()
        try:
            assert await task == x
            outcomes["finished"] += 1
        except asyncio.CancelledError:
            outcomes["cancelled"] += 1

    def steps(ctx: Any, x: Any) -> Any:
        for i in range(3):
            yield ctx.partial(x, step=i)
        return x

    async def main() -> tuple[Counter[str], int]:
        async with chain(3, steps, inflight=8) as pipe:
            part = max(1, n // 10)
            for start in range(0, n, part):
                todo = iter(range(start, min(start + part, n)))

                async def some(todo: Any = todo) -> None:
                    for x in todo:
                        await ask(pipe, x)

                await asyncio.gather(*(some() for _ in range(16)))
                seen.append(resources())
            flow = pipe._engine.flow
            return Counter(flow.counts), flow.tickets - 8

    counts, missing = asyncio.run(main())
    first, last = seen[1 if len(seen) > 1 else 0], seen[-1]
    return {
        "requests": n,
        **outcomes,
        "outcomes as counted by the pipeline": dict(counts),
        "cancelled before the pipeline saw them": n - sum(counts.values()),
        "tickets missing": -missing,
        "after a fifth": first,
        "at the end": last,
        "left afterwards": {k: resources()[k] for k in ("descriptors", "threads")},
    }


def main() -> None:
    """Print, or write, what was measured."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pipeline", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--soak", type=int, metavar="N", help="only the soak, of N requests")
    parser.add_argument("--requests", type=int, default=2000, help="for each median of a hop")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.soak:
        found: dict[str, Any] = {"soak": soak(options.soak)}
    else:
        found = {
            "hop": hop(options.requests),
            "overlap": overlap(),
            "gap": gap(),
            "progress": progress(),
        }
    text = json.dumps(found, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
