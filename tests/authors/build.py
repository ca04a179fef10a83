"""Build and load the worked authors that are compiled, with the headers and a compiler alone."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import dlexchange as dx

HERE = Path(__file__).resolve().parent
INCLUDES = [f"-I{dx.get_include()}", f"-I{sysconfig.get_path('include')}"]
STRICT = ["-Wall", "-Wextra", "-Werror"]


def compiler(language: str) -> str:
    """Return the C ("c") or C++ ("c++") compiler; the tests need both."""
    found = next(
        filter(None, map(shutil.which, {"c": ("cc", "gcc"), "c++": ("c++", "g++")}[language])), None
    )
    if found is None:
        raise RuntimeError(f"the tests need a compiler for {language}")
    return found


def extension(name: str, sources: Sequence[Path], flags: Sequence[str]) -> ModuleType:
    """Build the module `name` unless it is there already, and import it."""
    language = "c" if all(source.suffix == ".c" for source in sources) else "c++"
    command = [
        compiler(language),
        "-O2",
        "-fPIC",
        "-shared",
        "-fvisibility=hidden",
        *flags,
        *INCLUDES,
    ]
    headers = sorted(Path(dx.get_include()).rglob("*.h"))
    content = b"".join(path.read_bytes() for path in [*sources, *headers])
    key = hashlib.sha256(content + repr(command).encode()).hexdigest()[:20]
    target = HERE / "__pycache__" / f"{name}-{key}.so"
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / "module.so"
            subprocess.run([*command, *map(str, sources), "-o", str(made)], check=True)
            made.replace(target)  # whole or not at all: other test processes look too
    loader = importlib.machinery.ExtensionFileLoader(name, str(target))
    spec = importlib.util.spec_from_file_location(name, target, loader=loader)
    assert spec is not None
    sys.modules.pop(name, None)  # else a copy of this one is written over another of the name
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
