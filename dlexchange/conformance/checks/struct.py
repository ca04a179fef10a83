"""What producers write into the struct: shape, strides, offset, dtype, flags."""

from __future__ import annotations

from typing import Any

from .. import _probe
from ..asking import (
    NEWEST,
    Raised,
    ask,
    best,
    both_kinds,
    example,
    producer_snippet,
    versioned,
)
from ..engine import ON_HOST, checks
from ..looking import (
    DTYPES,
    FIRST_CODE_OF_MINOR_1,
    LEGACY,
    VERSIONED,
    Managed,
    decode,
    gather,
    implausible,
    item_size,
    peek,
)
from ..subject import Subject
from ..verdict import Failed, Untested

PEEK = "t = lambda at, kind: getattr(C, kind).from_address(p + at).value"


@checks("struct.shape-valid", "producer")
def shape_valid(subject: Subject) -> None:
    for shape in ((2, 3), (1, 1, 4), (5,)):
        for made in both_kinds(subject, example(subject, shape), len(shape)):
            if not made.managed.shape_at:
                raise Failed(f"the shape {shape}", "NULL")
            if made.managed.shape != shape:
                raise Failed(f"the shape {shape}", f"{made.managed.shape}")


@checks("struct.strides-non-null", "producer")
def strides_non_null(subject: Subject) -> None:
    made = versioned(subject, example(subject))
    if made.managed.version >= (1, 2) and not made.managed.strides_at:
        raise Failed(
            f"strides, as from version 1.2 on, which {made.managed.version} is",
            "NULL",
            producer_snippet(
                subject,
                "c = x.__dlpack__(max_version=(1, 3))",
                "POINTER",
                "major, minor = [C.c_uint32.from_address(p + at).value for at in (0, 4)]",
                "strides = C.c_void_p.from_address(p + 64).value",
                "assert (major, minor) < (1, 2) or strides, (major, minor, strides)",
                pointer="dltensor_versioned",
            ),
        )


def _layouts(subject: Subject) -> list[tuple[str, Any]]:
    """Views of an array of shape (2, 3) that the subject can make and read."""
    found = []
    for name in subject.layouts:
        try:
            view = subject.layout(example(subject), name)
            subject.values(view)
        except Exception:
            continue
        found.append((name, view))
    return found


@checks("struct.strides-in-elements", "producer", ON_HOST)
def strides_in_elements(subject: Subject) -> None:
    seen_one = False
    for name, view in [("contiguous", example(subject)), *_layouts(subject)]:
        answer = ask(subject, view, max_version=NEWEST)
        answer = ask(subject, view) if isinstance(answer, Raised) else answer
        if isinstance(answer, Raised):
            continue
        expected = subject.values(view)
        managed = peek(answer, 1 if name == "column" else 2)
        if not _first_is(managed, expected, subject.dtypes[0]):
            continue  # struct.element-zero says so
        seen_one = True
        try:
            got = gather(managed, subject.dtypes[0])
        except ValueError as error:
            raise Failed(f"the values {expected} ({name})", str(error)) from None
        if got != expected:
            raise Failed(
                f"the values {expected} ({name})", f"{got} under strides {managed.strides}"
            )
    if not seen_one:
        raise Untested("no layout could be exported and read")


def _first_is(managed: Managed, expected: list[Any], dtype: str) -> bool:
    try:
        return bool(decode(_probe.memory(managed.first, item_size(dtype)), dtype) == expected[0])
    except ValueError:
        return False


@checks("struct.element-zero", "producer", ON_HOST)
def element_zero(subject: Subject) -> None:
    seen_one = False
    for name, view in [("contiguous", example(subject)), *_layouts(subject)]:
        answer = ask(subject, view, max_version=NEWEST)
        answer = ask(subject, view) if isinstance(answer, Raised) else answer
        if isinstance(answer, Raised):
            continue
        seen_one = True
        expected = subject.values(view)
        managed = peek(answer, 1 if name == "column" else 2)
        if not _first_is(managed, expected, subject.dtypes[0]):
            raise Failed(f"{expected[0]} at data + byte_offset ({name})", "another value")
    if not seen_one:
        raise Untested("no layout could be exported and read")


@checks("struct.data-aligned-256", "producer")
def data_aligned_256(subject: Subject) -> None:
    kept = [example(subject) for _ in range(8)]
    for x in kept:
        data = best(subject, x).managed.data
        if data % 256:
            raise Failed("data on a 256-byte boundary", "an address between two")


@checks("struct.empty-data-null", "producer")
def empty_data_null(subject: Subject) -> None:
    try:
        x = subject.make([], (0, 3), subject.dtypes[0])
    except Exception as error:
        raise Untested(f"it makes no empty array: {error!r}") from None
    managed = best(subject, x).managed
    if managed.data:
        name = "dltensor_versioned" if managed.versioned else "dltensor"
        raise Failed(
            "NULL data of an array without elements",
            "an address",
            producer_snippet(
                subject,
                f"c = x.__dlpack__({'max_version=(1, 0)' if managed.versioned else ''})",
                "POINTER",
                f"data = C.c_void_p.from_address(p + {32 if managed.versioned else 0}).value",
                "assert not data, hex(data)",
                x=subject.make_text([], (0, 3), subject.dtypes[0]) if subject.make_code else "",
                pointer=name,
            ),
        )


