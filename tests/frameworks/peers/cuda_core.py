"""cuda.core: StridedMemoryView over host memory."""

from __future__ import annotations

import numpy as np
from cuda.core.utils import StridedMemoryView
from layouts import COMPLEX, FLOATS, INTEGERS, Peer

import dlexchange as dx

_DTYPES = ("bool", *INTEGERS, *FLOATS, *COMPLEX)


def _read(x: StridedMemoryView) -> np.ndarray:
    return np.from_dlpack(x) if x.dtype.name != "bfloat16" else _over_memory(x)


def _over_memory(x: StridedMemoryView) -> np.ndarray:
    """Read by address: cuda.core exports no bfloat16."""
    strides = None if x.strides is None else tuple(2 * step for step in x.strides)
    interface = {"data": (x.ptr, True), "shape": x.shape, "typestr": "<u2", "strides": strides}
    owner = type("Memory", (), {"__array_interface__": {**interface, "version": 3}})
    return np.asarray(owner()).view(x.dtype)


PEER = Peer(
    name="cuda_core",
    takes=(*_DTYPES, "bfloat16"),
    read=_read,
    address=lambda x: x.ptr,
    make=lambda array: StridedMemoryView.from_dlpack(array, -1),
    makes=_DTYPES,
)


def test_read_only_views_stay_read_only() -> None:
    array = np.arange(3.0)
    array.flags.writeable = False
    view = dx.convert(array, "cuda.core")
    assert view.readonly
    assert dx.from_dlpack(view).readonly
