"""Looking inside a capsule: names, structs, memory, dtypes."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from . import _probe
from .verdict import Untested

__all__ = ["DTYPES", "Managed", "decode", "encode", "gather", "item_size", "peek", "read_dims"]

LEGACY, VERSIONED = "dltensor", "dltensor_versioned"

#: name -> (code, bits, lanes), and the minor version of DLPack 1 that brought the code.
DTYPES: dict[str, tuple[int, int, int]] = {
    "int8": (0, 8, 1),
    "int16": (0, 16, 1),
    "int32": (0, 32, 1),
    "int64": (0, 64, 1),
    "uint8": (1, 8, 1),
    "uint16": (1, 16, 1),
    "uint32": (1, 32, 1),
    "uint64": (1, 64, 1),
    "float16": (2, 16, 1),
    "float32": (2, 32, 1),
    "float64": (2, 64, 1),
    "bfloat16": (4, 16, 1),
    "complex64": (5, 64, 1),
    "complex128": (5, 128, 1),
    "bool": (6, 8, 1),
    "float8_e4m3fn": (10, 8, 1),
    "float8_e5m2": (12, 8, 1),
}
FIRST_CODE_OF_MINOR_1 = 7  # the 8-bit, 6-bit and 4-bit floats

_FORMATS = {
    "int8": "b", "int16": "h", "int32": "i", "int64": "q", "uint8": "B", "uint16": "H",
    "uint32": "I", "uint64": "Q", "float16": "e", "float32": "f", "float64": "d",
    "bool": "?",
}  # fmt: skip
#: Small floats that struct does not know: exponent bits, mantissa bits, bias.
_SMALL = {"bfloat16": (8, 7, 127), "float8_e4m3fn": (4, 3, 7), "float8_e5m2": (5, 2, 15)}


def item_size(dtype: str) -> int:
    """Size of one element in bytes."""
    return DTYPES[dtype][1] // 8


def encode(value: float, dtype: str) -> bytes:
    """One element in memory; small non-negative integers fit every dtype."""
    if dtype in _FORMATS:
        cast = float if dtype.startswith("float") else bool if dtype == "bool" else int
        return struct.pack("=" + _FORMATS[dtype], cast(value))
    if dtype.startswith("complex"):
        part = "f" if dtype == "complex64" else "d"
        return struct.pack(f"={part}{part}", float(value), 0.0)
    exponent_bits, mantissa_bits, bias = _SMALL[dtype]
    bits = 0
    if value:
        exponent = int(value).bit_length() - 1
        mantissa = round((value / 2**exponent - 1) * 2**mantissa_bits)
        bits = (exponent + bias) << mantissa_bits | mantissa
    return bits.to_bytes((1 + exponent_bits + mantissa_bits) // 8, "little")


def decode(item: bytes, dtype: str) -> float | complex:
    """The value of one element in memory."""
    if dtype in _FORMATS:
        value: float = struct.unpack("=" + _FORMATS[dtype], item)[0]
        return value
    if dtype.startswith("complex"):
        part = "f" if dtype == "complex64" else "d"
        return complex(*struct.unpack(f"={part}{part}", item))
    exponent_bits, mantissa_bits, bias = _SMALL[dtype]
    bits = int.from_bytes(item, "little")
    fraction = (bits & (1 << mantissa_bits) - 1) / 2**mantissa_bits
    exponent = bits >> mantissa_bits & (1 << exponent_bits) - 1
    sign = -1.0 if bits >> (exponent_bits + mantissa_bits) else 1.0
    if exponent == 0:
        return math.ldexp(sign * fraction, 1 - bias)
    return math.ldexp(sign * (1 + fraction), exponent - bias)


@dataclass(frozen=True)
class Managed:
    """A managed tensor as its struct says."""

    address: int
    versioned: bool
    version: tuple[int, int]
    flags: int
    manager_ctx: int
    deleter: int
    data: int
    device: tuple[int, int]
    ndim: int
    dtype: tuple[int, int, int]
    shape_at: int
    strides_at: int
    byte_offset: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, read from the memory that the struct points to."""
        return read_dims(self.shape_at, self.ndim)

    @property
    def strides(self) -> tuple[int, ...] | None:
        """The strides in elements, or None for a NULL pointer."""
        return read_dims(self.strides_at, self.ndim) if self.strides_at else None

    @property
    def first(self) -> int:
        """Address of element zero."""
        return self.data + self.byte_offset


