"""Compile the small extensions of the benchmarks at run time, once per source text.

They are no part of the wheel: the floor is C, the nanobind peer C++. Built with the
headers of the running Python into a folder of the user's cache.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent
FLAGS = ("-O3", "-DNDEBUG", "-fvisibility=hidden")
C_FLAGS = ("-std=c11", "-D_GNU_SOURCE", *FLAGS, "-Wall", "-Wextra", "-Wconversion")
CXX_FLAGS = ("-std=c++17", *FLAGS)


def cache_folder() -> Path:
    """Where built extensions lie: ``$XDG_CACHE_HOME/dlexchange-benchmarks``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dlexchange-benchmarks"


def load_extension(
    name: str,
    sources: Sequence[Path],
    includes: Sequence[Path],
    *,
    depends: Sequence[Path] = (),
    stamp: str = "",
) -> ModuleType:
    """Build the extension ``name`` if its text, flags or `stamp` are new, and import it.

    Parameters
    ----------
    name : str
        Module name; the sources define ``PyInit_<name>``.
    sources : sequence of Path
        Compiled and linked in one step; the last suffix chooses the language.
    includes : sequence of Path
        Beside the headers of the running Python.
    depends : sequence of Path
        Headers whose text counts for the stamp.
    stamp : str
        Versions of foreign headers, so that an upgrade builds anew.
    """
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    built = _built(f"{name}{suffix}", sources, includes, depends, stamp)
    spec = importlib.util.spec_from_file_location(name, built)
    if spec is None or spec.loader is None:
        raise ImportError(f"{built} can not be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_library(source: Path) -> ctypes.CDLL:
    """Build one C file that knows no Python, if its text is new, and load it."""
    return ctypes.CDLL(str(_built(f"{source.stem}.so", [source])))


def _built(
    name: str,
    sources: Sequence[Path],
    includes: Sequence[Path] = (),
    depends: Sequence[Path] = (),
    stamp: str = "",
) -> Path:
    is_cxx = sources[-1].suffix == ".cpp"
    compiler = os.environ.get("CXX", "c++") if is_cxx else os.environ.get("CC", "cc")
    flags = CXX_FLAGS if is_cxx else C_FLAGS
    digest = hashlib.sha256(repr((sys.version, compiler, flags, stamp)).encode())
    for path in (*sources, *depends):
        digest.update(path.read_bytes())
    built = cache_folder() / digest.hexdigest()[:16] / name
    if not built.exists():
        _compile([compiler, *flags], sources, includes, built)
    return built


def _compile(
    command: list[str], sources: Sequence[Path], includes: Sequence[Path], built: Path
) -> None:
    built.parent.mkdir(parents=True, exist_ok=True)
    unfinished = built.with_name(f"{os.getpid()}-{built.name}")
    command += ["-fPIC", "-shared", f"-I{sysconfig.get_path('include')}"]
    command += [f"-I{path}" for path in includes]
    command += [str(path) for path in sources] + ["-o", str(unfinished)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise ImportError(f"{' '.join(command)}\n{done.stderr}")
    unfinished.replace(built)
