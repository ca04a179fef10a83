"""The frameworks, one small file each: what a type is, and who can consume.

The C core asks here once a type (`classify`) and once a consumer (`consumer`), and keeps
the answer. Nothing here runs on the hot path, and nothing here imports a framework that
the program has not imported, but where the caller names it as a consumer.

An adapter is a module with

- ``MODULE`` and ``DISTRIBUTIONS``: the import name, and the names on the package index
  (none where it is no framework of its own);
- ``classify(cls)``: the `Route` of a type, or None for what the type itself offers;
- ``make(tensor, to)`` and ``NEEDS``: how a Tensor becomes an array, and what it must be
  like; without them the framework is no consumer;
- ``on_stream(to, device, stream)``: a context manager that makes the framework work on a
  stream (None: its current one) and yields that; without it the framework's stream is
  not known, and device memory is given to it in the order it asks for itself;
- ``copied(array)``: copies an array of device memory on the framework's current stream;
  without it ``copy=True`` is refused for such memory;
- ``consumer_functions()``: what cupy.c calls where nothing else is said, () for nothing;
- ``current_stream(to, device)``: the framework's current stream, with what owns its handle;
- ``stream_of(x)``: the stream of an array whose ``__cuda_array_interface__`` names none
  although work may be pending;
- ``copy_across(tensor, stream)``: copies memory of any device to that of a stream, in order;
- ``report(module)`` and ``NOTES``: what `dlexchange.frameworks()` shows;
- ``devices(module)``: what ``python -m dlexchange`` shows; it may start a driver.

Whatever it does not need may be missing.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from ..device import Device, DeviceType
from ..errors import CopyError, ExchangeError
from .fit import Needs, device_of, through
from .streams import current

__all__ = ["ADAPTERS", "Route", "adapter_of", "classify", "consumer", "place"]

#: Name of the adapter module by the first part of a type's ``__module__``.
ADAPTERS = {
    "dlexchange": "simulated",
    "numpy": "numpy",
    "torch": "torch",
    "jax": "jax",
    "jaxlib": "jax",
    "cupy": "cupy",
    "tvm_ffi": "tvm_ffi",
    "array_api_strict": "array_api_strict",
    "pyarrow": "pyarrow",
    "awkward": "awkward",
    "mlx": "mlx",
    "tensorflow": "tensorflow",
    "paddle": "paddle",
    "onnxruntime": "onnxruntime",
    "warp": "warp",
    "drjit": "drjit",
    "nanobind": "nanobind",
    "cuda": "cuda_core",
    "numba": "numba_cuda",
    "dpnp": "dpnp",
}


class Route(NamedTuple):
    """How the core reads a type. The fields are those `entry_fill` of type_cache.c reads."""

    route: str
    framework: str
    exchange_api: Any = None
    prepare: Callable[[Any], Any] | str | None = None
    """Route "prepare": makes a producer of the object. "refuse": the reason. Else: called
    with the object before its memory is read, raises where that is not its values."""
    immutable: bool = False
    ignores_stream: bool = False
    torch_guards: bool = False
    minus_one_is_handle: bool = False
    work_stream: Callable[[Any], Any] | None = None
    allocation_stream: Callable[[Any], Any] | None = None


def adapter_of(cls: type) -> ModuleType | None:
    """Return the adapter module for a type, or None where no file knows it."""
    return _adapter(_known_top(cls))


def classify(cls: type) -> Route:
    """Say how arrays of this type are read. Asked once a type."""
    adapter = adapter_of(cls)
    if adapter is not None and hasattr(adapter, "classify"):
        route: Route | None = adapter.classify(cls)
        if route is not None:
            return route
    return by_protocol(cls)


def by_protocol(cls: type, **fields: Any) -> Route:
    """Route a type by what it offers: the C exchange API, ``__dlpack__``, or nothing."""
    name = (cls.__module__ or "").partition(".")[0]
    api = getattr(cls, "__dlpack_c_exchange_api__", None)
    if type(api).__name__ == "PyCapsule" and not _exports_its_own_way(cls):
        return Route("exchange", name, api, **fields)
    if getattr(cls, "__dlpack__", None) is not None:
        return Route("dlpack", name, **fields)
    if hasattr(cls, "__cuda_array_interface__"):
        return Route("cai", name, **fields)
    return Route("refuse", name)


def _exports_its_own_way(cls: type) -> bool:
    """Tell whether a subclass gave itself a ``__dlpack__`` below the table it inherits."""
    for base in cls.__mro__:
        if "__dlpack_c_exchange_api__" in vars(base):
            return False
        if "__dlpack__" in vars(base):
            return True
    return False


#: Routes that are in C; the numbers are `dlx_consumer` of source.h.
_IN_C = {"dlexchange": 0, "numpy": 1, "torch": 2, "jax": 3}


def consumer(to: Any) -> Any:
    """Say how arrays are made for `to`: a number of `_IN_C`, a callable, or a tuple.

    The callable takes (x, stream, copy). A tuple ends in one, and serves hand-offs of which
    nothing else is said before: by the capsule of a C exchange API whose streams are never
    destroyed, by the functions that cupy.c calls, or by what `fit.through` gives. Asked once
    for each name, module and type.
    """
    name = _framework_name(to)
    if name in _IN_C and not hasattr(to, "framework"):  # those of dlexchange.testing
        return _IN_C[name]
    if name in _IN_C:
        from . import simulated

        api = getattr(to, "__dlpack_c_exchange_api__", None)
        make = through(
            "simulated",
            simulated.make,
            simulated.NEEDS,
            to,
            simulated.on_stream,
            simulated.copied,
        )
        return make if api is None else (api, make[-1])
    adapter = _adapter(name)
    wanted = getattr(adapter, "MODULE", name)
    try:
        framework = importlib.import_module(wanted)
    except (ImportError, ValueError) as error:
        raise ExchangeError(
            f"cannot convert to {to!r}: expected a framework's name, module, array type or "
            f"array, and no {wanted!r} is installed"
        ) from error
    if adapter is not None and hasattr(adapter, "make"):
        shown = adapter.__name__.rpartition(".")[2]
        on_stream = getattr(adapter, "on_stream", None)
        copied = getattr(adapter, "copied", None)
        otherwise = through(shown, adapter.make, adapter.NEEDS, to, on_stream, copied)
        functions = adapter.consumer_functions() if hasattr(adapter, "consumer_functions") else ()
        return (*functions, otherwise) if functions else otherwise
    if hasattr(framework, "from_dlpack"):
        return through(name, lambda tensor, _to: framework.from_dlpack(tensor), Needs(), to)
    raise ExchangeError(f"cannot convert to {to!r}: {wanted} has no from_dlpack")


def place(x: Any, device: Any, stream: Any, copy: bool | None) -> Any:
    """Make a Tensor of `x` on `device`; the core calls this where a device was named."""
    from .._core import _count_copy, from_dlpack

    wanted = Device.of(device)
    here = device_of(x)
    if here in (None, wanted):
        tensor = from_dlpack(x, stream=stream, copy=copy)
        if tensor.device == wanted:
            return tensor
        here = tensor.device
    if copy is False:
        raise CopyError(
            f"x is on {here}: putting it on {wanted} needs a copy, and copy=False forbids it"
        )
    if here.type == DeviceType.ONE_API and wanted.type == DeviceType.CPU:
        if hasattr(x, "sycl_queue"):  # its copy waits for dpnp's own work only
            current(x, None).synchronize()
        capsule = x.__dlpack__(max_version=(1, 3), dl_device=tuple(wanted), copy=copy)
        _count_copy()
        return from_dlpack(capsule)
    how = "dx.to_numpy(x, copy=True) or await dx.host(x) does"
    if wanted.type != DeviceType.CPU:
        how = f"a framework that drives {wanted} must"
    raise CopyError(f"device= does not copy from {here} to {wanted}: {how}")


def read_cuda_array_interface(x: Any) -> tuple[Any, ...]:
    """Read ``x.__cuda_array_interface__`` for the core (cai.c)."""
    from .cuda_array_interface import read

    interface = read(x)
    if interface[-1] is None:
        stream_of = getattr(adapter_of(type(x)), "stream_of", None)
        if stream_of is not None:
            return (*interface[:-1], stream_of(x))
    return interface


def show_cuda_array_interface(tensor: Any, stream: int | None) -> dict[str, Any]:
    """Make a Tensor's ``__cuda_array_interface__`` for the core (cai.c)."""
    from .cuda_array_interface import show

    return show(tensor, stream)


