"""The toy device of an outside package, registered."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from dlexchange import backends
from dlexchange.stream import as_stream
from dlexchange.testing import drain

from .. import grounds, toy
from . import N


class Latch:
    def __init__(self, stream: toy.Stream) -> None:
        self.device = stream.device
        self.is_open = False
        stream.submit(lambda: self.is_open)

    def open(self) -> None:
        self.is_open = True
        self.device.run()


class Ground(grounds.Ground):
    name = "toy"
    kinds = ("own", "default")
    single = ("default",)

    @staticmethod
    def absent() -> str:
        return ""

    def open(self) -> None:
        self.toy = toy.register()
        self.device = self.toy.devices[0]

    def close(self) -> None:
        drain()
        backends.unregister(toy.DEVICE_TYPE)

    def stream(self, kind: str) -> toy.Stream:
        return self.device.default if kind == "default" else self.device.stream()

    def named(self, stream: Any) -> Any:
        return as_stream(stream)

    def current(self, stream: Any) -> AbstractContextManager[Any]:
        return nullcontext()  # an array belongs to its stream

    def array(self, stream: toy.Stream, value: int) -> toy.Array:
        array = toy.Array.full(N, value, stream)
        array.tolist()
        return array

    def latch(self, stream: toy.Stream) -> Latch:
        return Latch(stream)

    def fill(self, array: toy.Array, value: int, stream: toy.Stream) -> None:
        array.fill(value)

    def take(self, x: Any, stream: toy.Stream) -> toy.Array:
        return toy.Array.of(x, stream)

    def double(self, array: toy.Array, stream: toy.Stream) -> toy.Array:
        return array.double()

    def read(self, array: toy.Array, stream: toy.Stream) -> list[int]:
        return array.tolist()

    def bad_streams(self) -> list[tuple[Any, str]]:
        closed = self.device.stream()
        closed.is_closed = True
        return [
            (self.toy.devices[1].stream(), "is a stream of toy:1, but the memory is on toy:0"),
            (closed, "this toy stream is closed"),
            (7, "names no stream"),
        ]
