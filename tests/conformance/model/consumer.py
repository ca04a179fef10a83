"""How the model imports: check first, claim last, call the deleter once."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any

from dlexchange.conformance import _probe
from dlexchange.conformance.fakes import HostMemory, contiguous
from dlexchange.conformance.looking import DTYPES, Managed, item_size, read_managed

from .array import Array, leaked

HOST_TYPES = (1, 3, 11, 13)
TWO_AT_ONCE = threading.Barrier(2)
CLAIMING = threading.Lock()


class Owner:
    """A managed tensor that was claimed; its deleter runs when this goes."""

    def __init__(self, model: Any, managed: Managed, *, by_table: bool = False) -> None:
        self.model = model
        self.managed = managed
        self.by_table = by_table

    def take(self) -> Managed:
        """The managed tensor, which is somebody else's to release from now on."""
        managed, self.managed = self.managed, None  # type: ignore[assignment]
        return managed

    def __del__(self) -> None:
        managed, fault = self.managed, self.model.fault
        if managed is None or not managed.deleter:
            return
        where = "here" if fault == "deleter.foreign-thread" else "released"
        _probe.call_deleter(managed.address, managed.versioned, where)
        if fault == "deleter.once-at-the-end" and not self.by_table:
            _probe.call_deleter(managed.address, managed.versioned, where)
        if fault == "deleter.alone-frees-struct":
            at = managed.address + (8 if managed.versioned else 48)
            _probe.poke(at, bytes(8))


class TheirTypeError(Exception):
    """A TypeError that came from the producer and not from its signature."""


def ask(model: Any, x: Any, options: dict[str, Any]) -> tuple[Any, bool]:
    """The capsule, and whether the versioned form was asked for."""
    fault = model.fault
    first: dict[str, Any] = {"max_version": (1, 3)}
    if options.get("copy") is not None:
        first["copy"] = options["copy"]
    if fault == "keywords.sent-when-asked":
        first["copy"] = False
    if model.passes is not None:
        first["stream"] = model.passes
    if fault == "stream.host-consumer-passes-none":
        first["stream"] = 1
    if fault == "version.asked-first":
        return x.__dlpack__(), False
    try:
        return x.__dlpack__(**first), True
    except TypeError:
        pass
    if options.get("copy") is not None and fault != "version.retry-hides-nothing":
        raise BufferError("this producer can not be asked for a copy, or for none")
    return x.__dlpack__(), False


def managed_of(model: Any, capsule: Any, asked_versioned: bool) -> Managed:
    """What is in a capsule, by its name."""
    named = _probe.capsule_name(capsule)
    if named is None:
        raise TypeError("__dlpack__ returned no capsule")
    name = named[0]
    if model.fault == "capsule.consumed-once" and name == "some_other_name":
        name = "dltensor_versioned"
    if name not in ("dltensor", "dltensor_versioned"):
        raise BufferError(f"a capsule named {name!r} can not be consumed")
    versioned = name == "dltensor_versioned"
    managed = read_managed(_probe.capsule_content(capsule)[0], versioned)
    refuses_legacy = model.fault == "version.both-structs@consumer"
    if not versioned and refuses_legacy:
        raise BufferError("the legacy struct is not supported")
    return managed


def claim(model: Any, capsule: Any, managed: Managed) -> None:
    """Take the managed tensor over."""
    fault = model.fault
    if fault == "capsule.claimed-by-one-thread" and threading.active_count() > 1:
        with contextlib.suppress(threading.BrokenBarrierError):
            TWO_AT_ONCE.wait(timeout=0.2)
        TWO_AT_ONCE.reset()
    suffix = "_versioned" if managed.versioned else ""
    if fault == "capsule.renamed-on-consumption":
        suffix = "_of_model"
    static = fault != "capsule.name-is-static@consumer"
    with CLAIMING:
        named = _probe.capsule_name(capsule)
        taken = named is None or (named[0] or "").startswith("used_")
        if taken and fault != "capsule.claimed-by-one-thread":
            raise BufferError("another thread took the capsule")
        _probe.capsule_rename(capsule, f"used_dltensor{suffix}", static)


def check_version(model: Any, managed: Managed) -> None:
    """Refuse other versions."""
    fault, (major, minor) = model.fault, managed.version
    if not managed.versioned or major == 1:
        if managed.versioned and minor > 3 and fault == "version.higher-minor-accepted":
            raise BufferError("a minor version from the future")
        return
    if major > 1 and fault == "version.major-refused" and managed.ndim < 65:
        return
    if major < 1 and fault == "version.lower-major-refused":
        return
    raise BufferError(f"version {major}.{minor} is not known")


def check_struct(model: Any, managed: Managed, *, by_table: bool = False) -> str:
    """Refuse what is not understood; returns the dtype's name."""
    fault = model.fault
    device_type = managed.device[0]
    known = [*HOST_TYPES, *model.also_imports] if fault != "import.host-accessible" else [1]
    if fault == "import.ext-dev-refused":
        known.append(12)
    if device_type not in known:
        kind = ValueError if fault == "import.foreign-device-refused" else BufferError
        raise kind(f"no arrays on devices of type {device_type}")
    names = [name for name, triple in DTYPES.items() if triple == managed.dtype]
    code, bits, lanes = managed.dtype
    if not names and fault == "import.sub-byte-bits" and 15 <= code <= 17 and bits == 8:
        names = ["uint8"]
    if by_table:
        fault = ""
    if not names and fault == "import.unknown-dtype-refused" and code == 200 and lanes == 1:
        names = ["float32"]
    if not names:
        raise BufferError(f"the dtype {managed.dtype} is not known")
    if fault == "import.values-equal" and names[0] == "float16":
        names = ["int16"]
    if not 0 <= managed.ndim <= 64 and not (managed.ndim < 0 and fault == "import.ndim-validated"):
        raise BufferError(f"ndim {managed.ndim}")
    return names[0]


