"""The layers of DESIGN's picture, as a table that imports and includes are held to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dlexchange"
CSRC = ROOT / "csrc"

#: The Python layers, lowest first. A module imports only from its own layer and below;
#: packages stand for all that is in them. `_core` and `adapters` ask each other.
LAYERS = (
    ("errors", "device", "tree"),
    ("_core", "adapters", "backends"),
    ("exchange", "stream", "ready", "producer"),
    ("dlexchange",),  # the public face, __init__
    ("testing",),
    ("doctor", "conformance", "pipeline"),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

#: What the upper half of the C code may know of the lower half.
BRIDGES = {"driver.h", "layout.h", "alloc.h", "ownership.h", "mutant.h"}


def _modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "include" not in path.parts)


def _part(name: str) -> str:
    """Return the first part below the package: "adapters" of dlexchange.adapters.fit."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path) -> Iterator[str]:
    """Yield the modules of this package that a file imports, wherever in it."""
    package = _name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "dlexchange")
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            if source.split(".")[0] == "dlexchange":
                yield from _targets(source, [a.name for a in node.names])


def _targets(source: str, names: list[str]) -> Iterator[str]:
    """Resolve ``from source import names``: a name may be a module of its own."""
    folder = ROOT.joinpath(*source.split("."))
    for name in names:
        is_module = (folder / f"{name}.py").exists() or (folder / name).is_dir()
        is_core = source == "dlexchange" and name == "_core"
        yield f"{source}.{name}" if is_module or is_core else source


def test_every_module_has_a_layer() -> None:
    unknown = {_part(_name(path)) for path in _modules()} - set(LEVEL)
    assert not unknown, f"put {unknown} into LAYERS"
    assert len(_modules()) > 20


def test_python_imports_point_down() -> None:
    seen = 0
    for path in _modules():
        here = _part(_name(path))
        for target in _imported(path):
            there = _part(target)
            seen += 1
            assert LEVEL[there] <= LEVEL[here], f"{_name(path)} imports {target}, from above it"
    assert seen > 50


def test_benchmarks_and_tests_are_not_imported() -> None:
    pattern = re.compile(r"^\s*(?:from|import)\s+(tests|benchmarks)\b", re.MULTILINE)
    assert pattern.search("import benchmarks.floor")
    for path in _modules():
        assert not pattern.search(path.read_text()), path


def _cmake_list(name: str) -> set[str]:
    text = (CSRC / "CMakeLists.txt").read_text()
    found = re.search(rf"set\({name}\s([^)]*)\)", text)
    assert found is not None, f"csrc/CMakeLists.txt has no {name}"
    return set(found[1].split())


def _includes(file: str) -> set[str]:
    """Return what a file of csrc includes, with what that includes in turn."""
    found: set[str] = set()
    waiting = [file]
    while waiting:
        path = CSRC / waiting.pop()
        if not path.exists():
            continue
        direct = set(re.findall(r'^\s*#\s*include\s+["<]([^">]+)[">]', path.read_text(), re.M))
        waiting += direct - found
        found |= direct
    return found


def test_every_c_file_is_in_one_half() -> None:
    upper, lower = _cmake_list("DLX_UPPER"), _cmake_list("DLX_LOWER")
    assert upper & lower == set()
    assert upper | lower == {path.name for path in CSRC.glob("*.c")}


def test_the_lower_half_knows_no_python() -> None:
    lower = _cmake_list("DLX_LOWER")
    assert len(lower) >= 2
    for file in lower:
        assert "Python.h" not in _includes(file), file
        code = re.sub(r"/\*.*?\*/", "", (CSRC / file).read_text(), flags=re.DOTALL)
        assert not re.search(r"\bPy[A-Z_]\w*\(", code), file


def test_the_upper_half_sees_drivers_through_their_header_only() -> None:
    lower = _cmake_list("DLX_LOWER")
    headers = {path.name for path in CSRC.glob("*.h")}
    upper = {name for name in headers if "Python.h" in _includes(name)}
    assert "state.h" in upper
    private = headers - upper - BRIDGES
    private &= set().union(*(_includes(file) for file in lower))
    assert private
    for file in _cmake_list("DLX_UPPER") | upper:
        direct = set(re.findall(r'^\s*#\s*include\s+"([^"]+)"', (CSRC / file).read_text(), re.M))
        assert not direct & private, f"{file} includes {direct & private}"


def test_the_simulated_driver_shares_nothing_with_the_core() -> None:
    sources = list((CSRC / "simcuda").glob("*.[ch]"))
    if not sources:
        pytest.skip("absent: no simulated driver in this tree")
    core = {path.name for path in CSRC.glob("*.h")}
    for path in sources:
        direct = set(re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(), re.M))
        shared = {name for name in direct & core if not path.with_name(name).exists()}
        assert not shared, f"{path.name} includes {shared}"
