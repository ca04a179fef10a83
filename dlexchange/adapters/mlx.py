"""mlx: exports share memory, imports on the CPU always copy."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..errors import ExchangeError
from .fit import Needs
from .info import Report, has_exchange_api

MODULE = "mlx.core"
DISTRIBUTIONS = ("mlx",)
NEEDS = Needs(layout="forward", copies=True)
NOTES = ("imports of host memory are copies, which mlx makes in every case",)


def make(tensor: Any, to: Any) -> Any:
    """Import without the rounding that mlx would do by itself.

    Its from_dlpack makes float32 of float64 (1e300 becomes inf) and complex64 of
    complex128; only the first has a type of its own in mlx.
    """
    import mlx.core as mx

    if tensor.dtype.name == "complex128":
        raise ExchangeError(
            "mlx has no complex128 and would round to complex64; convert first if that is meant"
        )
    if tensor.dtype.name == "float64":
        return mx.array(tensor, dtype=mx.float64)
    return mx.from_dlpack(tensor)


def report(module: ModuleType) -> Report:
    """Look at the array type."""
    return Report(exchange_api=has_exchange_api(module.array))


def devices(module: ModuleType) -> tuple[str, ...]:
    """Name the default device."""
    return (str(module.default_device().type).rpartition(".")[2],)