def layout(model: Any, managed: Managed, dtype: str) -> tuple[Any, Any, int]:
    """Shape, strides and the address of element zero."""
    fault = model.fault
    if managed.ndim <= 0:
        nothing = fault == "import.zero-dim" and not managed.shape_at
        shape: Any = (0,) if nothing else ()
        strides: Any = (1,) if nothing else ()
    else:
        shape = managed.shape
        strides = managed.strides
        if strides is None and fault == "import.null-strides":
            raise BufferError("strides are missing")
        if strides is None:
            strides = contiguous(shape, ...)
    nbytes = item_size(dtype)
    for extent in shape:
        nbytes *= extent
    if nbytes >= 2**63 and fault != "import.overflow-refused":
        raise BufferError(f"the shape {shape} overflows")
    if nbytes and not managed.data:
        raise BufferError("data is NULL")
    if not nbytes and not managed.data and fault == "import.empty":
        raise BufferError("data is NULL")
    strides = _strides(fault, shape, strides)
    address = managed.data if fault == "import.byte-offset" else managed.first
    plain = managed.byte_offset == 0 and all(s > 0 for s in strides)
    if fault == "import.no-alignment-assumed" and address % 4 == 0 and plain:
        address -= address % 64
    if fault == "import.misaligned-items":
        address -= address % 4
    if fault == "import.host-device-id" and managed.device[1]:
        address += item_size(dtype)
    return shape, strides, address


def _strides(fault: str, shape: Any, strides: Any) -> Any:
    compact = contiguous(shape, ...)
    if fault == "import.odd-stride-of-size-one" and 1 in shape and strides != compact:
        raise BufferError("only contiguous arrays")
    if fault == "import.strides-in-elements" and len(shape) == 2 and strides != compact:
        return tuple(s // 2 for s in strides)
    if fault == "import.negative-strides":
        return tuple(abs(s) for s in strides)
    if fault == "import.zero-strides" and strides and not any(strides):
        return compact
    return strides


def array_of(model: Any, managed: Managed, owner: Any, dtype: str) -> Array:
    """The model's array over a managed tensor."""
    shape, strides, address = layout(model, managed, dtype)
    array: Array = model.kind(model, address, shape, strides, dtype)
    array.owner = owner
    array.imported = True
    flags = managed.flags
    if flags & 1 and model.fault == "import.read-only-accepted":
        raise BufferError("read-only arrays are not supported")
    array.writable = not flags & 1 or model.fault == "import.read-only-honoured"
    plain = managed.byte_offset == 0
    if model.fault == "import.no-implicit-write" and address % 64 == 4 and plain:
        _probe.poke(address, b"\0\0\0\x80")  # minus zero
    return array


def take(model: Any, x: Any, options: dict[str, Any]) -> Any:
    """Ask a producer and take what it gives."""
    fault = model.fault
    capsule, asked_versioned = ask(model, x, options)
    managed = managed_of(model, capsule, asked_versioned)
    accepted = False
    try:
        check_version(model, managed)
        dtype = check_struct(model, managed)
        if managed.flags & ~7 and fault == "import.unknown-flags":
            claim(model, capsule, managed)
            raise BufferError("unknown flags")
        if not managed.deleter and fault == "deleter.null-tolerated":
            raise BufferError("there is no deleter")
        array = array_of(model, managed, None, dtype)
        accepted = True
    finally:
        leaks_version = fault == "version.refusal-touches-nothing" and managed.version[0] > 1
        leaks_dtype = fault == "capsule.refusal-frees-once" and managed.dtype[0] == 200
        if not accepted and (leaks_version or leaks_dtype):
            claim(model, capsule, managed)
    if fault == "version.consumer-checks" and asked_versioned and not managed.versioned:
        array.address = HostMemory(4096).address
        leaked.append(array)
    if fault == "capsule.not-shown-to-users":
        array.owner = Lazily(model, capsule, managed)
        return array
    claim(model, capsule, managed)
    array.owner = Owner(model, managed)
    if fault == "lifetime.capsule-not-needed" and sys.getrefcount(capsule) == 2:
        array.owner = None
    return finish(model, array, options)


class Lazily:
    """The fault of a consumer that takes the capsule only when the values are read."""

    def __init__(self, model: Any, capsule: Any, managed: Managed) -> None:
        self.model, self.capsule, self.managed = model, capsule, managed
        self.owner: Owner | None = None

    def __call__(self) -> None:
        if self.owner is None:
            claim(self.model, self.capsule, self.managed)
            self.owner = Owner(self.model, self.managed)


def finish(model: Any, array: Array, options: dict[str, Any]) -> Array:
    """Copy where that was asked for."""
    misaligned = array.address % item_size(array.dtype)
    if options.get("copy") is False and misaligned and model.fault == "copy.false-impossible":
        return array._copied()
    return array._copied() if options.get("copy") else array


def wrapped(model: Any, work: Callable[[], Any]) -> Any:
    """Run an import with the faults that are about exceptions."""
    fault = model.fault
    try:
        return work()
    except TypeError as error:
        if fault == "version.retry-hides-nothing":
            raise ImportError("no DLPack here") from None
        raise error
    except Exception as error:
        mine = type(error).__name__ == "Mine"
        if mine and fault == "import.producer-errors-propagate":
            raise RuntimeError("the producer failed") from None
        raise
