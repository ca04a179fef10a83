"""The mutation twin: remove one guarantee, and a test must fail.

A second extension is built with every guarantee removable by number; children run one small
test each on it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from .kill_list import KILLED_BY

TESTS = Path(__file__).parent.parent
CSRC = TESTS.parent / "csrc"
MUTANTS = {
    name: number
    for number, name in re.findall(
        r"^ +[XY]\((\d+), (\w+),", (CSRC / "mutant.h").read_text(), re.MULTILINE
    )
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the extension with DLX_MUTANTS, aside from the one under test."""
    cmake = shutil.which("cmake")
    assert cmake, "cmake is needed to build the twin (it is in the [test] extra)"
    where = tmp_path_factory.mktemp("twin")
    ninja = ["-G", "Ninja"] if shutil.which("ninja") else []
    options = [
        f"-DPython_EXECUTABLE={sys.executable}",
        "-DCMAKE_BUILD_TYPE=Debug",
        "-DCMAKE_C_FLAGS=-DDLX_MUTANTS -O1",
    ]
    for command in (
        [cmake, "-S", str(CSRC), "-B", str(where), *ninja, *options],
        [cmake, "--build", str(where), "--target", "_core", "--parallel", "2"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return next(where.glob("_core*"))


def run_twin(twin: Path, number: str, *tests: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "streams.twin"]  # noqa: RUF005
        + ["-p", "no:cacheprovider", *(str(TESTS / "streams" / test) for test in tests)],
        env={
            **os.environ,
            "PYTHONPATH": str(TESTS),
            "DLEXCHANGE_TWIN": str(twin),
            "DLEXCHANGE_MUTANT": number,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_mutant_is_on_the_list() -> None:
    assert set(KILLED_BY) == set(MUTANTS)


def test_twin_without_a_mutation_passes_every_test_of_the_list(twin: Path) -> None:
    done = run_twin(twin, "0", *sorted(set(KILLED_BY.values())))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def results(twin: Path) -> dict[str, Future[subprocess.CompletedProcess[str]]]:
    """Start one child for each mutant, a few at a time."""
    pool = ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2))
    return {
        name: pool.submit(run_twin, twin, MUTANTS[name], test) for name, test in KILLED_BY.items()
    }


@pytest.mark.parametrize("name", sorted(KILLED_BY))
def test_mutant_is_killed(
    results: dict[str, Future[subprocess.CompletedProcess[str]]], name: str
) -> None:
    done = results[name].result()
    # 1: tests failed. Anything else (nothing collected, a usage error) kills nothing. A
    # negative status is a crash of the mutant, which the test has provoked.
    assert done.returncode == 1 or done.returncode < 0, done.stdout + done.stderr
