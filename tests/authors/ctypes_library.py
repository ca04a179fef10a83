"""A worked author: memory of a C library called through ctypes; it never moves, so it is
described once."""

from __future__ import annotations

import ctypes
import math

import dlexchange as dx

_libc = ctypes.CDLL(None)
_libc.calloc.restype = ctypes.c_void_p
_libc.calloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]

TYPES = {
    "float32": ctypes.c_float,
    "float64": ctypes.c_double,
    "int32": ctypes.c_int32,
    "uint8": ctypes.c_uint8,
}


class Block:
    """Memory from calloc; it is freed with the last view or export."""

    def __init__(self, nbytes):
        self.address = _libc.calloc(max(nbytes, 1), 1)

    def __del__(self):
        _libc.free(self.address)


class Field(dx.Producer, fixed=True):
    """A row-major array in a Block."""

    def __init__(self, values, shape, dtype="float32"):
        self.shape, self.dtype = tuple(shape), dtype
        self.block = Block(math.prod(shape) * ctypes.sizeof(TYPES[dtype]))
        self.elements[:] = list(values)

    @property
    def elements(self):
        """The memory as a flat ctypes array."""
        return (TYPES[self.dtype] * math.prod(self.shape)).from_address(self.block.address)

    def __dlexchange__(self):
        return dx.Description(self.block.address, self.shape, self.dtype, owner=self.block)
