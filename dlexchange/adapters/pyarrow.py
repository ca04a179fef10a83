"""pyarrow: Tensor for any shape, Array for one compact dimension."""

from __future__ import annotations

from typing import Any

from . import Route
from .fit import Needs

MODULE = "pyarrow"
DISTRIBUTIONS = ("pyarrow",)
NEEDS = Needs(layout="forward", alignment=0)
NOTES = ('convert(x, "pyarrow") makes a Tensor, convert(x, pyarrow.Array) an Array',)


def classify(cls: type) -> Route | None:
    """Say what to do with what pyarrow keeps in several pieces."""
    if cls.__name__ == "ChunkedArray":
        return Route(
            "refuse",
            "pyarrow",
            prepare="a pyarrow ChunkedArray is several blocks of memory: pass "
            "x.combine_chunks(), or exchange each chunk",
        )
    return None


def make(tensor: Any, to: Any) -> Any:
    """Import through its public from_dlpack."""
    import pyarrow

    if isinstance(to, type) and issubclass(to, pyarrow.Array):
        return pyarrow.Array.from_dlpack(tensor)
    return pyarrow.Tensor.from_dlpack(tensor)
