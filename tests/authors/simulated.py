"""The worked authors with memory on a (simulated) CUDA device and work pending on streams."""

from __future__ import annotations

import importlib
import math
import weakref

import dlexchange as dx

from .ctypes_library import Field


class Chart(dx.Producer):
    """An array on a device that remembers on which streams it is being written."""

    def __init__(self, sim, shape, fill, *, streams, dtype="float32"):
        self.memory = sim.array(shape, dtype, stream=streams[0], fill=fill)
        self.streams = list(streams)

    @classmethod
    def over(cls, memory, streams):
        """Show memory that is there."""
        made = cls.__new__(cls)
        made.memory, made.streams = memory, streams
        return made

    def __dlexchange__(self):
        return dx.Description(
            self.memory.data_ptr,
            self.memory.shape,
            self.memory.dtype,
            device=f"cuda:{self.memory.device}",
            owner=self.memory,
            stream=self.streams,
            allocation_stream=self.memory.stream,
        )


class DeviceField(Field):
    """A Field on a device: all its work is on one stream, so it too is described once."""

    def __init__(self, memory, streams):
        self.shape, self.dtype = memory.shape, memory.dtype
        self.block, self.streams = memory, streams

    def __dlexchange__(self):
        return dx.Description(
            self.block.data_ptr,
            self.shape,
            self.dtype,
            device=f"cuda:{self.block.device}",
            owner=self.block,
            stream=self.streams,
        )


def show(author, memory, streams):
    """Make an array of the worked author `author` over simulated memory."""
    if author == "pure_python":
        return Chart.over(memory, streams)
    if author == "ctypes_library":
        return DeviceField(memory, streams)
    module = importlib.import_module(f"{__package__}.{author}").module
    shape = memory.shape
    strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    if author == "cython_extension":
        device = f"cuda:{memory.device}"
        return module.Strip(
            memory.data_ptr, shape, strides, memory, device=device, stream=list(streams)
        )
    handles = tuple(stream.handle for stream in streams)
    device = ((2, memory.device),) if author == "c_extension" else (2, memory.device)
    return module.over(memory.data_ptr, shape, strides, *device, handles, memory, False)


class Desk:
    """What the conformance suite does with one author's arrays: it makes and writes them.

    All work on an array is ordered into its home stream, the one that it names.
    """

    def __init__(self, sim, author):
        self.framework, self.author = sim.framework("dlpack"), author
        self._shown = weakref.WeakValueDictionary()

    def make(self, values, shape, dtype):
        """Return an array full of the first of `values`, written on the current stream."""
        memory = self.framework.array(shape, dtype, fill=(values or [0])[0])
        array = show(self.author, memory, [memory.stream])
        self._shown[id(array)] = memory
        return array

    def memory(self, array):
        """Return the simulated array behind the author's."""
        return self._shown[id(array)]

    def fill(self, array, value, stream):
        """Write every element on `stream`."""
        memory = self.memory(array)
        self._join(memory, stream, lambda: memory.fill(value, stream=stream))

    def copy(self, array, stream):
        """Read every element on `stream`."""
        memory = self.memory(array)
        return self._join(memory, stream, lambda: memory.copy(stream=stream))

    def _join(self, memory, stream, work):
        apart = stream.handle != memory.stream.handle
        if apart:
            stream.wait(memory.stream.record())
        done = work()
        if apart:
            memory.stream.wait(stream.record())
        return done
