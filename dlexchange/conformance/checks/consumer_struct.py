"""What consumers make of the struct: layout, dtype, device, version, flags."""

from __future__ import annotations

import enum
import functools
from typing import Any

from .. import asking
from ..asking import (
    Raised,
    consume,
    consumer_snippet,
    device_pair,
    eventually,
    fake_for,
    imported,
    must_import,
    must_raise,
    refused_or,
    show,
    try_import,
)
from ..engine import ON_HOST, ON_HOST_AND_SYCL, checks
from ..fakes import FakeProducer
from ..subject import Subject
from ..verdict import Failed, Untested

SIX = [float(v) for v in range(6)]


def _equals(subject: Subject, values: list[float]) -> Any:
    return lambda array: subject.values(array) == values


def _deleted(fake: FakeProducer) -> bool:
    return fake.deleted >= fake.exports


def _raises_or(subject: Subject, values: list[float]) -> tuple[str, ...]:
    """Lines that fail unless the import raises or has the values."""
    return (
        f"try: a = {consume(subject)}",
        "except Exception: a = None",
        f"assert a is None or {show(subject)} == {values}, {show(subject)}",
    )


def _must_import(
    subject: Subject, fake: FakeProducer, values: list[float], what: str, snippet: str = ""
) -> Any:
    """Demand an import with the right values."""
    asking.on_try(f"an import of {what}", snippet)
    array = try_import(subject, fake)
    if isinstance(array, Raised):
        raise Failed(f"an import of {what}", str(array), snippet)
    got = subject.values(array)
    if got != values:
        raise Failed(f"the values {values} of {what}", f"{got}", snippet)
    return array


def _must_refuse(subject: Subject, fake: FakeProducer, what: str, snippet: str = "") -> None:
    asking.on_try(f"an exception for {what}", snippet)
    array = try_import(subject, fake)
    if not isinstance(array, Raised):
        try:
            seen = f"an array with the values {subject.values(array)}"
        except Exception as error:
            seen = f"an array that can not be read ({type(error).__name__})"
        raise Failed(f"an exception for {what}", seen, snippet)


def _must_not_be_read(subject: Subject, fake: FakeProducer, what: str, snippet: str) -> None:
    """Demand that an import raises, or at the latest the reading of its values."""
    asking.on_try(f"an exception for {what}", snippet)
    array = try_import(subject, fake)
    if isinstance(array, Raised):
        return
    try:
        values = subject.values(array)
    except Exception:
        return
    raise Failed(f"an exception for {what}, before it is read", f"the values {values}", snippet)


def _raises_before_reading(subject: Subject, text: str) -> tuple[str, ...]:
    """Lines that fail unless the import raises or the reading of the values."""
    return (
        f"try: a = {consume(subject)}; shown = {show(subject)}",
        "except Exception: pass",
        f"else: assert False, ({text!r}, shown)",
    )


@checks("import.values-equal", "consumer", ON_HOST_AND_SYCL)
def values_equal(subject: Subject) -> None:
    accepted = 0
    for dtype in subject.dtypes:
        fake = fake_for(subject, [1, 0, 1, 1], (2, 2), dtype)
        array = try_import(subject, fake)
        if isinstance(array, Raised):
            continue
        accepted += 1
        got = subject.values(array)
        if got != [1, 0, 1, 1]:
            raise Failed(f"the values 1, 0, 1, 1 as {dtype}", f"{got}")
    if not accepted:
        raise Failed("an import of one of its own dtypes", f"none of {', '.join(subject.dtypes)}")


@checks("import.strides-in-elements", "consumer", ON_HOST_AND_SYCL)
def strides_in_elements(subject: Subject) -> None:
    for name, strides, values in (
        ("transposed", (1, 2), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]),
        ("every second", (6, 2), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]),
    ):
        count = 6 if strides == (1, 2) else 12
        fake = fake_for(subject, range(count), (2, 3), strides=strides)
        view = "reshape(3, 2).T" if count == 6 else "reshape(2, 6)[:, ::2]"
        snippet = consumer_snippet(
            subject,
            must_import(subject),
            f"assert {show(subject)} == {values}, {show(subject)}",
            values=f"np.arange({count}, dtype='float32').{view}",
        )
        refused_or(subject, fake, _equals(subject, values), f"strides {strides} ({name})", snippet)


