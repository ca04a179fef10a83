"""What an object shows of its memory in other ways than DLPack, for `dlexchange.wrap`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .._core import Description, _buffer_address
from ..device import Device
from ..errors import ExchangeError
from . import cuda_array_interface


def describe_foreign(x: Any, stream: Any) -> Callable[[Any], Description]:
    """Find the way in which `x` shows its memory, best first.

    Raises
    ------
    TypeError
        It shows it in none.
    """
    if hasattr(x, "__cuda_array_interface__"):
        return lambda x: _by_cuda_array_interface(x, stream)
    if hasattr(x, "__array_interface__"):
        return _by_array_interface
    if all(hasattr(x, name) for name in ("data_ptr", "shape", "dtype")):
        return lambda x: _by_attributes(x, stream)
    try:
        memoryview(x).release()
    except TypeError:
        raise TypeError(
            f"{type(x).__name__} shows its memory in no way that dlexchange knows: pass "
            "dx.wrap(x, describe), a function that returns dx.Description(...)"
        ) from None
    return _by_buffer


def _by_cuda_array_interface(x: Any, stream: Any) -> Description:
    address, shape, strides, dtype, readonly, device, own = cuda_array_interface.read(x)
    pending = stream if stream is not None else own
    return Description(
        address,
        shape,
        dtype,
        strides=strides,
        device=(2, device),
        readonly=readonly,
        owner=x,
        stream=-1 if pending is None else pending,  # None: nothing is pending, by its rules
    )


def _by_array_interface(x: Any) -> Description:
    interface = x.__array_interface__
    name = type(x).__name__
    if interface.get("mask") is not None or interface.get("offset"):
        raise ExchangeError(f"{name}: a mask or an offset in __array_interface__ is not read")
    if not isinstance(interface.get("data"), tuple):
        raise ExchangeError(f"{name}: __array_interface__ gives no address")
    address, readonly = interface["data"]
    typestr = interface["typestr"]
    itemsize = int(typestr[2:]) if typestr[2:].isdigit() else 1  # else no dtype of ours
    return Description(
        address,
        tuple(interface["shape"]),
        typestr,
        strides=_in_elements(name, interface.get("strides"), itemsize),
        readonly=readonly,
        owner=x,
    )


def _by_attributes(x: Any, stream: Any) -> Description:
    """Read ``data_ptr``, ``shape``, ``dtype`` and what else torch's arrays have."""
    device = getattr(x, "device", None)
    strides = getattr(x, "stride", None)
    return Description(
        _called(x.data_ptr),
        tuple(x.shape),
        x.dtype,
        strides=tuple(strides()) if callable(strides) else None,
        device=Device.of("cpu" if device is None else str(device)),
        owner=x,
        stream=stream,
    )


def _by_buffer(x: Any) -> Description:
    view = memoryview(x)
    kind = _KINDS.get((view.format or "B").lstrip(_NATIVE))
    if kind is None:
        raise ExchangeError(f"DLPack has no name for elements of format {view.format!r}")
    return Description(
        _buffer_address(view) if view.nbytes else 0,
        view.shape or (),
        (kind, 8 * view.itemsize),
        strides=_in_elements("buffer", view.strides, view.itemsize),
        readonly=view.readonly,
        owner=view,
    )


_NATIVE = "@=<" if sys.byteorder == "little" else "@=>"
_KINDS = {
    **dict.fromkeys("bhilqn", 0),
    **dict.fromkeys("BHILQN", 1),
    **dict.fromkeys("efd", 2),
    **dict.fromkeys(("Zf", "Zd", "F", "D"), 5),
    "?": 6,
}


def _called(value: Any) -> Any:
    return value() if callable(value) else value


def _in_elements(name: str, strides: Any, itemsize: int) -> tuple[int, ...] | None:
    if strides is None:
        return None
    if any(step % itemsize for step in strides):
        raise ExchangeError(f"{name}: strides {strides} are not multiples of {itemsize} bytes")
    return tuple(step // itemsize for step in strides)
