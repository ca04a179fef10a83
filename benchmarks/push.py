"""The library's own cost of a push, on a table of driver calls that do nothing.

Built and run from tests/c/bench_push.c with the lower half as wheels carry it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import build

LIMIT_NS = 150
_SOURCES = Path(__file__).resolve().parents[1] / "tests" / "c"


def measure(rounds: int) -> dict[str, Any]:
    """Build, run, and judge by the median; ``"not run"`` with a reason where that fails."""
    try:
        done = subprocess.run(
            [_program(), str(rounds)], capture_output=True, text=True, check=True, timeout=300
        )
    except (OSError, subprocess.SubprocessError) as error:
        why = getattr(error, "stderr", None) or str(error)
        return {"limit_ns": LIMIT_NS, "verdict": "not run", "why": why[-2000:]}
    return judged(json.loads(done.stdout))


def judged(found: dict[str, Any]) -> dict[str, Any]:
    """The figures with their verdict: the dearer of a named and the legacy stream counts."""
    is_met = max(found["push_ns"], found["push_legacy_ns"]) <= LIMIT_NS
    return found | {"limit_ns": LIMIT_NS, "verdict": "met" if is_met else "missed"}


def _program() -> Path:
    cmake = shutil.which("cmake")
    if cmake is None:
        raise FileNotFoundError("cmake is not on the path")
    clone = hashlib.sha256(str(_SOURCES).encode()).hexdigest()[:16]
    folder = build.cache_folder() / f"push-{clone}"  # cmake binds a build to its sources' path
    for command in (
        [cmake, "-S", str(_SOURCES), "-B", str(folder)],
        [cmake, "--build", str(folder), "--target", "bench_push", "--parallel", "2"],
    ):
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return folder / "bench_push"
