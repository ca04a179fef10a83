"""The C exchange API, from both sides."""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from typing import Any

from .. import _probe, asking
from ..asking import (
    MUST_IMPORT,
    NEWEST,
    Raised,
    ask,
    eventually,
    example,
    producer_snippet,
    try_import,
)
from ..engine import ON_HOST, checks
from ..fakes import FakeProducer, tabled
from ..looking import (
    DTYPES,
    Managed,
    gather,
    implausible,
    read_dims,
    read_managed,
    read_tensor,
)
from ..subject import Subject
from ..verdict import Failed, Untested

ATTRIBUTE = "__dlpack_c_exchange_api__"
NAME = "dlpack_exchange_api"
ALL_LEFT_OUT = 31


@dataclass(frozen=True)
class Table:
    """A DLPackExchangeAPI."""

    address: int
    version: tuple[int, int]
    prev: int
    allocator: int
    from_py: int
    to_py: int
    dltensor: int
    work_stream: int


def _capsule(x: Any) -> Any:
    capsule = getattr(type(x), ATTRIBUTE, None)
    if capsule is None:
        raise Untested("it offers no exchange API")
    return capsule


def table_of(x: Any) -> Table:
    """The table of the type of `x`.

    Raises
    ------
    Untested
        There is none, or it can not be read.
    """
    capsule = _capsule(x)
    named = _probe.capsule_name(capsule)
    if named is None or named[0] != NAME:
        raise Untested("see api.capsule")
    return read_table(_probe.capsule_content(capsule)[0])


def read_table(address: int) -> Table:
    """The table at an address."""
    try:
        content = struct.unpack("=IIQQQQQQ", _probe.memory(address, 56))
    except ValueError:
        raise Untested("the table can not be read: see api.capsule") from None
    return Table(address, content[:2], *content[2:])


def _working(x: Any) -> Table:
    """A table whose functions can be called."""
    table = table_of(x)
    if not all((table.allocator, table.from_py, table.to_py, table.work_stream)):
        raise Untested("see api.functions-present")
    return table


def _describe(table: Table, x: Any, ndim: int = 2) -> Managed:
    """What from_py_object gives for an array that can be exported."""
    status, address, error = _probe.call_from_py(table.from_py, x)
    if status != 0 or not address:
        raise Untested(
            f"from_py_object failed: status {status}, {error!r}: see api.zero-or-minus-one"
        )
    managed = read_managed(address, True)
    reason = implausible(managed, ndim)
    if reason:
        raise Untested(f"the struct can not be read ({reason}): see api.struct-keeps-rules")
    return managed


def _release(managed: Managed) -> None:
    if managed.deleter:
        _probe.call_deleter(managed.address, True, "here")


@checks("api.capsule", "producer")
def capsule(subject: Subject) -> None:
    found = _capsule(example(subject))
    named = _probe.capsule_name(found)
    if named is None or named[0] != NAME:
        raise Failed(f"a capsule named {NAME!r} on the type", repr(found))
    try:
        _probe.memory(_probe.capsule_content(found)[0], 56)
    except ValueError as error:
        raise Failed("a table behind the capsule", str(error)) from None


@checks("api.static", "producer")
def static(subject: Subject) -> None:
    addresses = set()
    for shape in ((2, 3), (4,)):
        for _ in range(2):
            addresses.add(table_of(example(subject, shape)))
            subject.settle()
    if len(addresses) > 1:
        raise Failed("one table for all instances and times", f"{len(addresses)} tables")


@checks("api.prev-chain", "producer")
def prev_chain(subject: Subject) -> None:
    table = table_of(example(subject))
    version, prev = table.version, table.prev
    for _ in range(8):
        if not prev:
            return
        try:
            older = struct.unpack("=IIQ", _probe.memory(prev, 16))
        except ValueError:
            raise Failed("prev_api NULL or an older table", f"unreadable {prev:#x}") from None
        if older[:2] >= version:
            raise Failed(f"a table older than {version}", f"version {older[:2]}")
        version, prev = older[:2], older[2]
    raise Failed("a chain that ends", "more than 8 tables")


