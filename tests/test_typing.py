"""The stub agrees with the extension, the code with its types, and users see types."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dlexchange._core as core

ROOT = Path(__file__).parent.parent
HERE = Path(__file__).parent / "typing"

pytestmark = pytest.mark.slow


def _mypy(*arguments: object, module: str = "mypy", path: str = "") -> str:
    pytest.importorskip("mypy", reason="absent: mypy is not installed")
    done = subprocess.run(
        [sys.executable, "-m", module, *[str(argument) for argument in arguments]],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_stub_describes_the_extension(tmp_path: Path) -> None:
    said = _mypy("--mypy-config-file", "pyproject.toml", "dlexchange._core", module="mypy.stubtest")
    assert "Success: no issues found in 1 module" in said, said


def test_the_stub_leaves_nothing_out() -> None:
    tree = ast.parse((ROOT / "dlexchange" / "_core.pyi").read_text())
    kinds = (ast.FunctionDef, ast.ClassDef)
    described = {node.name for node in tree.body if isinstance(node, kinds)}
    there = {name for name in vars(core) if not name.startswith("__")}
    assert there - described == set()
    assert len(there & described) >= 12


def test_the_package_is_strictly_typed() -> None:
    said = _mypy()
    found = re.search(r"Success: no issues found in (\d+) source files", said)
    assert found is not None, said
    assert int(found[1]) > 30


def test_users_see_types() -> None:
    file = HERE / "revealed.py"
    said = _mypy("--strict", "--config-file=", file, path=str(HERE / "stubs"))
    revealed = re.findall(r'revealed\.py:(\d+): note: Revealed type is "(.*)"', said)
    expected = {
        number: line.partition("# ")[2]
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if line.startswith("reveal_type")
    }
    assert len(expected) > 20
    assert {int(number): text for number, text in revealed} == expected, said
