"""Devices and element types, as DLPack numbers them."""

from __future__ import annotations

import sys
from enum import IntEnum
from typing import Any, NamedTuple

__all__ = ["DType", "Device", "DeviceType"]


class DeviceType(IntEnum):
    """DLDeviceType of DLPack 1.3."""

    CPU = 1
    CUDA = 2
    CUDA_HOST = 3
    OPENCL = 4
    VULKAN = 7
    METAL = 8
    VPI = 9
    ROCM = 10
    ROCM_HOST = 11
    EXT_DEV = 12
    CUDA_MANAGED = 13
    ONE_API = 14
    WEB_GPU = 15
    HEXAGON = 16
    MAIA = 17
    TRN = 18


class Device(NamedTuple):
    """A device: ``Device.of("cuda:1")``, ``Device.of((2, 1))``; prints as "cuda:1"."""

    type: int
    id: int = 0

    @classmethod
    def of(cls, spec: Any) -> Device:
        """Read a device out of what people write.

        Parameters
        ----------
        spec : Device, str, tuple of int, or object with ``__dlpack_device__``
            "cpu", "cuda", "cuda:1", "rocm:0", "oneapi:0", (2, 1), ...

        Raises
        ------
        ValueError
            The device is not one that DLPack names.
        """
        if hasattr(spec, "__dlpack_device__"):
            return cls.of(tuple(spec.__dlpack_device__()))
        aliases = {"gpu": "cuda", "hip": "rocm", "sycl": "one_api", "oneapi": "one_api"}
        try:
            if isinstance(spec, tuple):
                kind, index = spec
            else:
                name, _, number = str(spec).lower().partition(":")
                kind, index = DeviceType[aliases.get(name, name).upper()], number or 0
            return cls(int(DeviceType(int(kind))), int(index))
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"unknown device {spec!r}: write 'cpu', 'cuda:0' or a DLPack pair like (2, 0)"
            ) from None

    def __str__(self) -> str:
        try:
            name = DeviceType(self.type).name.lower()
        except ValueError:
            name = f"device type {self.type}"
        return name if name == "cpu" and self.id == 0 else f"{name}:{self.id}"


_CODES = (
    "int",
    "uint",
    "float",
    "opaque",
    "bfloat",
    "complex",
    "bool",
    "float8_e3m4",
    "float8_e4m3",
    "float8_e4m3b11fnuz",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float6_e2m3fn",
    "float6_e3m2fn",
    "float4_e2m1fn",
)


class DType(NamedTuple):
    """An element type: DLPack's (code, bits, lanes); prints as "float32"."""

    code: int
    bits: int
    lanes: int = 1

    @classmethod
    def of(cls, spec: Any) -> DType:
        """Read an element type out of what people write.

        Parameters
        ----------
        spec : DType, str, tuple of int, or dtype of a framework
            "float32", "bfloat16", "<f4" (native order only), (2, 32), (2, 32, 1), ...

        Raises
        ------
        ValueError
            DLPack has no such type.
        """
        if isinstance(spec, tuple) and len(spec) in (2, 3):
            return cls(*(int(field) for field in spec))
        name = str(spec if isinstance(spec, str) else getattr(spec, "name", spec))
        name = name.rpartition(".")[2]  # "torch.float32"
        found = _BY_NAME.get(name) or _of_typestr(name)
        if found is None or getattr(spec, "isnative", True) is not True:
            raise ValueError(
                f"unknown dtype {spec!r}: write a name such as 'float32', in native byte order, "
                "or DLPack's (code, bits)"
            )
        return found

    @property
    def name(self) -> str:
        """The field's name of the type, such as "float32" or "bfloat16"."""
        name = _CODES[self.code] if self.code < len(_CODES) else f"code{self.code}_"
        if self.code in (0, 1, 2, 4, 5):
            name += str(self.bits)
        return name if self.lanes == 1 else f"{name}x{self.lanes}"

    def __str__(self) -> str:
        return self.name


_WIDTHS = {0: (8, 16, 32, 64), 1: (8, 16, 32, 64), 2: (16, 32, 64), 4: (16,), 5: (64, 128)}
_BY_NAME = {
    dtype.name: dtype
    for code, name in enumerate(_CODES)
    if name != "opaque"
    for bits in _WIDTHS.get(code, (int(name[5]) if name.startswith("float") and name[5:] else 8,))
    for dtype in (DType(code, bits),)
}


def _of_typestr(text: str) -> DType | None:
    """Read an array interface's typestr in native byte order, such as "<f4"."""
    native = "<" if sys.byteorder == "little" else ">"
    kind = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}.get(text[1:2])
    if kind is None or not text[2:].isdigit() or text[0] not in (native, "|", "="):
        return None
    dtype = DType(kind, 8 * int(text[2:]))
    if dtype.name not in _BY_NAME or (text[0] == "|" and dtype.bits != 8):
        return None
    return dtype
