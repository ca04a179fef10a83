"""numpy: read and made in C (numpy.c)."""

from __future__ import annotations

import sys
from typing import Any

from . import Route

MODULE = "numpy"
DISTRIBUTIONS = ("numpy",)

#: DLPack's code and bits of the types that ml_dtypes adds.
_EXTRA = {
    "bfloat16": (4, 16),
    "float8_e3m4": (7, 8),
    "float8_e4m3": (8, 8),
    "float8_e4m3b11fnuz": (9, 8),
    "float8_e4m3fn": (10, 8),
    "float8_e4m3fnuz": (11, 8),
    "float8_e5m2": (12, 8),
    "float8_e5m2fnuz": (13, 8),
    "float8_e8m0fnu": (14, 8),
    "float6_e2m3fn": (15, 6),
    "float6_e3m2fn": (16, 6),
    "float4_e2m1fn": (17, 4),
    "int4": (0, 4),
    "uint4": (1, 4),
    "int2": (0, 2),
    "uint2": (1, 2),
    "int1": (0, 1),
    "uint1": (1, 1),
}


def classify(cls: type) -> Route | None:
    """Read arrays by their fields; refuse those whose values are not their memory."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not issubclass(cls, numpy.ndarray):
        return None
    if issubclass(cls, numpy.ma.MaskedArray):
        return Route(
            "refuse",
            "numpy",
            prepare="masked arrays cannot be exchanged, since DLPack has no mask: pass "
            "x.filled(value), or x.data and x.mask",
        )
    if getattr(cls, "__dlpack__", None) is not numpy.ndarray.__dlpack__:
        return Route("dlpack", "numpy")
    return Route("numpy", "numpy")


def extra_dtypes() -> list[tuple[int, int, Any]]:
    """List (code, bits, dtype) of ml_dtypes' types; [] where it is not installed."""
    try:
        import ml_dtypes
        import numpy
    except ImportError:
        return []
    return [
        (code, bits, numpy.dtype(getattr(ml_dtypes, name)))
        for name, (code, bits) in _EXTRA.items()
        if hasattr(ml_dtypes, name)
    ]
