"""What is installed: the report behind `dlexchange.frameworks()`."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FrameworkInfo", "frameworks"]


class FrameworkInfo(NamedTuple):
    """One framework on this machine."""

    name: str
    version: str


def frameworks() -> tuple[FrameworkInfo, ...]:
    """Placeholder."""
    return ()
