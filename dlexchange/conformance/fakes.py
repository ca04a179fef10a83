"""Fake producers: host tensors whose every field, answer and deleter can be wrong."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Literal

from . import _probe
from .looking import DTYPES, encode, item_size

__all__ = [
    "FakeProducer",
    "HostMemory",
    "OldProducer",
    "ProducerWithoutCopy",
    "TableHandler",
    "tabled",
]

Speaks = Literal["both", "legacy", "versioned"]


class HostMemory:
    """Zeroed host memory with a page's alignment, plus what is asked for on top."""

    def __init__(self, nbytes: int, misalign: int = 0) -> None:
        self._bytes = ctypes.create_string_buffer(nbytes + 4096 + misalign)
        base = ctypes.addressof(self._bytes)
        self.address = (base + 4095) // 4096 * 4096 + misalign
        self.nbytes = nbytes

    def fill(self, content: bytes, at: int = 0) -> None:
        """Write bytes."""
        ctypes.memmove(self.address + at, content, len(content))

    def read(self) -> bytes:
        """All bytes."""
        return ctypes.string_at(self.address, self.nbytes)


class FakeProducer:
    """A producer that records what it is asked and counts what happens to its tensors.

    Parameters
    ----------
    values : sequence of numbers
        Content of the memory, element after element.
    shape, strides : tuple of int
        As published; strides None is NULL, ``...`` is C-contiguous.
    dtype : str or triple
        A name of `DTYPES`, or the raw (code, bits, lanes).
    speaks : str
        "both": versioned when asked for major version 1, else legacy; "legacy" and
        "versioned": that, whatever is asked.
    misalign : int
        Bytes by which the memory is off a page boundary.
    memory : callable
        Allocates: ``memory(nbytes, misalign)``.
    fields : keywords of ``_probe.Fake``
        Whatever else shall be in the struct.
    """

    def __init__(
        self,
        values: Sequence[float] = range(6),
        shape: tuple[int, ...] = (6,),
        dtype: str | tuple[int, int, int] = "float32",
        *,
        strides: Any = ...,
        speaks: Speaks = "both",
        misalign: int = 0,
        before: Callable[[dict[str, Any]], None] | None = None,
        memory: Callable[[int, int], HostMemory] = HostMemory,
        device_answer: Any = None,
        **fields: Any,
    ) -> None:
        named = dtype if isinstance(dtype, str) else "float32"
        content = b"".join(encode(v, named) for v in values)
        self.memory = memory(len(content), misalign)
        self.memory.fill(content)
        self.content = content
        self.item = item_size(named)
        self.device = fields.setdefault("device", (1, 0))
        self._device_answer = device_answer if device_answer is not None else self.device
        fields.setdefault("data", self.memory.address)
        fields.setdefault("dtype", DTYPES[dtype] if isinstance(dtype, str) else dtype)
        self._fields = dict(fields, shape=shape, strides=contiguous(shape, strides))
        self._speaks = speaks
        self._before = before
        self.asked: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.fakes: list[_probe.Fake] = []
        self.capsules: list[Any] = []
        self.keep_capsules = False
        self.borrowed: list[_probe.Fake] = []

    def __dlpack_device__(self) -> Any:
        self.calls.append("device")
        return self._device_answer

    def __dlpack__(self, **keywords: Any) -> Any:
        self.calls.append("dlpack")
        self.asked.append(keywords)
        if self._before is not None:
            self._before(keywords)
        if keywords.get("dl_device") not in (None, tuple(self.device)):
            raise BufferError(f"a fake is on {self.device} and nowhere else")
        return self.capsule(self._is_versioned(keywords.get("max_version")))

    def _is_versioned(self, max_version: tuple[int, int] | None) -> bool:
        if self._speaks == "legacy":
            return False
        if self._speaks == "versioned":
            return True
        return max_version is not None and max_version[0] >= 1

    def capsule(self, versioned: bool) -> Any:
        """A capsule as this producer makes them."""
        fake = _probe.Fake(versioned=versioned, owner=self.memory, **self._fields)
        self.fakes.append(fake)
        made = fake.capsule()
        if self.keep_capsules:
            self.capsules.append(made)
        return made

    @property
    def exports(self) -> int:
        """How many tensors have been given out."""
        return len(self.fakes)

    @property
    def deleted(self) -> int:
        """Calls of all deleters so far."""
        return sum(fake.deleted for fake in self.fakes)

    @property
    def is_released(self) -> bool:
        """Whether every tensor given out was released exactly once."""
        return all(fake.deleted == 1 for fake in self.fakes)

    @property
    def untouched(self) -> bool:
        """Whether the memory still holds what it began with."""
        return self.memory.read() == self.content


class OldProducer(FakeProducer):
    """A producer from before max_version: any other keyword than stream is a TypeError."""

    def __dlpack__(self, *, stream: Any = None) -> Any:  # type: ignore[override]
        return super().__dlpack__(stream=stream)


class ProducerWithoutCopy(FakeProducer):
    """A producer that knows max_version, but neither dl_device nor copy."""

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None) -> Any:  # type: ignore[override]
        return super().__dlpack__(stream=stream, max_version=max_version)


def contiguous(shape: tuple[int, ...], strides: Any) -> tuple[int, ...] | None:
    """Strides in elements: as given, or those of a C-contiguous array for ``...``."""
    if strides is not ...:
        return strides  # type: ignore[no-any-return]
    steps = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        steps[i] = steps[i + 1] * max(shape[i + 1], 1)
    return tuple(steps)


class TableHandler:
    """Answers the functions of an exchange API table for fakes that carry one."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.stream = 0
        self.before: Callable[[], None] = lambda: None

    def from_py(self, x: FakeProducer) -> int:
        """A managed tensor that the caller owns."""
        self.calls.append("from_py")
        self.before()
        fake = _probe.Fake(versioned=True, owner=x.memory, **x._fields)
        x.fakes.append(fake)
        return fake.address

    def dltensor(self, x: FakeProducer) -> int:
        """The address of a DLTensor that is copied."""
        self.calls.append("dltensor")
        self.before()
        fake = _probe.Fake(versioned=True, owner=x.memory, **x._fields)
        x.borrowed.append(fake)
        return fake.address + 32

    def work_stream(self, _device_type: int, _device_id: int) -> int:
        """The stream that the fake claims to work on."""
        self.calls.append("work_stream")
        return self.stream

    def to_py(self, _managed: int) -> Any:
        """Refuses: nothing is ever given to a fake."""
        raise BufferError("a fake takes nothing")

    def allocate(self, _prototype: int, context: int, set_error: int) -> tuple[int, int]:
        """Refuses, as an allocator does."""
        _probe.call_set_error(set_error, context, "MemoryError", "a fake allocates nothing")
        return -1, 0


def tabled(
    major: int = 1, minor: int = 3, *, prev: int | None = None, leave_out: int = 0
) -> tuple[type[FakeProducer], TableHandler]:
    """A class of fakes whose type carries an exchange API table, and what answers it.

    One table answers at a time: the functions of a table are given nothing to tell them
    apart by.
    """
    handler = TableHandler()
    _probe.set_handler(handler)
    table = _probe.make_table(major, minor, prev, leave_out)

    class Tabled(FakeProducer):
        __dlpack_c_exchange_api__ = _probe.table_capsule(table)

    return Tabled, handler
