"""The battery on each ground, in a process of its own: some runtimes clash in one."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GROUNDS = sorted(path.stem for path in (HERE / "grounds").glob("[a-z]*.py"))


def test_grounds_are_found() -> None:
    assert GROUNDS == ["cuda", "hip", "rehearsal", "sim", "sycl", "toy"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "ground",
    [pytest.param(name, marks=pytest.mark.gpu if name == "cuda" else ()) for name in GROUNDS],
)
def test_battery(ground: str) -> None:
    why = importlib.import_module(f"backends.grounds.{ground}").Ground.absent()
    if why:
        pytest.skip(f"absent: {why}")
    own = HERE / f"only_{ground}.py"
    files = [HERE / "battery.py", *([own] if own.exists() else [])]
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        env={**os.environ, "DLX_GROUND": ground, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout
    assert int(passed[1]) >= 20
