"""array-api-strict: numpy arrays behind the strictest reading of the array API."""

from __future__ import annotations

from typing import Any

from .fit import Needs

MODULE = "array_api_strict"
DISTRIBUTIONS = ("array-api-strict",)
NEEDS = Needs()


def make(tensor: Any, to: Any) -> Any:
    """Import through its from_dlpack, which keeps strides and read-only."""
    import array_api_strict

    return array_api_strict.from_dlpack(tensor)
