"""awkward: has no ``__dlpack__``; regular arrays are read from their one buffer."""

from __future__ import annotations

from typing import Any

from ..errors import ExchangeError
from . import Route
from .fit import Needs

MODULE = "awkward"
DISTRIBUTIONS = ("awkward",)
NEEDS = Needs()
NOTES = ("arrays of one regular buffer are shared; ragged ones, options and records are refused",)


def classify(cls: type) -> Route | None:
    """Read ak.Array; its layouts and records are not tensors."""
    import awkward

    if issubclass(cls, awkward.Array):
        return Route("prepare", "awkward", prepare=_buffer)
    return None


def make(tensor: Any, to: Any) -> Any:
    """Import through its from_dlpack."""
    import awkward

    return awkward.from_dlpack(tensor)


def _buffer(array: Any) -> Any:
    """Return the numpy, CuPy or jax array that holds all values of `array`, in its shape."""
    import awkward.contents as contents

    layout = array.layout
    shape: tuple[int, ...] = (len(layout),)
    while isinstance(layout, contents.RegularArray) and _is_plain(layout):
        shape += (layout.size,)
        layout = layout.content[: len(layout) * layout.size]
    if not isinstance(layout, contents.NumpyArray) or not _is_plain(layout):
        raise ExchangeError(
            f"awkward array of type {array.type}: its values are not one strided block; pass "
            "ak.to_numpy(x), or exchange its parts"
        )
    return layout.data.reshape(shape + layout.data.shape[1:])


def _is_plain(layout: Any) -> bool:
    return layout.parameter("__array__") is None and not layout.backend.name == "typetracer"
