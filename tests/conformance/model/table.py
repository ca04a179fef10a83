"""The model's exchange API table, and how it consumes the tables of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlexchange.conformance import _probe
from dlexchange.conformance.checks.exchange_api import ATTRIBUTE, Table, read_table
from dlexchange.conformance.fakes import HostMemory, contiguous
from dlexchange.conformance.looking import DTYPES, read_dims, read_managed, read_tensor

from .array import Array, leaked
from .consumer import Owner, array_of, check_struct, check_version


class Handler:
    """Answers the functions of the model's table."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.borrowed: list[Any] = []

    def from_py(self, x: Array) -> Any:
        fault = self.model.fault
        if x.odd and fault != "api.same-restrictions":
            if fault == "api.zero-or-minus-one":
                return -1, 0
            kind = ValueError if fault == "api.buffer-error" else BufferError
            raise kind(f"an array that is {x.odd} can not be exported")
        fields = dict(x.fields(), deleter="right")
        if fault == "api.no-synchronisation":
            x._order({})
        if fault == "api.struct-keeps-rules":
            fields["strides"] = None
        fake = _probe.Fake(versioned=True, **fields)
        return fake.address

    def dltensor(self, x: Array) -> int:
        fake = _probe.Fake(versioned=True, **x.fields())
        self.borrowed = [fake]
        if self.model.fault == "api.dltensor-borrowed":
            leaked.append(x)
        return fake.address + 32

    def to_py(self, address: int) -> Any:
        fault = self.model.fault
        managed = read_managed(address, True)
        if fault == "api.errors-are-python" and managed.dtype[0] == 200:
            return object()
        try:
            check_version(self.model, managed)
            dtype = check_struct(self.model, managed, by_table=True)
            array = array_of(self.model, managed, None, dtype)
        except Exception:
            if fault == "api.failed-to-py-frees-once-at-most":
                for _ in range(2):
                    _probe.call_deleter(address, True, "released")
            raise
        array.owner = Owner(self.model, managed, by_table=True)
        if fault == "api.to-py-steals":
            _probe.call_deleter(address, True, "released")
        return array

    def work_stream(self, _device_type: int, _device_id: int) -> int:
        if self.model.fault == "api.work-stream":
            return 7
        return int(self.model.current_handle()) if _device_type == 2 else 0

    def allocate(self, prototype: int, context: int, set_error: int) -> Any:
        fault = self.model.fault
        asked = read_tensor(_probe.memory(prototype, 48))
        names = [name for name, triple in DTYPES.items() if triple == asked["dtype"]]
        if not names:
            for _ in range(2 if fault == "api.allocator-error-once" else 1):
                _probe.call_set_error(set_error, context, "BufferError", "an unknown dtype")
            return -1, 0
        if fault == "api.allocator-without-gil" and self.on_foreign_thread():
            return -1, 0
        shape = read_dims(asked["shape_at"], asked["ndim"])
        memory = HostMemory(4096)
        fake = _probe.Fake(
            versioned=True,
            data=memory.address,
            dtype=asked["dtype"],
            device=asked["device"],
            shape=shape,
            strides=None if fault == "api.allocator" else contiguous(shape, ...),
            owner=memory,
        )
        return fake.address

    def on_foreign_thread(self) -> bool:
        import threading

        return threading.current_thread() is not threading.main_thread()


def make_table(fault: str) -> int:
    """The table of a model with a fault."""
    prev = None
    if fault == "api.prev-chain":
        prev = _probe.make_table(1, 9, None, 0)
    return _probe.make_table(1, 3, prev, 16 if fault == "api.functions-present" else 0)


class TableOnType:
    """A class attribute whose faults show when it is read."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.table = make_table(fault)

    def __get__(self, _instance: object, _owner: type) -> Any:
        if self.fault == "api.static":
            self.table = make_table(self.fault)
        name = "dlpack_api" if self.fault == "api.capsule" else "dlpack_exchange_api"
        return _probe.table_capsule(self.table, name)


def by_table(
    model: Any, x: Any, heard: Callable[[int], None] = lambda _stream: None
) -> Array | None:
    """An import through the table of x's type, or None where `__dlpack__` has to do it.

    `heard` is told the work stream.
    """
    fault = model.fault
    where = x if fault == "api.looked-up-on-type" else type(x)
    capsule = getattr(where, ATTRIBUTE, None)
    if capsule is None:
        return None
    table: Table = read_table(_probe.capsule_content(capsule)[0])
    while table.version[0] != 1 and fault != "api.major-checked":
        if not table.prev:
            return None
        table = read_table(table.prev)
    if not table.from_py:
        raise RuntimeError("called a function that is not there")
    status, address, error = _probe.call_from_py(table.from_py, x)
    if status != 0:
        if isinstance(error, BufferError) or fault == "api.error-not-swallowed":
            return None
        raise error if isinstance(error, BaseException) else RuntimeError(f"status {status}")
    managed = read_managed(address or 0, True)
    owner = Owner(model, managed, by_table=True)
    check_version(model, managed)
    heard(_probe.call_work_stream(table.work_stream, *managed.device)[1] or 0)
    return array_of(model, managed, owner, check_struct(model, managed, by_table=True))
