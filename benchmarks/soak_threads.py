"""Eight threads, 100 000 hand-offs each, on the simulated CUDA driver: what must hold, held.

The body is the one of tests/streams; here it runs ten times as long, in pieces, so that what
grows can be seen to grow. No time is taken: a simulated driver has none.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import dlexchange as dx
from benchmarks import report, versions
from dlexchange.testing import simulated_cuda

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from streams.soak import CONTEXTS, THREADS, soak

HAND_OFFS, PIECES = 100_000, 10
SEED, WINDOW = 11, 256
LIMIT_KILOBYTES = 16 * 1024


def run(hand_offs: int) -> dict[str, Any]:
    """Run `hand_offs` in each thread; returns what was seen and a verdict a line."""
    before = dx.stats()
    with simulated_cuda(policy="random", seed=SEED, window=WINDOW, reuse=True) as sim:
        pieces = [soak(sim, hand_offs // PIECES) for _ in range(PIECES)]
        findings = [str(finding) for finding in sim.findings]
    now = dx.stats()
    events = pieces[-1].events - before.events_created
    allowed = max(piece.events_allowed for piece in pieces)
    first, last = pieces[0].resident_kilobytes, pieces[-1].resident_kilobytes
    lines = [
        ("races and other findings", len(findings), 0),
        ("events in existence", events, allowed),
        ("growth of memory, KiB", last - first, LIMIT_KILOBYTES),
        ("alive, parked or held", now.live - before.live + now.parked + now.held, 0),
        ("leaked", now.leaked - before.leaked, 0),
    ]
    return {
        "threads": THREADS,
        "contexts": CONTEXTS,
        "hand_offs": sum(piece.hand_offs for piece in pieces),
        "schedule": f"random, seed {SEED}, window {WINDOW}, freed memory handed out again",
        "findings": findings,
        "resident_kilobytes": [piece.resident_kilobytes for piece in pieces],
        "lines": [
            {
                "what": what,
                "seen": seen,
                "at_most": most,
                "verdict": "met" if seen <= most else "missed",
            }
            for what, seen, most in lines
        ],
    }


def main(*, fast: bool, path: Path | None) -> int:
    """Soak, print the table, write it; 1 if a line is missed."""
    found = run(HAND_OFFS // 100 if fast else HAND_OFFS)
    document = {"suite": "soak-threads", "driver": "simulated CUDA driver"}
    document |= {"environment": versions.describe(), **found}
    print(report.environment(document))
    print(
        f"{found['hand_offs']} hand-offs of {THREADS} threads on the simulated CUDA driver "
        f"({found['schedule']})"
    )
    head = ("", "seen", "at most", "verdict")
    print(report.table(head, (tuple(line.values()) for line in found["lines"])))
    if path is not None:
        report.write(document, path)
        print(f"written: {path}")
    return int(any(line["verdict"] != "met" for line in found["lines"]))
