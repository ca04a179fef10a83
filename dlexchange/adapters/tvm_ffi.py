"""apache-tvm-ffi: exports through ``__dlpack__``, ignores ``stream``."""

from __future__ import annotations

from typing import Any

from . import Route


def classify(cls: type) -> Route | None:
    """Its Tensor orders nothing, so it may be asked before its device is known."""
    if hasattr(cls, "__dlpack__"):
        return Route("dlpack", "tvm_ffi", ignores_stream=True)
    return None


def make(x: Any, stream: Any, copy: bool | None) -> Any:
    """Import a Tensor of ours over its C exchange API."""
    import tvm_ffi

    from .._core import from_dlpack

    return tvm_ffi.from_dlpack(from_dlpack(x, stream=stream, copy=copy))
