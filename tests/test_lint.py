"""Format, lint and symbols: what a machine can say about the code."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dlexchange._core as core

ROOT = Path(__file__).parent.parent


def _run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _tool(name: str) -> str:
    """Find a tool beside the interpreter, or on the path."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"absent: {name} is not installed")
    return found


def test_ruff_finds_nothing() -> None:
    done = _run(_tool("ruff"), "check", "--no-cache", ".")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No Python files found" not in done.stderr


def test_python_is_formatted() -> None:
    done = _run(_tool("ruff"), "format", "--check", "--no-cache", ".")
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-4]) > 30, done.stdout


def test_c_is_formatted() -> None:
    clang_format = _tool("clang-format")
    folders = (ROOT / "csrc", ROOT / "dlexchange" / "include")
    files = sorted(path for folder in folders for path in folder.rglob("*.[ch]"))
    assert len(files) > 30
    names = [str(path.relative_to(ROOT)) for path in files]
    said = _run(clang_format, "--dry-run", "-Werror", *names).stderr
    wrong = {line.split(":")[0] for line in said.splitlines() if ": error: " in line}
    assert wrong == set(), "run clang-format -i on these"


def test_the_extension_exports_one_symbol() -> None:
    done = _run(_tool("nm"), "-D", "--defined-only", core.__file__)
    assert done.returncode == 0, done.stderr
    symbols = {line.split()[-1] for line in done.stdout.splitlines()}
    linker = {"_init", "_fini", "__bss_start", "_edata", "_end"}
    assert {name for name in symbols if not name.startswith("__asan_")} - linker == {"PyInit__core"}


def test_the_extension_links_no_driver() -> None:
    done = _run(_tool("readelf"), "-d", core.__file__)
    assert done.returncode == 0, done.stderr
    needed = [
        line.split("[")[1].rstrip("]") for line in done.stdout.splitlines() if "NEEDED" in line
    ]
    assert needed
    assert not [name for name in needed if any(d in name for d in ("cuda", "hip", "sycl", "torch"))]
