# cython: language_level=3
# A worked author: an array class in Cython, by the mixin; Cython knows its memory already.
import dlexchange as dx

from cpython.mem cimport PyMem_Free, PyMem_Malloc


cdef class Memory:
    """Floats; freed with the last export."""

    cdef float *data

    def __cinit__(self, list values):
        self.data = <float *>PyMem_Malloc(len(values) * sizeof(float) + 1)
        for i, value in enumerate(values):
            self.data[i] = value

    def __dealloc__(self):
        PyMem_Free(self.data)

    @property
    def address(self):
        return <size_t>self.data


class Strip(dx.Producer, fixed=True):
    """A view of Memory, or of what is at an address on a device."""

    def __init__(self, address, shape, strides, owner, readonly=False, device=None, stream=None):
        self.address = address
        self.fields = dict(
            shape=shape, dtype="float32", strides=strides, owner=owner,
            readonly=readonly, device=device, stream=stream,
        )

    def __dlexchange__(self):
        return dx.Description(self.address, **self.fields)


def strip(values, shape):
    memory = Memory(list(values))
    return Strip(memory.address, tuple(shape), None, memory)