def copy_torch(tensor: Any, stream: Any) -> Any:
    """Copy a torch tensor in device memory on the consumer's stream (torch.c)."""
    from .torch import copy

    return copy(tensor, stream)


def jax_of_device_tensor(tensor: Any, copy: bool | None) -> Any:
    """Make a jax array of device memory (jax.c)."""
    from .jax import from_device_tensor

    return from_device_tensor(tensor, copy)


def extra_numpy_dtypes() -> list[tuple[int, int, Any]]:
    """List the dtypes numpy shows through ml_dtypes: (code, bits, dtype); [] without it."""
    from .numpy import extra_dtypes

    return extra_dtypes()


def _adapter(name: str) -> ModuleType | None:
    module = ADAPTERS.get(name)
    return importlib.import_module(f"{__name__}.{module}") if module is not None else None


def _known_top(cls: type) -> str:
    """Return the top-level package of a type or of the first base that has an adapter."""
    tops = [(base.__module__ or "").partition(".")[0] for base in cls.__mro__]
    if hasattr(cls, "__dlexchange__"):  # an author's class: its mixin is not its framework
        tops = [top for top in tops if top != "dlexchange"]
    return next((top for top in tops if top in ADAPTERS or top in _IN_C), tops[0])


def _framework_name(to: Any) -> str:
    if isinstance(to, str):
        name = to.replace("-", "_").partition(".")[0]
    elif isinstance(to, ModuleType):
        name = to.__name__.partition(".")[0]
    else:
        name = _known_top(to if isinstance(to, type) else type(to))
    return {"jaxlib": "jax", "cuda_core": "cuda", "numba_cuda": "numba"}.get(name, name)
