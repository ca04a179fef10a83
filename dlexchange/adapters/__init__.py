"""The frameworks, one small file each: what a type is, and who can consume.

The C core asks here once a type (`classify`) and once a consumer (`consumer`), and keeps
the answer. Nothing here runs on the hot path, and nothing here imports a framework that
the program has not imported, but where the caller names it as a consumer.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from ..device import Device
from ..errors import CopyError, ExchangeError

__all__ = ["ADAPTERS", "Route", "adapter_of", "classify", "consumer", "place"]

#: Name of the adapter module by the first part of a type's ``__module__``.
ADAPTERS = {
    "numpy": "numpy",
    "torch": "torch",
    "jax": "jax",
    "jaxlib": "jax",
    "cupy": "cupy",
    "tvm_ffi": "tvm_ffi",
}


class Route(NamedTuple):
    """How the core reads a type. The fields are those `entry_fill` of consume.c reads."""

    route: str
    framework: str
    exchange_api: Any = None
    prepare: Callable[[Any], Any] | str | None = None
    immutable: bool = False
    ignores_stream: bool = False
    torch_guards: bool = False


def adapter_of(cls: type) -> ModuleType | None:
    """Return the adapter module for a type, or None where no file knows it."""
    for base in cls.__mro__:
        name = ADAPTERS.get((base.__module__ or "").partition(".")[0])
        if name is not None:
            return importlib.import_module(f"{__name__}.{name}")
    return None


def classify(cls: type) -> Route:
    """Say how arrays of this type are read. Asked once a type."""
    adapter = adapter_of(cls)
    if adapter is not None and hasattr(adapter, "classify"):
        route: Route | None = adapter.classify(cls)
        if route is not None:
            return route
    name = (cls.__module__ or "").partition(".")[0]
    api = getattr(cls, "__dlpack_c_exchange_api__", None)
    if type(api).__name__ == "PyCapsule":
        return Route("exchange", name, api)
    if hasattr(cls, "__dlpack__"):
        return Route("dlpack", name)
    return Route("refuse", name)


#: Routes that are in C; the numbers are `dlx_consumer` of produce.h.
_IN_C = {"dlexchange": 0, "numpy": 1, "torch": 2, "jax": 3}


def _framework_name(to: Any) -> str:
    if isinstance(to, str):
        name = to
    elif isinstance(to, ModuleType):
        name = to.__name__
    else:
        name = (to if isinstance(to, type) else type(to)).__module__ or ""
    name = name.partition(".")[0]
    return {"jaxlib": "jax"}.get(name, name)


def consumer(to: Any) -> Any:
    """Say how arrays are made for `to`: a number of `_IN_C`, or a callable.

    The callable takes (x, stream, copy). Asked once for each `to` that can be hashed.
    """
    name = _framework_name(to)
    if name in _IN_C:
        return _IN_C[name]
    module = ADAPTERS.get(name)
    if module is not None:
        adapter = importlib.import_module(f"{__name__}.{module}")
        if hasattr(adapter, "make"):
            return adapter.make
    try:
        framework = importlib.import_module(name)
    except (ImportError, ValueError) as error:
        raise ExchangeError(
            f"cannot convert to {to!r}: no framework {name!r} is installed"
        ) from error
    if not hasattr(framework, "from_dlpack"):
        raise ExchangeError(f"cannot convert to {to!r}: {name} has no from_dlpack")
    return through_from_dlpack(framework.from_dlpack)


def through_from_dlpack(from_dlpack: Callable[[Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """Make a consumer of a framework's public from_dlpack, fed with our Tensor."""

    def make(x: Any, stream: Any, copy: bool | None) -> Any:
        from .._core import from_dlpack as neutral

        return from_dlpack(neutral(x, stream=stream, copy=copy))

    return make


def place(x: Any, device: Any, stream: Any, copy: bool | None) -> Any:
    """Make a Tensor of `x` on `device`; the core calls this where a device was named."""
    from .._core import from_dlpack

    wanted = Device.of(device)
    tensor = from_dlpack(x, stream=stream, copy=copy)
    if tensor.device == wanted:
        return tensor
    if copy is False:
        raise CopyError(
            f"x is on {tensor.device}: putting it on {wanted} needs a copy, and copy=False "
            "forbids it"
        )
    raise CopyError(f"dlexchange cannot copy from {tensor.device} to {wanted} yet")


def extra_numpy_dtypes() -> list[tuple[int, int, Any]]:
    """List the dtypes numpy shows through ml_dtypes: (code, bits, dtype); [] without it."""
    from .numpy import extra_dtypes

    return extra_dtypes()