@checks("api.functions-present", "producer")
def functions_present(subject: Subject) -> None:
    table = table_of(example(subject))
    missing = [
        name
        for name in ("allocator", "from_py", "to_py", "work_stream")
        if not getattr(table, name)
    ]
    if missing:
        raise Failed("every function but dltensor", f"NULL for {', '.join(missing)}")


@checks("api.zero-or-minus-one", "producer")
def zero_or_minus_one(subject: Subject) -> None:
    x = example(subject)
    table = _working(x)
    status, address, error = _probe.call_from_py(table.from_py, x)
    outcomes: list[tuple[str, int, object, object]] = [("from_py_object", status, address, error)]
    if address:
        _release(read_managed(address, True))
    if table.dltensor:
        outcomes.append(("dltensor", *_probe.call_dltensor(table.dltensor, x)))
    outcomes.append(("work_stream", *_probe.call_work_stream(table.work_stream, *subject.device)))
    for name, make in subject.odd_arrays().items():
        odd = make()
        if isinstance(odd, type(x)):
            status, address, error = _probe.call_from_py(table.from_py, odd)
            if address:
                _release(read_managed(address, True))
            outcomes.append((f"from_py_object of an array that is {name}", status, address, error))
    for what, status, _, error in outcomes:
        if status not in (0, -1) or (status == 0) != (error is None):
            raise Failed("0, or -1 with an exception", f"{status} with {error!r} from {what}")


@checks("api.errors-are-python", "producer")
def errors_are_python(subject: Subject) -> None:
    """A crash of this check is the failure."""
    x = example(subject)
    table = _working(x)
    fake = FakeProducer(shape=(2, 3), dtype=(200, 32, 1))
    made = _probe.Fake(versioned=True, owner=fake.memory, **fake._fields)
    status, _, error = _probe.call_to_py(table.to_py, made.address)
    if status == 0:
        raise Failed("a refusal of an unknown dtype by to_py_object", "an object")
    if error is None:
        raise Failed("a Python exception", f"status {status} without one")
    _probe.call_work_stream(table.work_stream, 99, 0)
    _probe.call_allocator(table.allocator, (200, 32, 1), (2, 3), subject.device, False)


@checks("api.buffer-error", "producer")
def buffer_error(subject: Subject) -> None:
    x = example(subject)
    table = _working(x)
    refused = 0
    for name, make in subject.odd_arrays().items():
        odd = make()
        if not isinstance(odd, type(x)):
            continue
        status, address, error = _probe.call_from_py(table.from_py, odd)
        if status == 0:
            _release(read_managed(address or 0, True))
            continue
        if error is None:
            continue  # see api.zero-or-minus-one
        refused += 1
        if not isinstance(error, BufferError):
            raise Failed(
                f"BufferError for an array that is {name}",
                repr(error)[:160],
                _snippet(
                    subject,
                    "try: f(x, C.byref(out))",
                    "except BufferError: pass",
                    "except Exception as e: raise AssertionError(f'{type(e).__name__}: {e}')",
                    x=subject.unexportable.get(name, ""),
                ),
            )
    if not refused:
        raise Untested("no array was refused")


def _snippet(subject: Subject, *lines: str, x: str = "") -> str:
    """Lines that make the table's from_py_object `f`; it raises the error it sets."""
    return producer_snippet(
        subject,
        "api = C.PYFUNCTYPE(C.c_void_p, C.py_object, C.c_char_p)"
        '(("PyCapsule_GetPointer", C.pythonapi))'
        f'(type(x).{ATTRIBUTE}, b"{NAME}")',
        "f = C.PYFUNCTYPE(C.c_int, C.py_object, C.c_void_p)"
        "(C.c_void_p.from_address(api + 24).value)",
        "out = C.c_void_p()",
        *lines,
        x=x,
        imports=("import ctypes as C",),
    )


