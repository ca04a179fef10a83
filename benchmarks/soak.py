"""A million hand-offs of each pair: resident memory stays flat, nothing of ours stays live.

Each pair runs in a process of its own, so that one pair's heap can not hide another's and
a crash is a line of the table. The collector runs every 10 000 turns, as it would in a
program that allocates: jaxlib keeps what it drops until then.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import report, versions

TURNS = 1_000_000
WARM_UP = 50_000
TURNS_A_COLLECTION = 10_000
LIMIT_BYTES = 1 << 20
TIME_LIMIT_S = 600


def resident_bytes() -> int:
    """Resident memory of this process, from the kernel."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def soak_pair(producer: str, consumer: str, turns: int) -> dict[str, Any]:
    """Hand one source over `turns` times in this process."""
    import dlexchange as dx
    from benchmarks import cases, frameworks

    source = frameworks.make_source(producer, cases.KINDS[0].make)
    function, x = cases.ours(consumer), source.array
    _repeat(function, x, WARM_UP)
    live_before, before = _live(dx), resident_bytes()
    _repeat(function, x, turns)
    live_after, after = _live(dx), resident_bytes()
    growth = after - before
    return {
        "turns": turns,
        "rss_bytes": after,
        "growth_bytes": growth,
        "live_before": live_before,
        "live": live_after,
        "verdict": "met" if growth < LIMIT_BYTES and live_after == 0 else "missed",
    }


def _repeat(function: Any, x: Any, turns: int) -> None:
    for turn in range(turns):
        function(x)
        if turn % TURNS_A_COLLECTION == 0:
            gc.collect()
    gc.collect()


def _live(dx: Any) -> int:
    return int(dx.stats().live)


def main(*, fast: bool, path: Path | None) -> int:
    """Soak every pair of the target in children; 1 if any missed or died."""
    from benchmarks import target

    lines = []
    turns = TURNS // 100 if fast else TURNS
    for row in target.ROWS:
        line = {"pair": f"{row.producer} -> {row.consumer}"}
        line |= _in_child(row.producer, row.consumer, turns)
        lines.append(line)
        print(f"  {line['pair']}", file=sys.stderr, flush=True)
    document = {
        "suite": "soak",
        "limit_bytes": LIMIT_BYTES,
        "warm_up": WARM_UP,
        "environment": versions.describe(),
        "pairs": lines,
    }
    head = ("pair", "turns", "growth KiB", "live", "verdict")
    print(report.environment(document))
    print(report.table(head, map(_cells, lines)))
    if path is not None:
        report.write(document, path)
        print(f"written: {path}")
    return int(any(line["verdict"] != "met" for line in lines))


def _cells(line: dict[str, Any]) -> tuple[object, ...]:
    verdict = line["verdict"] if line["verdict"] == "met" else line["verdict"].upper()
    if "growth_bytes" not in line:
        return line["pair"], "-", "-", "-", verdict
    return line["pair"], line["turns"], line["growth_bytes"] // 1024, line["live"], verdict


def _in_child(producer: str, consumer: str, turns: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.soak", producer, consumer, str(turns)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT_S)
    except subprocess.TimeoutExpired:
        return {"verdict": f"not done in {TIME_LIMIT_S} s"}
    if done.returncode != 0:
        return {"verdict": f"exit {done.returncode}", "stderr": done.stderr[-2000:]}
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    print(json.dumps(soak_pair(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
