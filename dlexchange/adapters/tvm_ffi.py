"""apache-tvm-ffi: exports through ``__dlpack__``, ignores ``stream``."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from . import Route
from .fit import Needs
from .info import Report, has_exchange_api

MODULE = "tvm_ffi"
DISTRIBUTIONS = ("apache-tvm-ffi",)
NEEDS = Needs(alignment=0, keeps_read_only=False, keeps_padding=False)
NOTES = ("imports over dlexchange's C exchange API; device memory of it needs stream=",)


def classify(cls: type) -> Route | None:
    """Its Tensor orders nothing, so it may be asked before its device is known."""
    if hasattr(cls, "__dlpack__"):
        return Route("dlpack", "tvm_ffi", ignores_stream=True)
    return None


def make(tensor: Any, to: Any) -> Any:
    """Import a Tensor of ours over its C exchange API."""
    import tvm_ffi

    return tvm_ffi.from_dlpack(tensor)


def report(module: ModuleType) -> Report:
    """Look at the tensor type."""
    return Report(exchange_api=has_exchange_api(module.Tensor))