@checks("api.same-restrictions", "producer", ON_HOST)
def same_restrictions(subject: Subject) -> None:
    x = example(subject)
    table = _working(x)
    compared = 0
    for name, make in subject.odd_arrays().items():
        odd = make()
        if not isinstance(odd, type(x)):
            continue
        compared += 1
        refused = isinstance(ask(subject, odd, max_version=NEWEST), Raised)
        status, address, _ = _probe.call_from_py(table.from_py, odd)
        if status == 0 and address:
            managed = read_managed(address, True)
            if refused and not _same(subject, odd, managed):
                raise Failed(
                    f"a refusal of an array that is {name}, as by __dlpack__",
                    "a managed tensor",
                    _snippet(
                        subject,
                        "try: x.__dlpack__()",
                        "except Exception: pass",
                        "else: raise SystemExit",
                        "assert f(x, C.byref(out)) != 0, 'the table exports it'",
                        x=subject.unexportable.get(name, ""),
                    ),
                )
            _release(managed)
    if not compared:
        raise Untested("it gives no array that __dlpack__ refuses")


def _same(subject: Subject, array: Any, managed: Managed) -> bool:
    """Whether an export that `__dlpack__` refuses shows the right values after all."""
    names = [name for name, triple in DTYPES.items() if triple == managed.dtype]
    try:
        shown: list[Any] = subject.values(array)
        return bool(names) and gather(managed, names[0]) == shown
    except Exception:
        return False


NOT_WRITTEN = "what was there before the call, and success"


@checks("api.work-stream", "producer", ON_HOST)
def work_stream_of_host(subject: Subject) -> None:
    table = _working(example(subject))
    status, stream, error = _probe.call_work_stream(table.work_stream, 1, 0)
    if status != 0 or stream:
        raise Failed(
            "NULL as work stream of the host",
            repr(error) if status else NOT_WRITTEN if stream == 0x5A5A5A5A else f"{stream:#x}",
            _snippet(
                subject,
                "g = C.CFUNCTYPE(C.c_int, C.c_int, C.c_int32, C.c_void_p)"
                "(C.c_void_p.from_address(api + 48).value)",
                "out = C.c_void_p(0x5a5a5a5a)",
                "status = g(1, 0, C.byref(out))",
                "assert status == 0 and not out.value, (status, out)",
            ),
        )


@checks("api.dltensor-borrowed", "producer")
def dltensor_borrowed(subject: Subject) -> None:
    x = example(subject)
    table = _working(x)
    if not table.dltensor:
        raise Untested("it leaves dltensor_from_py_object_no_sync out")
    managed = _describe(table, x)
    references = sys.getrefcount(x)
    content = b""
    for _ in range(100):
        status, raw, error = _probe.call_dltensor(table.dltensor, x)
        if status != 0 or raw is None:
            raise Failed("a description of the array", f"status {status}, {error!r}")
        content = raw
    kept = sys.getrefcount(x) - references
    fields = read_tensor(content)
    first = fields["data"] + fields["byte_offset"]
    shape = read_dims(fields["shape_at"], fields["ndim"])
    _release(managed)
    if kept > 50:
        raise Failed("no reference to the array", f"{kept} more after 100 calls")
    if (first, shape, fields["dtype"]) != (managed.first, (2, 3), managed.dtype):
        raise Failed("the array as from_py_object describes it", f"{fields}")


def _given(subject: Subject, table: Table, **fields: Any) -> tuple[_probe.Fake, int, Any, Any]:
    """A fake tensor given to to_py_object."""
    fake = FakeProducer(shape=(2, 3), **fields)
    made = _probe.Fake(versioned=True, owner=fake.memory, **fake._fields)
    status, array, error = _probe.call_to_py(table.to_py, made.address)
    return made, status, array, error


