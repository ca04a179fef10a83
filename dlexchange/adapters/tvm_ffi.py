"""apache-tvm-ffi: exports from C where its handle is found; orders nothing itself."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from types import ModuleType
from typing import Any

from . import Route
from .fit import Needs
from .info import Report, has_exchange_api

MODULE = "tvm_ffi"
DISTRIBUTIONS = ("apache-tvm-ffi",)
NEEDS = Needs(alignment=0, keeps_read_only=False, keeps_padding=False)
NOTES = ("device memory of it needs stream=",)


def classify(cls: type) -> Route | None:
    """Export from C, by the function that its own ``__dlpack__`` calls.

    Subclasses with a ``__dlpack__`` of their own are asked for that. Either way its tensors
    order nothing, so they may be asked before their device is known.
    """
    own = getattr(cls, "__dlpack__", None)
    if own is None:
        return None
    if own is sys.modules["tvm_ffi"].Tensor.__dlpack__ and (api := exchange_api()) is not None:
        return Route("exchange", "tvm_ffi", api, ignores_stream=True)
    return Route("dlpack", "tvm_ffi", ignores_stream=True)


@cache
def exchange_api() -> Any:
    """Make a C exchange API over tvm-ffi's own C function; None where that is not found."""
    from .._core import _tvm_ffi_locate

    try:
        import tvm_ffi

        library = ctypes.CDLL(tvm_ffi.libinfo.find_libtvm_ffi())
        export = ctypes.cast(library.TVMFFITensorToDLPackVersioned, ctypes.c_void_p).value or 0
        tensors = [tvm_ffi.from_dlpack(_bytes(n)) for n in range(1, 6)]
        return _tvm_ffi_locate(export, [(t, t.__chandle__()) for t in tensors])
    except (ImportError, AttributeError, OSError, RuntimeError):  # another version of it
        return None


def make(tensor: Any, to: Any) -> Any:
    """Import a Tensor of ours over its C exchange API."""
    import tvm_ffi

    return tvm_ffi.from_dlpack(tensor)


def report(module: ModuleType) -> Report:
    """Tell how its tensors are read."""
    how = "from C" if exchange_api() is not None else "by its __dlpack__ (slower)"
    return Report(
        exchange_api=has_exchange_api(module.Tensor),
        notes=(f"exports {how}, imports over dlexchange's C exchange API",),
    )


def _bytes(n: int) -> Any:
    """Make a producer of `n` bytes on the host."""
    from .._core import Protocols
    from .describe import describe_foreign

    class Bytes(Protocols):
        def __init__(self) -> None:
            self.memory = bytearray(n)

        def __dlexchange__(self) -> Any:
            return describe_foreign(self.memory, None)(self.memory)

    return Bytes()
