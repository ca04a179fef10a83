"""``python -m benchmarks.sycl``: hand-offs between dpnp's queues, on a real asynchronous device.

How long the host is in the hand-off while the producer still computes for 50 ms or more, how
often an unordered hand-off is wrong, and whether memory stays flat. Both kinds of queues,
in one thread and across two.

Where the SYCL device is the processor itself, the wall time of a hand-off includes waiting for
a core that the producer's kernel holds. So the verdict is on the processor time of the
calling thread (median), and on the shortest wall time.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import report, versions
from benchmarks.soak import resident_bytes

KINDS = ("in_order", "out_of_order")
SIZE = 1 << 20
LONG_MS = 50.0
LIMIT_MS = 1.0
LIMIT_BYTES = 4 << 20


def queue(kind: str) -> Any:
    """Make a queue of that kind on the default device."""
    import dpctl

    return dpctl.SyclQueue(property="in_order" if kind == "in_order" else 0)


def begin(q: Any, rounds: int) -> Any:
    """Queue `rounds` sines and a fill with sevens; return the array."""
    import dpnp

    x = dpnp.full(SIZE, 1.0, dtype="float32", sycl_queue=q)
    q.wait()
    for _ in range(rounds):
        dpnp.sin(x, out=x)
    x.fill(7)
    return x


def calibrate() -> int:
    """Find how many sines take at least 50 ms here, with a margin."""
    q = queue("in_order")
    begin(q, 1)
    rounds = 1
    while True:
        q.wait()
        started = time.perf_counter()
        begin(q, rounds)
        q.wait()
        if (time.perf_counter() - started) * 1e3 > 2 * LONG_MS:
            return rounds
        rounds *= 2


def in_thread(function: Callable[[], Any]) -> Any:
    """Call it in a thread of its own."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join()
    return result[0]


def hand_offs(pair: tuple[str, str], across: bool, rounds: int, turns: int) -> dict[str, Any]:
    """Time hand-offs whose producer is still computing; the others are counted apart."""
    import dpnp

    import dlexchange as dx

    p, c = queue(pair[0]), queue(pair[1])
    walls, cpus, computing = [], [], []
    finished = wrong = 0

    def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
        wall, cpu = time.perf_counter(), time.thread_time()
        result = function()
        return result, time.perf_counter() - wall, time.thread_time() - cpu

    for turn in range(turns + 1):
        x = begin(p, rounds)
        started = time.perf_counter()
        t, *made = timed(lambda x=x: dx.from_dlpack(x))
        call = lambda t=t: timed(lambda: dx.convert(t, "dpnp", stream=c))  # noqa: E731
        y, *taken = in_thread(call) if across else call()
        pending = not t.ready_event.query()
        p.wait()
        computing.append(time.perf_counter() - started)
        wrong += not bool((dpnp.asnumpy(y) == 7).all())
        t.close()
        if turn == 0:
            continue  # compiles, and fills pools
        if pending:
            walls.append((made[0] + taken[0]) * 1e3)
            cpus.append((made[1] + taken[1]) * 1e3)
        else:
            finished += 1
    is_short = bool(walls) and max(min(walls), statistics.median(cpus)) < LIMIT_MS
    return {
        "queues": " -> ".join(pair),
        "threads": 2 if across else 1,
        "cpu_ms": statistics.median(cpus) if cpus else None,
        "wall_min_ms": min(walls, default=None),
        "wall_median_ms": statistics.median(walls) if walls else None,
        "computing_ms": statistics.median(computing) * 1e3,
        "pending": len(walls),
        "finished": finished,
        "wrong": wrong,
        "verdict": "met" if is_short and wrong == 0 else "missed",
    }


def unordered(pair: tuple[str, str], rounds: int, tries: int) -> dict[str, Any]:
    """Count wrong values where the caller vouches for data that is still computed."""
    import dpnp

    import dlexchange as dx

    p, c = queue(pair[0]), queue(pair[1])
    wrong = 0
    for _ in range(tries):
        with dx.from_dlpack(begin(p, rounds), stream=-1) as t:
            wrong += not bool((dpnp.asnumpy(dx.convert(t, "dpnp", stream=c)) == 7).all())
        p.wait()
    return {"queues": " -> ".join(pair), "tries": tries, "wrong": wrong}


def flat(kind: str, turns: int) -> dict[str, Any]:
    """Hand one array over `turns` times; resident memory before and after."""
    import dpnp

    import dlexchange as dx
    from dlexchange.testing import drain

    p, c = queue(kind), queue(kind)
    x = dpnp.full(1 << 12, 1.0, dtype="float32", sycl_queue=p)

    def some(n: int) -> int:
        for i in range(n):
            dx.convert(x, "dpnp", stream=c)
            if i % 100 == 0:
                drain()
        p.wait()
        c.wait()
        drain()
        gc.collect()
        return resident_bytes()

    before = some(2000)
    started = time.perf_counter()
    growth = some(turns) - before
    us = (time.perf_counter() - started) / turns * 1e6
    live = int(dx.stats().live)
    return {
        "queues": kind,
        "turns": turns,
        "us_each": us,
        "growth_bytes": growth,
        "live": live,
        "verdict": "met" if growth < LIMIT_BYTES and live == 0 else "missed",
    }


def _shown(lines: list[dict[str, Any]]) -> str:
    def cell(value: Any) -> str:
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    return report.table(tuple(lines[0]), ([cell(v) for v in line.values()] for line in lines))


def main() -> int:
    """Run all; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sycl", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="a smoke run")
    parser.add_argument("--json", type=Path, help="write the result here")
    options = parser.parse_args()
    import dlexchange as dx

    if "dpnp" not in [info.name for info in dx.frameworks()]:
        print("absent: dpnp is not installed (pip install 'dlexchange[sycl]')")
        return 0
    import dpctl

    rounds = calibrate()
    turns, tries, many = (3, 5, 1000) if options.fast else (20, 100, 10_000)
    pairs = list(itertools.product(KINDS, repeat=2))
    document = {
        "suite": "sycl",
        "environment": versions.describe(),
        "device": dpctl.SyclDevice().name,
        "limits": {"hand_off_ms": LIMIT_MS, "computing_ms": LONG_MS, "growth_bytes": LIMIT_BYTES},
        "hand_offs": [hand_offs(p, across, rounds, turns) for across in (0, 1) for p in pairs],
        "unordered": [unordered(p, rounds, tries) for p in pairs],
        "memory": [flat(kind, many) for kind in KINDS],
    }
    print(report.environment(document))
    print(f"\nSYCL device: {document['device']}\n")
    for part in ("hand_offs", "unordered", "memory"):
        print(f"{_shown(document[part])}\n")
    path = options.json or (None if options.fast else report.RESULTS / "sycl.json")
    if path is not None:
        report.write(document, path)
        print(f"written: {path}")
    lines = document["hand_offs"] + document["memory"]
    missed = any(line["verdict"] == "missed" for line in lines)
    return int(missed or not all(line["wrong"] for line in document["unordered"]))


if __name__ == "__main__":
    sys.exit(main())