@checks("struct.zero-dim", "producer")
def zero_dim(subject: Subject) -> None:
    try:
        x = subject.make([5], (), subject.dtypes[0])
    except Exception as error:
        raise Untested(f"it makes no 0-d array: {error!r}") from None
    shape = getattr(x, "shape", ())
    if shape and not callable(shape):
        raise Untested(f"it makes no 0-d array but one of shape {shape}")
    answer = ask(subject, x, max_version=NEWEST)
    answer = ask(subject, x) if isinstance(answer, Raised) else answer
    if isinstance(answer, Raised):
        raise Untested(f"it exports no 0-d array: {answer}")
    managed = _of_few_dimensions(answer)
    if managed.ndim != 0 or not managed.data:
        raise Failed("ndim 0 and a data pointer", f"ndim {managed.ndim}, data {managed.data:#x}")
    if subject.ground == "host" and not _first_is(managed, [5], subject.dtypes[0]):
        raise Failed("the element at data + byte_offset", "another value")


def _of_few_dimensions(answer: Any) -> Managed:
    """The struct of a 0-d array, or of one that became 1-d."""
    try:
        return peek(answer, 0)
    except Untested:
        return peek(answer, 1)


@checks("dtype.code-bits-lanes", "producer")
def code_bits_lanes(subject: Subject) -> None:
    seen_one = False
    for dtype in subject.dtypes:
        x = subject.make([1, 0, 1], (3,), dtype)
        answer = ask(subject, x, max_version=NEWEST)
        answer = ask(subject, x) if isinstance(answer, Raised) else answer
        if isinstance(answer, Raised):
            continue
        seen_one = True
        managed = peek(answer, 1)
        if managed.dtype != DTYPES[dtype]:
            base = 32 if managed.versioned else 0
            raise Failed(
                f"{DTYPES[dtype]} for {dtype}",
                f"{managed.dtype}",
                producer_snippet(
                    subject,
                    f"c = x.__dlpack__({'max_version=(1, 3)' if managed.versioned else ''})",
                    "POINTER",
                    f"code, bits = bytes((C.c_uint8 * 2).from_address(p + {base + 20}))",
                    f"assert (code, bits) == {DTYPES[dtype][:2]}, (code, bits)",
                    x=subject.make_text([1, 0, 1], (3,), dtype) if subject.make_code else "",
                    pointer=VERSIONED if managed.versioned else LEGACY,
                ),
            )
    if not seen_one:
        raise Untested("no dtype could be exported")


@checks("version.struct-keeps-its-rules", "producer")
def struct_keeps_its_rules(subject: Subject) -> None:
    for dtype in subject.dtypes:
        x = subject.make([1, 0, 1], (3,), dtype)
        answer = ask(subject, x, max_version=NEWEST)
        if isinstance(answer, Raised):
            continue
        managed = peek(answer, 1)
        if not managed.versioned:
            raise Untested("it exports the legacy struct only, which has no version")
        if managed.dtype[0] >= FIRST_CODE_OF_MINOR_1 and managed.version < (1, 1):
            raise Failed(
                f"a version from 1.1 on for {dtype}",
                f"version {managed.version}",
                producer_snippet(
                    subject,
                    "c = x.__dlpack__(max_version=(1, 3))",
                    "POINTER",
                    "version = tuple(C.c_uint32.from_address(p + at).value for at in (0, 4))",
                    "code = C.c_uint8.from_address(p + 52).value",
                    "assert code < 7 or version >= (1, 1), (code, version)",
                    x=subject.make_text([1, 0, 1], (3,), dtype) if subject.make_code else "",
                    pointer="dltensor_versioned",
                ),
            )
        if managed.flags & 4 and managed.version < (1, 1):
            raise Failed("no padded flag below version 1.1", f"flags {managed.flags:#x}")


@checks("flags.only-defined-bits", "producer")
def only_defined_bits(subject: Subject) -> None:
    flags = versioned(subject, example(subject)).managed.flags
    if flags & ~0b111:
        raise Failed("bits 0 to 2 of flags at most", f"{flags:#x}")


@checks("flags.read-only", "producer")
def read_only(subject: Subject) -> None:
    x = subject.read_only(example(subject))
    answer = ask(subject, x, max_version=NEWEST)
    if isinstance(answer, Raised):
        return  # refused, which is honest
    managed = peek(answer, 2)
    if not managed.versioned:
        raise Untested("it exports the legacy struct only, which has no flags")
    if not managed.flags & 1:
        code = subject.make_text(range(6), (2, 3), subject.dtypes[0]) if subject.make_code else ""
        if code and not subject.immutable:
            code = subject.read_only_code.replace("{a}", code)
        raise Failed(
            "READ_ONLY on an array that must not be written",
            f"flags {managed.flags:#x}",
            producer_snippet(
                subject,
                "c = x.__dlpack__(max_version=(1, 0))",
                "POINTER",
                "flags = C.c_uint64.from_address(p + 24).value",
                "assert flags & 1, flags",
                x=code,
                pointer="dltensor_versioned",
            ),
        )