def read_dims(address: int, ndim: int) -> tuple[int, ...]:
    """`ndim` int64 values at an address.

    Raises
    ------
    ValueError
        The memory can not be read.
    """
    if ndim == 0:
        return ()
    return struct.unpack(f"={ndim}q", _probe.memory(address, 8 * ndim))


def read_tensor(content: bytes) -> dict[str, Any]:
    """The fields of a DLTensor (48 bytes)."""
    data, device_type, device_id, ndim, code, bits, lanes, shape, strides, offset = struct.unpack(
        "=QiiiBBHQQQ", content
    )
    return {
        "data": data,
        "device": (device_type, device_id),
        "ndim": ndim,
        "dtype": (code, bits, lanes),
        "shape_at": shape,
        "strides_at": strides,
        "byte_offset": offset,
    }


def read_managed(address: int, versioned: bool) -> Managed:
    """The managed tensor at an address, with no check of its sense."""
    if versioned:
        content = _probe.memory(address, 80)
        major, minor, context, deleter, flags = struct.unpack("=IIQQQ", content[:32])
        tensor = read_tensor(content[32:])
        return Managed(address, True, (major, minor), flags, context, deleter, **tensor)
    content = _probe.memory(address, 64)
    context, deleter = struct.unpack("=QQ", content[48:])
    tensor = read_tensor(content[:48])
    return Managed(address, False, (0, 0), 0, context, deleter, **tensor)


def implausible(managed: Managed, ndim: int) -> str:
    """Why this can not be the struct of an array with `ndim` dimensions, or nothing."""
    if managed.versioned and not 0 < managed.version[0] < 100:
        return f"major version {managed.version[0]}"
    if managed.ndim != ndim:
        return f"ndim {managed.ndim} for an array of {ndim} dimensions"
    for name, at in (("shape", managed.shape_at), ("strides", managed.strides_at)):
        if at and ndim:
            try:
                read_dims(at, ndim)
            except ValueError:
                return f"{name} at the unreadable address {at:#x}"
    return ""


def is_code(address: int) -> bool:
    """Whether an address lies in executable memory of this process."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, rights = line.split()[:2]
            low, high = (int(part, 16) for part in span.split("-"))
            if low <= address < high:
                return "x" in rights
    return False


def peek(capsule: Any, ndim: int) -> Managed:
    """The managed tensor in a capsule.

    Raises
    ------
    Untested
        This is no capsule of a managed tensor; the clauses about that say so themselves.
    """
    named = _probe.capsule_name(capsule)
    if named is None or named[0] not in (LEGACY, VERSIONED):
        raise Untested("the export is no capsule of a managed tensor: see capsule.*")
    address, _ = _probe.capsule_content(capsule)
    managed = read_managed(address, named[0] == VERSIONED)
    reason = implausible(managed, ndim)
    if reason:
        raise Untested(f"the struct can not be read ({reason}): see capsule.name-matches-struct")
    return managed


def positions(shape: Sequence[int], strides: Sequence[int] | None) -> Iterator[int]:
    """Element offsets in C order of the indices."""
    if strides is None:
        steps = [1] * len(shape)
        for i in range(len(shape) - 2, -1, -1):
            steps[i] = steps[i + 1] * shape[i + 1]
        strides = steps
    for index in itertools.product(*(range(extent) for extent in shape)):
        yield sum(i * s for i, s in zip(index, strides, strict=True))


def gather(managed: Managed, dtype: str) -> list[float | complex]:
    """The values of a host tensor as its struct describes them.

    Raises
    ------
    ValueError
        The struct points to memory that can not be read.
    """
    size = item_size(dtype)
    return [
        decode(_probe.memory(managed.first + size * position, size), dtype)
        for position in positions(managed.shape, managed.strides)
    ]