@checks("import.null-strides", "consumer", ON_HOST_AND_SYCL)
def null_strides(subject: Subject) -> None:
    for form in ("legacy", "versioned"):
        fake = fake_for(subject, shape=(2, 3), strides=None, version=(1, 0), speaks=form)
        whole = fake_for(subject, shape=(2, 3), version=(1, 0), speaks=form)
        if isinstance(try_import(subject, whole), Raised):
            continue  # it does not take this form at all
        snippet = consumer_snippet(
            subject,
            must_import(subject),
            f"assert {show(subject)} == {SIX}",
            values="np.arange(6, dtype='float32').reshape(2, 3)",
            patches=(
                "C.c_void_p.from_address(p + T32).value = None",
                *(("C.c_uint32.from_address(p + 4).value = 0",) if form == "versioned" else ()),
            ),
            versioned=form == "versioned",
        )
        _must_import(subject, fake, SIX, f"NULL strides ({form})", snippet)


@checks("import.byte-offset", "consumer", ON_HOST_AND_SYCL)
def byte_offset(subject: Subject) -> None:
    for offset in (4, 256):
        for shape in ((2, 3), ()):
            count = 6 if shape else 1
            fake = fake_for(subject, range(80), shape, byte_offset=offset)
            values = [float(offset // 4 + i) for i in range(count)]
            snippet = consumer_snippet(
                subject,
                f"a = {consume(subject)}",
                f"assert {show(subject)} == {values}, {show(subject)}",
                values=f"np.arange(80, dtype='float32')[:{count}]"
                + ("" if shape else ".reshape(())"),
                patches=(f"C.c_uint64.from_address(p + T40).value = {offset}",),
            )
            refused_or(
                subject,
                fake,
                _equals(subject, values),
                f"byte_offset {offset}, shape {shape}",
                snippet,
            )


@checks("import.no-alignment-assumed", "consumer", ON_HOST)
def no_alignment_assumed(subject: Subject) -> None:
    for misalign in (4, 16, 64):
        fake = FakeProducer(shape=(2, 3), misalign=misalign)
        refused_or(subject, fake, _equals(subject, SIX), f"data {misalign} bytes off a page", "")


@checks("import.misaligned-items", "consumer", ON_HOST)
def misaligned_items(subject: Subject) -> None:
    """A crash of this check is a failure too."""
    fake = FakeProducer(shape=(2, 3), misalign=1)
    snippet = consumer_snippet(
        subject,
        *_raises_or(subject, SIX),
        values="np.arange(7, dtype='float32')[:6]",
        patches=("C.c_uint64.from_address(p + T0).value += 1",),
    )
    refused_or(subject, fake, _equals(subject, SIX), "float32 at an odd address", snippet)


@checks("import.empty", "consumer", ON_HOST)
def empty(subject: Subject) -> None:
    for what in ("NULL", "non-NULL"):
        fake = FakeProducer([0.0], (0, 3))
        if what == "NULL":
            fake._fields["data"] = None
        snippet = consumer_snippet(
            subject,
            must_import(subject),
            values="np.zeros((0, 3), dtype='float32')",
            patches=(
                f"C.c_void_p.from_address(p + T0).value = {None if what == 'NULL' else 4096}",
            ),
        )
        array = _must_import(subject, fake, [], f"an empty tensor with {what} data", snippet)
        del array
        if not eventually(subject, functools.partial(_deleted, fake)):
            raise Failed(
                f"a call of the deleter of an empty tensor with {what} data",
                f"{fake.deleted} calls for {fake.exports} exports",
            )


@checks("import.zero-dim", "consumer", ON_HOST)
def zero_dim(subject: Subject) -> None:
    for what, shape in (("NULL shape and strides", None), ("shape and strides", ())):
        fake = FakeProducer([7.0], ())
        if shape is None:
            fake._fields.update(shape=None, strides=None)
        snippet = consumer_snippet(
            subject,
            *_raises_or(subject, [7.0]),
            values="np.array(7, dtype='float32')",
            patches=(
                "C.c_void_p.from_address(p + T24).value = None",
                "C.c_void_p.from_address(p + T32).value = None",
            )
            if shape is None
            else (),
        )
        refused_or(subject, fake, _equals(subject, [7.0]), f"a 0-d tensor with {what}", snippet)


@checks("import.negative-strides", "consumer", ON_HOST_AND_SYCL)
def negative_strides(subject: Subject) -> None:
    """A crash of this check is a failure too."""
    fake = fake_for(subject, range(6), (6,), strides=(-1,))
    fake._fields["data"] = fake.memory.address + 20
    values = SIX[::-1]
    snippet = consumer_snippet(
        subject,
        *_raises_or(subject, values),
        values="np.arange(6, dtype='float32')[::-1]",
    )
    refused_or(subject, fake, _equals(subject, values), "stride -1", snippet)


@checks("import.zero-strides", "consumer", ON_HOST)
def zero_strides(subject: Subject) -> None:
    fake = FakeProducer([5], (2, 3), strides=(0, 0))
    refused_or(subject, fake, _equals(subject, [5.0] * 6), "strides 0, 0", "")


@checks("import.odd-stride-of-size-one", "consumer", ON_HOST)
def odd_stride_of_size_one(subject: Subject) -> None:
    fake = FakeProducer(range(3), (1, 3, 1), strides=(999, 1, 777))
    snippet = consumer_snippet(
        subject,
        must_import(subject),
        f"assert {show(subject)} == [0, 1, 2]",
        values="np.arange(3, dtype='float32').reshape(1, 3)",
        patches=("C.c_int64.from_address(C.c_uint64.from_address(p + T32).value).value = 999",),
    )
    _must_import(subject, fake, [0.0, 1.0, 2.0], "odd strides of size-1 dimensions", snippet)


def _dtype_patch(code: int, bits: int, lanes: int) -> tuple[str, ...]:
    word = code | bits << 8 | lanes << 16
    return (f"C.c_uint32.from_address(p + T20).value = {word:#x}",)


@checks("import.unknown-dtype-refused", "consumer", ON_HOST)
def unknown_dtype_refused(subject: Subject) -> None:
    for triple in ((200, 32, 1), (2, 24, 1), (0, 7, 1)):
        fake = FakeProducer(shape=(2, 3), dtype=triple)
        text = f"dtype (code, bits, lanes) = {triple} was guessed"
        snippet = consumer_snippet(
            subject, *_raises_before_reading(subject, text), patches=_dtype_patch(*triple)
        )
        _must_not_be_read(subject, fake, f"dtype {triple}", snippet)
    fake = FakeProducer(range(12), (2, 3), dtype=(2, 32, 2))
    snippet = consumer_snippet(
        subject,
        f"try: a = {consume(subject)}",
        "except Exception: a = None",
        f"assert a is None or {show(subject)} != {SIX}, 'lanes were passed over'",
        values="np.arange(12, dtype='float32')[:6]",
        patches=_dtype_patch(2, 32, 2),
    )
    refused_or(subject, fake, lambda array: subject.values(array) != SIX, "lanes 2", snippet)


@checks("import.sub-byte-bits", "consumer", ON_HOST)
def sub_byte_bits(subject: Subject) -> None:
    for code, bits in ((15, 8), (16, 8), (17, 8)):
        fake = FakeProducer(shape=(2, 3), dtype=(code, bits, 1))
        text = f"dtype code {code} with {bits} bits was read"
        snippet = consumer_snippet(
            subject,
            *_raises_before_reading(subject, text),
            patches=_dtype_patch(code, bits, 1),
        )
        _must_not_be_read(subject, fake, f"dtype code {code} with {bits} bits", snippet)


@checks("import.unknown-flags", "consumer", ON_HOST)
def unknown_flags(subject: Subject) -> None:
    fake = FakeProducer(shape=(2, 3), flags=1 << 40)
    array = try_import(subject, fake)
    if not isinstance(array, Raised) and subject.values(array) != SIX:
        raise Failed("an exception or the values", f"{subject.values(array)}")
    del array
    if not eventually(subject, lambda: fake.deleted >= fake.exports):
        raise Failed("a call of the deleter", f"{fake.deleted} calls")


@checks("import.ndim-validated", "consumer", ON_HOST)
def ndim_validated(subject: Subject) -> None:
    """A crash of this check is a failure too."""
    for ndim in (-1, 2**24):
        fake = FakeProducer(ndim=ndim)
        snippet = consumer_snippet(
            subject,
            *_raises_before_reading(subject, f"ndim {ndim} was accepted"),
            patches=(f"C.c_int32.from_address(p + T16).value = {ndim}",),
        )
        _must_not_be_read(subject, fake, f"ndim {ndim}", snippet)


@checks("import.overflow-refused", "consumer", ON_HOST)
def overflow_refused(subject: Subject) -> None:
    """A crash of this check is a failure too."""
    for shape in ((2**62,), (2**40, 2**40)):
        fake = FakeProducer(shape=shape)
        dims = " ; ".join(
            f"C.c_int64.from_address(C.c_uint64.from_address(p + T24).value + {8 * i}).value = {n}"
            for i, n in enumerate(shape)
        )
        snippet = consumer_snippet(
            subject,
            must_raise(subject, f"shape {shape} was accepted"),
            values=f"np.zeros({(1,) * len(shape)}, dtype='float32')",
            patches=(dims,),
        )
        asking.on_try(f"an exception for the shape {shape}", snippet)
        if not isinstance(try_import(subject, fake), Raised):  # nobody could read its values
            raise Failed(
                f"an exception for the shape {shape}", f"an array of shape {shape}", snippet
            )


# --- device


@checks("import.foreign-device-refused", "consumer", ON_HOST)
def foreign_device_refused(subject: Subject) -> None:
    for device in ((4, 0), (9, 0), (99, 0)):
        fake = FakeProducer(shape=(2, 3), device=device)
        answer = try_import(subject, fake)  # one that is imported is supported
        if isinstance(answer, Raised) and not isinstance(answer.error, BufferError):
            raise Failed(
                f"BufferError for device {device}", str(answer), _device_snippet(subject, device)
            )


def _device_snippet(subject: Subject, device: tuple[int, int]) -> str:
    return consumer_snippet(
        subject,
        f"try: a = {consume(subject)}",
        "except BufferError: pass",
        "except Exception as e: raise AssertionError(f'{type(e).__name__}: {e}')",
        device=repr(device),
        patches=(f"C.c_int32.from_address(p + T8).value = {device[0]}",),
    )


@checks("import.ext-dev-refused", "consumer", ON_HOST)
def ext_dev_refused(subject: Subject) -> None:
    snippet = consumer_snippet(
        subject,
        *_raises_before_reading(subject, "kDLExtDev was accepted"),
        device="(12, 0)",
        patches=("C.c_int32.from_address(p + T8).value = 12",),
    )
    _must_not_be_read(subject, FakeProducer(shape=(2, 3), device=(12, 0)), "kDLExtDev", snippet)


@checks("import.host-accessible", "consumer", ON_HOST)
def host_accessible(subject: Subject) -> None:
    for kind in (3, 13):
        fake = FakeProducer(shape=(2, 3), device=(kind, 0))
        array = try_import(subject, fake)
        try:
            values = array if isinstance(array, Raised) else subject.values(array)
        except Exception as error:
            values = Raised(error)
        if values != SIX:
            raise Failed(f"the values of device type {kind}, read by the host", f"{values}")


@checks("import.host-device-id", "consumer", ON_HOST)
def host_device_id(subject: Subject) -> None:
    fake = FakeProducer(shape=(2, 3), device=(1, 3))
    refused_or(subject, fake, _equals(subject, SIX), "host memory with device_id 3", "")


@checks("import.same-device", "consumer", ON_HOST)
def same_device(subject: Subject) -> None:
    fake = FakeProducer(shape=(2, 3))
    array = imported(subject, fake)
    kind, _ = device_pair(subject, array)
    if kind != 1:
        raise Failed("an array on the host, device type 1", f"device type {kind}")


class DeviceType(enum.IntEnum):
    CPU = 1


@checks("import.device-type-int-or-enum", "consumer", ON_HOST)
def device_type_int_or_enum(subject: Subject) -> None:
    for kind in (1, DeviceType.CPU):
        fake = FakeProducer(shape=(2, 3), device_answer=(kind, 0))
        snippet = consumer_snippet(
            subject, must_import(subject), device="(__import__('enum').IntEnum('D', 'CPU').CPU, 0)"
        )
        _must_import(subject, fake, SIX, f"device_type {kind!r}", snippet)


# --- version and flags


@checks("version.major-refused", "consumer", ON_HOST)
def major_refused(subject: Subject) -> None:
    for major in (2, 77):
        fake = FakeProducer(shape=(2, 3), version=(major, 0), speaks="versioned")
        snippet = consumer_snippet(
            subject,
            must_raise(subject, f"major version {major} was accepted"),
            patches=(f"C.c_uint32.from_address(p).value = {major}",),
        )
        _must_refuse(subject, fake, f"major version {major}", snippet)


@checks("version.lower-major-refused", "consumer", ON_HOST)
def lower_major_refused(subject: Subject) -> None:
    fake = FakeProducer(shape=(2, 3), version=(0, 8), speaks="versioned")
    snippet = consumer_snippet(
        subject,
        must_raise(subject, "major version 0 was accepted"),
        patches=(
            "C.c_uint32.from_address(p).value = 0",
            "C.c_uint32.from_address(p + 4).value = 8",
        ),
    )
    _must_refuse(subject, fake, "a versioned struct of version 0.8", snippet)


@checks("version.refusal-touches-nothing", "consumer", ON_HOST)
def refusal_touches_nothing(subject: Subject) -> None:
    """A crash of this check is a failure too: what must not be touched is poison."""
    fake = FakeProducer(shape=(2, 3), version=(2, 0), speaks="versioned", poison=True)
    if not isinstance(try_import(subject, fake), Raised):
        raise Untested("see version.major-refused")
    if not eventually(subject, lambda: fake.is_released):
        raise Failed("one call of the deleter", f"{fake.deleted} calls for {fake.exports} exports")


@checks("version.higher-minor-accepted", "consumer", ON_HOST)
def higher_minor_accepted(subject: Subject) -> None:
    if not _takes_versioned(subject):
        raise Untested("it imports the legacy struct only")
    fake = FakeProducer(shape=(2, 3), version=(1, 99), speaks="versioned")
    snippet = consumer_snippet(
        subject,
        must_import(subject),
        patches=("C.c_uint32.from_address(p + 4).value = 99",),
    )
    _must_import(subject, fake, SIX, "version 1.99", snippet)


def _takes_versioned(subject: Subject) -> bool:
    fake = FakeProducer(shape=(2, 3), speaks="versioned")
    return not isinstance(try_import(subject, fake), Raised)


@checks("version.both-structs", "consumer", ON_HOST)
def both_structs(subject: Subject) -> None:
    for form in ("legacy", "versioned"):
        fake = FakeProducer(shape=(2, 3), speaks=form)
        snippet = consumer_snippet(subject, must_import(subject), versioned=form == "versioned")
        _must_import(subject, fake, SIX, f"the {form} struct", snippet)


@checks("version.consumer-checks", "consumer", ON_HOST)
def consumer_checks(subject: Subject) -> None:
    for form in ("legacy", "versioned"):
        fake = FakeProducer(shape=(2, 3), speaks=form)
        refused_or(subject, fake, _equals(subject, SIX), f"the {form} struct, asked or not", "")


@checks("import.read-only-accepted", "consumer", ON_HOST)
def read_only_accepted(subject: Subject) -> None:
    if not _takes_versioned(subject):
        raise Untested("it imports the legacy struct only, which has no flags")
    fake = FakeProducer(shape=(2, 3), flags=1, speaks="versioned")
    snippet = consumer_snippet(
        subject, must_import(subject), patches=("C.c_uint64.from_address(p + 24).value = 1",)
    )
    _must_import(subject, fake, SIX, "a READ_ONLY tensor", snippet)


@checks("import.read-only-honoured", "consumer", ON_HOST)
def read_only_honoured(subject: Subject) -> None:
    fake = FakeProducer(shape=(2, 3), flags=1, speaks="versioned")
    array = try_import(subject, fake)
    if isinstance(array, Raised):
        raise Untested(f"from_dlpack raised {array}")
    if subject.is_writable(array):
        raise Failed(
            "an array that is read-only",
            "a writable one",
            consumer_snippet(
                subject,
                f"a = {consume(subject)}",
                f"assert not {subject.is_writable_code.replace('{a}', 'a')}",
                patches=("C.c_uint64.from_address(p + 24).value = 1",),
            ),
        )


@checks("import.no-implicit-write", "consumer", ON_HOST)
def no_implicit_write(subject: Subject) -> None:
    for strides, misalign in ((..., 0), ((1, 2), 0), (..., 4)):
        fake = FakeProducer(shape=(2, 3), strides=strides, misalign=misalign)
        array = try_import(subject, fake)
        if isinstance(array, Raised):
            continue
        subject.values(array)
        if not fake.untouched:
            raise Failed("memory as it was before the import", "other content")
