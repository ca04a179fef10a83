"""Run a subject in a process of its own: for crashes, forks and the interpreter's end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from . import peers

__all__ = ["dedent", "run"]

_TESTS = str(Path(__file__).parent.parent)


def run(code: str, *, timeout: float = 120, env: dict[str, str] | None = None) -> str:
    """Run `code` in a fresh interpreter; return its output, fail unless it exits with 0."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-c", dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "PYTHONPATH": _TESTS, **(env or {})},
    )
    absent = peers.absent(done.stderr)
    if done.returncode == 1 and absent is not None:
        raise peers.missing(absent)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr
