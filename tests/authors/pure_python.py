"""A worked author: an array class in pure Python, over memory of the array module."""

from __future__ import annotations

import array
import math

import dlexchange as dx

CODES = {"float32": "f", "float64": "d", "int8": "b", "uint8": "B", "int32": "i", "int64": "q"}


class Grid(dx.Producer):
    """Numbers in a grid; views share the memory."""

    def __init__(self, values, shape, dtype="float32"):
        self.memory = memoryview(array.array(CODES[dtype], values))  # it cannot be resized now
        self.shape, self.dtype, self.readonly = tuple(shape), dtype, False
        self.strides = tuple(math.prod(self.shape[i + 1 :]) for i in range(len(self.shape)))
        self.address = self.memory.obj.buffer_info()[0] if math.prod(self.shape) else 0

    def __dlexchange__(self):
        return dx.Description(
            self.address,
            self.shape,
            self.dtype,
            strides=self.strides,
            readonly=self.readonly,
            owner=self.memory,
        )

    def view(self, offset, shape, strides, *, readonly=False):
        made = Grid.__new__(Grid)
        made.__dict__.update(self.__dict__, shape=shape, strides=strides)
        made.address += offset * self.memory.itemsize
        made.readonly |= readonly
        return made