@checks("api.to-py-steals", "producer", ON_HOST)
def to_py_steals(subject: Subject) -> None:
    table = _working(example(subject))
    made, status, array, error = _given(subject, table)
    if status != 0:
        raise Failed("an object over the managed tensor", f"status {status}, {error!r}")
    if made.deleted and subject.values(array) != [float(v) for v in range(6)]:
        raise Failed("the values 0 to 5", f"{subject.values(array)}")
    del array
    if not eventually(subject, lambda: made.deleted == 1):
        raise Failed("one call of the deleter after the object is gone", f"{made.deleted} calls")


@checks("api.failed-to-py-frees-once-at-most", "producer", ON_HOST)
def failed_to_py_frees_once_at_most(subject: Subject) -> None:
    table = _working(example(subject))
    made, status, array, _ = _given(subject, table, dtype=(200, 32, 1))
    if status == 0:
        raise Untested("it takes an unknown dtype: see api.errors-are-python")
    del array
    subject.settle()
    if made.deleted > 1:
        raise Failed("at most one call of the deleter", f"{made.deleted} calls")


@checks("api.allocator", "producer")
def allocator(subject: Subject) -> None:
    x = example(subject)
    table = _working(x)
    dtype = DTYPES[subject.dtypes[0]]
    for shape, strides in (((2, 3), (3, 1)), ((4,), (1,))):
        status, address, errors, _, said = _probe.call_allocator(
            table.allocator, dtype, shape, subject.device, False
        )
        if status == -1 and errors == 1:
            raise Untested(f"it declines: {said}")
        if status != 0 or not address:
            raise Failed(f"a tensor of shape {shape}", f"status {status}, {said}")
        managed = read_managed(address, True)
        seen = (managed.dtype, managed.shape, managed.strides, managed.device)
        usable = managed.data not in (0, 0x5A5A5A5A5A5A) and managed.byte_offset < 4096
        _release(managed)
        if seen != (dtype, shape, strides, subject.device) or not usable:
            raise Failed(f"dtype, shape and device as asked, strides {strides}", f"{seen}")


@checks("api.allocator-error-once", "producer")
def allocator_error_once(subject: Subject) -> None:
    x = example(subject)
    table = _working(x)
    status, address, errors, _, said = _probe.call_allocator(
        table.allocator, DTYPES[subject.dtypes[0]], (2, 3), subject.device, False
    )
    if status == 0 and address:
        _release(read_managed(address, True))
    if status == 0 and errors:
        raise Failed("no SetError on success", f"{errors} calls: {said}")
    status, address, errors, kind, said = _probe.call_allocator(
        table.allocator, (200, 32, 1), (2, 3), subject.device, False
    )
    if status == 0 and address:
        _release(read_managed(address, True))
        raise Untested("it allocates a dtype that does not exist")
    if status != -1 or errors != 1 or not kind:
        raise Failed(
            "-1 and one SetError with a kind", f"{status}, {errors} calls, {kind!r}: {said}"
        )


@checks("api.allocator-without-gil", "producer")
def allocator_without_gil(subject: Subject) -> None:
    """A crash of this check counts too."""
    x = example(subject)
    table = _working(x)
    dtype = DTYPES[subject.dtypes[0]]
    status, address, _, _, said = _probe.call_allocator(
        table.allocator, dtype, (2, 3), subject.device, False
    )
    if status != 0 or not address:
        raise Untested(f"it declines: {said}")
    _release(read_managed(address, True))
    status, address, _, _, said = _probe.call_allocator(
        table.allocator, dtype, (2, 3), subject.device, True
    )
    if status != 0 or not address:
        raise Failed("a tensor on a thread without a Python thread state", f"{status}, {said}")
    _release(read_managed(address, True))


@checks("api.struct-keeps-rules", "producer")
def struct_keeps_rules(subject: Subject) -> None:
    x = example(subject)
    table = _working(x)
    status, address, error = _probe.call_from_py(table.from_py, x)
    if status != 0 or not address:
        raise Untested(f"see api.zero-or-minus-one: {error!r}")
    managed = read_managed(address, True)
    reason = implausible(managed, 2)
    if reason:
        raise Failed("a versioned managed tensor", reason)
    if managed.version >= (1, 2) and not managed.strides_at:
        raise Failed("strides, as from version 1.2 on", "NULL")
    del x
    subject.settle()
    if managed.shape != (2, 3):
        raise Failed("the shape (2, 3)", f"{managed.shape}")
    if subject.ground == "host" and gather(managed, subject.dtypes[0]) != [
        float(v) for v in range(6)
    ]:
        raise Failed("the values 0 to 5 after the array is gone", "others")
    _release(managed)


