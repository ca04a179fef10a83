"""The mutation twin: remove one guarantee, and a test must fail.

A second extension is built with every guarantee removable by number; children run one small
test each on it. ``python tests/streams/mutants.py`` prints the table.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from . import mutants
from .mutants import KILLED_BY

MUTANTS = {mutant.name: mutant.number for mutant in mutants.mutants()}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mutants.build(tmp_path_factory.mktemp("twin"))


def test_every_mutant_is_on_the_list() -> None:
    assert len(MUTANTS) > 30
    assert set(KILLED_BY) == set(MUTANTS)


def test_table_is_printed_by_a_command() -> None:
    script = Path(mutants.__file__)
    done = subprocess.run(
        [sys.executable, str(script), "--list"], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert [line.split()[1].rstrip(":") for line in lines] == list(MUTANTS)


def test_a_mistyped_mutant_is_not_zero_survivors() -> None:
    command = [sys.executable, mutants.__file__, "pushh"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no mutant is called pushh" in done.stderr


def test_twin_without_a_mutation_passes_every_test_of_the_list(twin: Path) -> None:
    done = mutants.run(twin, "0", *sorted(set(KILLED_BY.values())))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def results(twin: Path) -> dict[str, Future[subprocess.CompletedProcess[str]]]:
    """Start one child for each mutant, a few at a time."""
    pool = ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2))
    return {
        name: pool.submit(mutants.run, twin, MUTANTS[name], test)
        for name, test in KILLED_BY.items()
    }


@pytest.mark.parametrize("name", sorted(KILLED_BY))
def test_mutant_is_killed(
    results: dict[str, Future[subprocess.CompletedProcess[str]]], name: str
) -> None:
    done = results[name].result()
    assert mutants.is_killed(done), done.stdout + done.stderr
