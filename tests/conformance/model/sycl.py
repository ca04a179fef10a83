"""The model on a SYCL device, which is host memory that says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlexchange.conformance import _probe
from dlexchange.conformance.checks.sycl import ON_SUB_DEVICE
from dlexchange.conformance.fakes import HostMemory
from dlexchange.conformance.looking import encode
from dlexchange.conformance.sycl import Sycl

from .array import Array
from .subject import Model

DEVICE = (14, 0)


class Queue:
    """Stands for a queue."""

    latch: Latch | None = None


class Latch:
    """Stands for a latch, which nobody opens too early."""

    def open(self) -> None:
        """Nothing waits for it that could go on."""


class FakeSycl(Sycl):
    """Hands on a SYCL that is the host."""

    def __init__(self) -> None:
        self.foreign: set[int] = set()

    def memory(self, nbytes: int, misalign: int = 0) -> HostMemory:
        return HostMemory(nbytes, misalign)

    def foreign_memory(self, nbytes: int, misalign: int = 0) -> HostMemory:
        memory = self.memory(nbytes, misalign)
        self.foreign.add(memory.address)
        return memory

    def latch(self) -> Latch:
        return Latch()

    def order(self, latch: Any, queue: Any) -> None:
        queue.latch = latch

    def is_held(self, queue: Any) -> bool:
        return queue.latch is not None


class SyclArray(Array):
    """An array of a SYCL device."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.device = DEVICE

    def _check_stream(self, stream: Any) -> None:
        refused = self.model.fault == "sycl.stream-type"
        if stream is not None and (refused or not isinstance(stream, Queue)):
            raise TypeError("stream is a queue or None")

    def _check(self, asked: dict[str, Any]) -> None:
        host = asked.get("dl_device") == (1, 0)
        super()._check(dict(asked, dl_device=None) if host else asked)

    def _exported(self, asked: dict[str, Any]) -> Any:
        if asked.get("dl_device") != (1, 0):
            return super()._exported(asked)
        content = b"".join(encode(value, self.dtype) for value in self.values())
        memory = HostMemory(len(content))
        memory.fill(content)
        fields = dict(self.fields(copied=True), data=memory.address, owner=memory, device=(1, 0))
        return _probe.Fake(versioned=self._versioned(asked.get("max_version")), **fields).capsule()


class SyclModel(Model):
    """The model with arrays that say they are on a SYCL device."""

    ground = "SYCL"
    device = DEVICE
    also_imports = (DEVICE[0],)

    def __init__(self, fault: str = "") -> None:
        super().__init__(fault)
        self.hands = FakeSycl()
        attributes = {"__dlpack_c_exchange_api__": self.kind.__dict__["__dlpack_c_exchange_api__"]}
        self.kind = type("SyclModelArray", (SyclArray,), attributes)

    @property
    def sycl(self) -> FakeSycl:
        return self.hands

    def new_stream(self) -> Queue:
        return Queue()

    def from_dlpack(self, x: Any, **options: Any) -> Any:
        self.passes = Queue()
        array = super().from_dlpack(x, **options)
        if array.address in self.hands.foreign:
            if self.fault != "sycl.default-context-only@consumer":
                raise BufferError("memory of another context")
        array.queue = Queue() if self.fault == "stream.consumer-stream-current" else self.passes
        return array

    def queue_of(self, array: Any) -> Queue:
        queue: Queue = array.queue
        return queue

    def odd_arrays(self) -> dict[str, Callable[[], Any]]:
        def outside() -> Array:
            array = self.make(range(6), (6,), "float32")
            array.odd = ON_SUB_DEVICE
            return array

        return dict(super().odd_arrays(), **{ON_SUB_DEVICE: outside})