# --- consumers


def _uses_tables(subject: Subject) -> None:
    """Demand that the subject calls a table that is as it should be."""
    kind, handler = tabled()
    array = try_import(subject, kind(shape=(2, 3)))
    if isinstance(array, Raised) or not handler.calls:
        raise Untested("it does not use exchange API tables")


def _table_snippet(subject: Subject, *, on_type: bool) -> str:
    """Lines that import an object with a table of version 2 whose functions are NULL."""
    if not subject.imports or not subject.consume_code:
        return ""
    return "\n".join(
        [
            "import ctypes as C, numpy as np",
            subject.imports,
            f"table, name = (C.c_uint64 * 7)({2 if on_type else '1 | 3 << 32'}), b'{NAME}'",
            "new = C.PYFUNCTYPE(C.py_object, C.c_void_p, C.c_char_p, C.c_void_p)"
            '(("PyCapsule_New", C.pythonapi))',
            "P = type('P', (), dict(__dlpack_device__=lambda s: (1, 0), "
            "__dlpack__=lambda s, **k: np.zeros(3, 'f4').__dlpack__(**k)))",
            "x = P()",
            f"{'P' if on_type else 'x'}.{ATTRIBUTE} = new(C.addressof(table), name, None)",
            MUST_IMPORT.format(consume=subject.consume_code.format(x="x", options="")),
        ]
    )


@checks("api.major-checked", "consumer", ON_HOST)
def major_checked(subject: Subject) -> None:
    """A crash of this check is a failure too: the functions of the newer table are NULL."""
    _uses_tables(subject)
    asking.on_try("an import by __dlpack__", _table_snippet(subject, on_type=True))
    kind, _ = tabled(2, 0, leave_out=ALL_LEFT_OUT)
    array = try_import(subject, kind(shape=(2, 3)))
    if isinstance(array, Raised):
        raise Failed("an import by __dlpack__ where the table is of version 2", str(array))
    older = _probe.make_table(1, 3, None, 0)
    kind, _ = tabled(2, 0, prev=older, leave_out=ALL_LEFT_OUT)
    array = try_import(subject, kind(shape=(2, 3)))
    if isinstance(array, Raised):
        raise Failed("an import by the older table or __dlpack__", str(array))
    if subject.values(array) != [float(v) for v in range(6)]:
        raise Failed("the values 0 to 5", f"{subject.values(array)}")


@checks("api.looked-up-on-type", "consumer", ON_HOST)
def looked_up_on_type(subject: Subject) -> None:
    """A crash of this check is a failure too: the functions of the decoy are NULL."""
    _uses_tables(subject)
    asking.on_try("an import by __dlpack__", _table_snippet(subject, on_type=False))
    fake = FakeProducer(shape=(2, 3))
    decoy = _probe.table_capsule(_probe.make_table(1, 3, None, ALL_LEFT_OUT))
    setattr(fake, ATTRIBUTE, decoy)
    array = try_import(subject, fake)
    if isinstance(array, Raised):
        raise Failed("an import by __dlpack__", str(array))


class Mine(Exception):
    pass


@checks("api.error-not-swallowed", "consumer", ON_HOST)
def error_not_swallowed(subject: Subject) -> None:
    _uses_tables(subject)
    kind, handler = tabled()

    def raising() -> None:
        raise Mine("mine")

    handler.before = raising
    array = try_import(subject, kind(shape=(2, 3)))
    if not isinstance(array, Raised) or not isinstance(array.error, Mine):
        raise Failed("the exception of the table", str(array))
