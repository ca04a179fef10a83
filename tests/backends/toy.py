"""A device type from outside: what its vendor's package would be, and how it is registered.

The toy's memory is host memory that says it is a kDLExtDev. Its streams are lists of work
that runs when somebody asks whether it has, and not before; that makes it asynchronous
and deterministic. Freed memory is overwritten.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

import dlexchange as dx
from dlexchange import backends

DEVICE_TYPE = 12
POISON = -7


class Event:
    """A mark in a stream."""

    def __init__(self) -> None:
        self.fired = False
        self.callbacks: list[Callable[..., object]] = []


class Stream:
    """Work in order; `device.run` runs what can run, of all streams."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.is_closed = False
        self.work: deque[Callable[[], bool]] = deque()

    def submit(self, work: Callable[[], object]) -> None:
        self.work.append(lambda: work() is not False)

    def record(self) -> Event:
        event = Event()

        def fire() -> None:
            event.fired = True
            for callback in event.callbacks:
                callback()
            event.callbacks.clear()

        self.submit(fire)
        return event

    def wait(self, event: Event) -> None:
        self.work.append(lambda: event.fired)


class Device:
    """One toy device."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.lock = threading.RLock()
        self.streams: list[Stream] = []
        self.default = self.stream()

    def stream(self) -> Stream:
        stream = Stream(self)
        self.streams.append(stream)
        return stream

    def run(self) -> None:
        with self.lock:
            progress = True
            while progress:
                progress = False
                for stream in self.streams:
                    while stream.work and stream.work[0]():
                        stream.work.popleft()
                        progress = True


class Array(dx.Producer):
    """An array of the toy: `Producer` speaks DLPack for it."""

    def __init__(self, memory: Any, stream: Stream, owner: Any = None) -> None:
        self.memory = memory
        self.stream = stream
        self.owner = owner

    @classmethod
    def full(cls, n: int, value: int, stream: Stream) -> Array:
        array = cls(np.full(n, -1, np.int32), stream)
        array.fill(value)
        return array

    @classmethod
    def of(cls, x: Any, stream: Stream) -> Array:
        """Take anybody's memory on this device, to be used on `stream`."""
        tensor = dx.consume(x, stream=stream)
        buffer = (np.ctypeslib.ctypes.c_int32 * tensor.shape[0]).from_address(tensor.data_ptr)
        return cls(np.frombuffer(buffer, np.int32), stream, owner=tensor)

    def __dlexchange__(self) -> dx.Description:
        return dx.Description(
            self.memory.ctypes.data,
            self.memory.shape,
            "int32",
            device=(DEVICE_TYPE, self.stream.device.number),
            stream=self.stream,
        )

    def fill(self, value: int) -> None:
        memory = self.memory
        self.stream.submit(lambda: memory.fill(value))

    def double(self) -> Array:
        """Return twice the values, computed on the array's stream, which keeps no memory."""
        result = Array(np.full(self.memory.shape, -1, np.int32), self.stream)
        source, target = self.memory, result.memory
        self.stream.submit(lambda: np.add(source, source, out=target))
        return result

    def tolist(self) -> list[int]:
        done = self.stream.record()
        self.stream.device.run()
        if not done.fired:
            raise RuntimeError("the stream is held: this would never end")
        return self.memory.tolist()

    def __del__(self) -> None:
        if self.owner is None:
            self.memory.fill(POISON)


class Toy:
    """The toy as dlexchange drives it."""

    device_type = DEVICE_TYPE
    name = "toy"

    def __init__(self, n: int = 2) -> None:
        self.devices = [Device(i) for i in range(n)]

    def device_of(self, stream: Any) -> int | None:
        if not isinstance(stream, Stream):
            return None
        if stream.is_closed:
            raise dx.StreamError("this toy stream is closed")
        return stream.device.number

    def default(self, device_id: int) -> Stream:
        return self.devices[device_id].default

    def create(self, device_id: int) -> Stream:
        return self.devices[device_id].stream()

    def record(self, stream: Stream) -> Event:
        return stream.record()

    def wait(self, stream: Stream, event: Event) -> None:
        stream.wait(event)

    def query(self, event: Event) -> bool:
        for device in self.devices:
            device.run()
        return event.fired

    def synchronize(self, event: Event) -> None:
        if not self.query(event):
            raise RuntimeError("the stream is held: this would never end")

    def notify(self, event: Event, done: Callable[..., object]) -> None:
        if self.query(event):
            done()
        else:
            event.callbacks.append(done)

    def stream_of(self, x: Any) -> Stream:
        return x.stream

    def copy_to_host(self, stream: Stream, address: int, destination: memoryview) -> None:
        source = (np.ctypeslib.ctypes.c_uint8 * len(destination)).from_address(address)
        stream.submit(lambda: destination.__setitem__(slice(None), bytes(source)))


def register() -> Toy:
    toy = Toy()
    backends.register(toy)
    return toy
