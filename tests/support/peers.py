"""torch, where it is installed: its wheels are not there for every Python that is tested.

A test that meets what is not installed raises ModuleNotFoundError, of which conftest.py
makes a skip that names it. Import what is here instead of the framework itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from typing import Any, NoReturn

__all__ = ["absent", "missing", "torch"]  # noqa: F822

_MAY_BE_ABSENT = ("torch",)


class _Absent:
    """Stands for a module that is not installed."""

    class Tensor:
        """Nothing is an instance of it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, attribute: str) -> NoReturn:
        raise missing(self.name)


def missing(name: str) -> ModuleNotFoundError:
    """What the import of a framework raises that is not there."""
    return ModuleNotFoundError(f"No module named {name!r}", name=name)


def absent(said: str | None) -> str | None:
    """Name the framework that is not installed, where an error is about one."""
    for name in _MAY_BE_ABSENT:
        if re.search(rf"No module named '{name}'", said or "") and not _is_here(name):
            return name
    return None


def _is_here(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def __getattr__(name: str) -> Any:
    """Import when asked for: most children of tests need no framework, and start sooner."""
    if name not in _MAY_BE_ABSENT:
        raise AttributeError(name)
    return importlib.import_module(name) if _is_here(name) else _Absent(name)
