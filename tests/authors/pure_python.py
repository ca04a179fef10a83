"""A worked author: an array class in pure Python, over memory of the array module."""

from __future__ import annotations

import array
import math

import dlexchange as dx

CODES = {"float32": "f", "float64": "d", "int8": "b", "uint8": "B", "int32": "i", "int64": "q"}


class Grid(dx.Producer):
    """Numbers in a grid; views share the memory."""

    def __init__(self, values, shape, dtype="float32"):
        self.memory = array.array(CODES[dtype], values)
        self.shape, self.dtype = tuple(shape), dtype
        self.strides = tuple(math.prod(self.shape[i + 1 :]) for i in range(len(self.shape)))
        self.offset, self.readonly = 0, False

    def __dlexchange__(self):
        address = self.memory.buffer_info()[0] + self.offset * self.memory.itemsize
        return dx.Description(
            address if math.prod(self.shape) else 0,
            self.shape,
            self.dtype,
            strides=self.strides,
            readonly=self.readonly,
            owner=memoryview(self.memory),  # while it lives, the array cannot be resized
        )

    def view(self, offset, shape, strides, *, readonly=False):
        made = Grid.__new__(Grid)
        made.__dict__.update(self.__dict__, shape=shape, strides=strides)
        made.offset, made.readonly = self.offset + offset, self.readonly or readonly
        return made
