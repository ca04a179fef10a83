"""numpy arrays of every dtype and layout that matters, and what a peer makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

#: Every dtype the battery hands over, by name.
DTYPES = {
    **{
        name: np.dtype(name)
        for name in (
            "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 "
            "float16 float32 float64 complex64 complex128"
        ).split()
    },
    **{
        name: np.dtype(getattr(ml_dtypes, name))
        for name in "bfloat16 float8_e4m3fn float8_e5m2 int4 float4_e2m1fn".split()
    },
}

#: Of fewer than eight bits, which ml_dtypes stores one a byte.
SMALL = ("int4", "float4_e2m1fn")

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "float32", "float64")
COMPLEX = ("complex64", "complex128")


class Peer(NamedTuple):
    """A framework as its own users see it."""

    name: str
    """What `convert` calls it."""
    takes: tuple[str, ...]
    """dtypes that must arrive; every other one must be refused with an ExchangeError."""
    read: Callable[[Any], Any]
    """Return a numpy array of the values, by the framework's own means."""
    address: Callable[[Any], int]
    """Return the address of element zero."""
    make: Callable[[Any], Any]
    """Make an array out of a numpy array, by the framework's own means."""
    makes: tuple[str, ...]
    """dtypes that `make` can have."""
    views: Callable[[Any], list[Any]] | None = None
    """Return views of a (3, 4) array of the framework or of numpy, by indexing."""
    refuses: tuple[str, ...] = ()
    """Layouts that the framework has no word for at all, such as "scalar"."""
    always_copies: bool = False
    """Whether every import is a copy."""
    keeps_read_only: bool = True
    """Whether its arrays cannot be written to where the memory is read-only, or ever."""


def fill(dtype: np.dtype[Any], count: int = 60, misaligned: bool = False) -> Any:
    """Return `count` small values at an address of 64 bytes, or at one byte beside it."""
    start = np.zeros(count * dtype.itemsize + 128, np.uint8)
    offset = -start.ctypes.data % 64 + misaligned
    array = start[offset : offset + count * dtype.itemsize].view(dtype)
    values = np.arange(count) % 2 if dtype.name in SMALL else np.arange(count)
    array[...] = values.astype(dtype)
    return array


def layouts(dtype: np.dtype[Any]) -> Iterator[tuple[str, Any]]:
    """Yield (name, array) for each layout."""
    line = fill(dtype)
    block = line.reshape(12, 5)
    read_only = fill(dtype).reshape(12, 5)
    read_only.flags.writeable = False
    yield "compact", line.reshape(3, 4, 5)
    yield "line", line
    yield "offset", line[7:17]
    yield "transposed", block.T
    yield "permuted", line.reshape(3, 4, 5).transpose(1, 2, 0)
    yield "stepped", line[::2]
    yield "columns", block[:, 1:3]
    yield "backwards", line[::-1]
    yield "broadcast", np.broadcast_to(line[:5], (4, 5))
    yield "scalar", line[3:4].reshape(())
    yield "empty", line[:0].reshape(0, 3)
    yield "odd ones", line[:6][None, ::2, None]
    yield "read-only", read_only
    if dtype.itemsize > 1:
        yield "misaligned", fill(dtype, misaligned=True)


def same_values(ours: Any, theirs: Any) -> bool:
    """Compare bit by bit where the dtypes are the same, else by value."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if ours.shape != theirs.shape:
        return False
    if ours.dtype == theirs.dtype:
        return bool(ours.tobytes() == theirs.tobytes())
    return bool((ours.astype(np.complex128) == theirs.astype(np.complex128)).all())
