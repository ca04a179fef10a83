"""The driver layer, tested in C: built here, once a kind of sanitizer, and run as a program.

Two programs in `tests/c/`: `lower_half` uses a fake table of driver calls, so that every order of
calls and every failure can be had; `on_simulated` uses the simulated CUDA driver, and looks at its
data.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parent / "csrc"
BUILDS = {"plain": "", "threads": "thread", "memory": "address,undefined"}
PROGRAMS = ["lower_half", "on_simulated"]
# Nothing is wrong with the data when these are gone.
UNSEEN_IN_DATA = {
    "quarantine": "an event may be recorded again after any failure that can be simulated",
    "notify_watch": "the simulated driver does call back when a context dies",
}
MUTANTS = re.findall(r"^ +X\((\d+), (\w+),", (CSRC / "mutant.h").read_text(), re.MULTILINE)

pytestmark = pytest.mark.slow

Build = Callable[[str], Path]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Build of one kind, made at first use; gives its directory."""
    root = tmp_path_factory.mktemp("lower_half")

    def run(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr

    def make(kind: str) -> Path:
        where = root / kind
        if not where.exists():
            cmake = shutil.which("cmake")
            assert cmake, "cmake is needed to build the C tests (it is in the [test] extra)"
            ninja = ["-G", "Ninja"] if shutil.which("ninja") else []
            sanitize = f"-DSANITIZE={BUILDS[kind]}"
            run(cmake, "-S", str(HERE / "c"), "-B", str(where), sanitize, *ninja)
            run(cmake, "--build", str(where), "--parallel", "2")
        return where

    return make


def run_tests(program: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # A sanitized process would sleep a second at its exit, for reports that may still come.
    environment = {"TSAN_OPTIONS": "atexit_sleep_ms=0", **environment}
    return subprocess.run(
        [program, *options],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("kind", BUILDS)
def test_c_tests_pass(build: Build, kind: str, program: str) -> None:
    done = run_tests(build(kind) / program)
    assert done.returncode == 0, done.stdout + done.stderr
    ran, failed = map(int, re.findall(r"(\d+) tests, (\d+) failed", done.stdout)[0])
    assert ran == done.stdout.count("pass test_") > 0
    assert failed == 0


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("number", "name"), MUTANTS, ids=[name for _, name in MUTANTS])
def test_removing_a_guarantee_is_noticed(
    build: Build, number: str, name: str, program: str
) -> None:
    done = run_tests(build("plain") / program, "-x", DLEXCHANGE_MUTANT=number)
    if program == "on_simulated" and name in UNSEEN_IN_DATA:
        assert done.returncode == 0, f"{name} is noticed after all: take it off the list"
    else:
        assert "FAIL test_" in done.stdout, f"no test of {program} notices that {name} is gone"


def test_mutants_are_numbered_without_gaps() -> None:
    assert [int(number) for number, _ in MUTANTS] == list(range(1, len(MUTANTS) + 1))


def test_mutants_are_compiled_out_of_what_is_shipped(build: Build) -> None:
    shipped = (build("plain") / "bench_push").read_bytes()
    assert b"dlx_push" in shipped
    assert b"DLEXCHANGE_MUTANT" not in shipped
    assert b"dlx_mutant" not in shipped


def test_push_benchmark_reports_all_three_kinds_of_push(build: Build) -> None:
    done = subprocess.run(
        [build("plain") / "bench_push", "3"], capture_output=True, text=True, timeout=60
    )
    report = json.loads(done.stdout)
    assert {"push_ns", "push_legacy_ns", "same_stream_ns"} <= report.keys()
