"""The subjects that ship with the suite: one file a framework, each with a `subject`."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable

__all__ = ["check_specs", "file_of", "shipped"]


def shipped() -> list[str]:
    """Names of the subjects that ship with the suite."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def file_of(name: str) -> str:
    """Name of the file in which a subject of this name is."""
    return name.replace("-", "_").replace(".", "_").replace("@", "_on_")


def check_specs(specs: Iterable[str]) -> None:
    """Look whether subjects without a module are among those that ship.

    Raises
    ------
    ValueError
        One is not.
    """
    for spec in specs:
        if ":" not in spec and file_of(spec) not in shipped():
            raise ValueError(
                f"no subject {spec!r}: write module:attribute, or one of {', '.join(shipped())}"
            )