@checks("flags.is-copied", "producer")
def is_copied(subject: Subject) -> None:
    x = example(subject)
    shared = versioned(subject, x)
    copied = versioned(subject, x, copy=True)
    if copied.managed.first != shared.managed.first and not copied.managed.flags & 2:
        raise Failed(
            "IS_COPIED on a copy",
            f"flags {copied.managed.flags:#x}",
            producer_snippet(
                subject,
                "c = x.__dlpack__(max_version=(1, 0), copy=True)",
                "POINTER",
                "flags = C.c_uint64.from_address(p + 24).value",
                "assert flags & 2, flags",
                pointer="dltensor_versioned",
            ),
        )


@checks("flags.is-copied-is-true", "producer")
def is_copied_is_true(subject: Subject) -> None:
    x = example(subject)
    first, second = versioned(subject, x), versioned(subject, x)
    if first.managed.flags & 2 and first.managed.first == second.managed.first:
        raise Failed("no IS_COPIED on shared memory", f"flags {first.managed.flags:#x}")


@checks("export.values-as-shown", "producer", ON_HOST)
def values_as_shown(subject: Subject) -> None:
    odd = {n: m for n, m in subject.odd_arrays().items() if n not in OWN_CLAUSE}
    if not odd:
        raise Untested("it gives no arrays of other than raw memory")
    for name, make in odd.items():
        x = make()
        answer = ask(subject, x, max_version=NEWEST)
        answer = ask(subject, x) if isinstance(answer, Raised) else answer
        if not isinstance(answer, Raised):
            _same_values(subject, name, x, answer)


def _same_values(subject: Subject, name: str, x: Any, answer: Any) -> None:
    snippet = producer_snippet(
        subject,
        "P = type('P', (), dict(__dlpack_device__=lambda s: (1, 0),"
        " __dlpack__=lambda s, **k: x.__dlpack__(**k)))",
        "raw = np.from_dlpack(P()).ravel().tolist()",
        f"assert raw == {subject.values_code.replace('{a}', 'x')}, raw",
        x=subject.unexportable.get(name, ""),
        imports=("import numpy as np",) if "import numpy as np" not in subject.imports else (),
    )
    try:
        expected = subject.values(x)
    except Exception as error:
        raise Failed(
            f"BufferError for {name}, whose values can not be read ({error!r})", "an export"
        ) from None
    address, _ = _probe.capsule_content(answer)
    named = _probe.capsule_name(answer)
    from ..looking import read_managed

    managed = read_managed(address, named is not None and named[0] == VERSIONED)
    names = [n for n, triple in DTYPES.items() if triple == managed.dtype]
    if not names or implausible(managed, managed.ndim):
        raise Failed(f"the values {expected} of {name}", f"dtype {managed.dtype}")
    got = gather(managed, names[0])
    if got != expected:
        raise Failed(f"the values {expected} of {name}, or BufferError", f"{got}", snippet)


OWN_CLAUSE = {
    "byte-swapped": "dtype.native-byte-order",
    "long-double": "dtype.float-is-ieee",
    "indivisible-strides": "export.indivisible-strides-refused",
}


def _must_refuse(subject: Subject, name: str) -> None:
    make = subject.odd_arrays().get(name)
    if make is None:
        raise Untested(f"it gives no array that is {name}")
    x = make()
    for keywords in ({}, {"max_version": NEWEST}):
        answer = ask(subject, x, **keywords)
        if not isinstance(answer, Raised):
            raise Failed(
                f"a refusal of an array that is {name}",
                "an export",
                producer_snippet(
                    subject,
                    "try: x.__dlpack__()",
                    "except Exception: pass",
                    "else: assert False, 'no exception'",
                    x=subject.unexportable.get(name, ""),
                ),
            )


@checks("dtype.native-byte-order", "producer")
def native_byte_order(subject: Subject) -> None:
    _must_refuse(subject, "byte-swapped")


@checks("dtype.float-is-ieee", "producer")
def float_is_ieee(subject: Subject) -> None:
    _must_refuse(subject, "long-double")


@checks("export.indivisible-strides-refused", "producer")
def indivisible_strides_refused(subject: Subject) -> None:
    _must_refuse(subject, "indivisible-strides")


@checks("errors.buffer-error", "producer")
def buffer_error(subject: Subject) -> None:
    seen_one = False
    for name, make in subject.odd_arrays().items():
        x = make()
        answer = ask(subject, x, max_version=NEWEST)
        if not isinstance(answer, Raised):
            continue
        seen_one = True
        if not isinstance(answer.error, BufferError):
            raise Failed(
                f"BufferError for an array that is {name}",
                str(answer),
                producer_snippet(
                    subject,
                    "try: x.__dlpack__(max_version=(1, 0))",
                    "except BufferError: pass",
                    "except Exception as e: raise AssertionError(f'{type(e).__name__}: {e}')",
                    x=subject.unexportable.get(name, ""),
                ),
            )
    if not seen_one:
        raise Untested("no array was refused")
