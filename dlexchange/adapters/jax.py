"""jax: read and made in C (jax.c) through jaxlib's own functions where they behave."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..errors import CopyError, ExchangeError
from . import Route
from .fit import legacy_capsule, needs_host, on_host
from .info import Report, route_note

MODULE = "jax"
DISTRIBUTIONS = ("jax",)

#: Why the fast route is not used; empty where it is, None where nobody asked yet.
fallback_reason: str | None = None


def classify(cls: type) -> Route | None:
    """Read jax's concrete arrays in C; anything else of jax has no memory to share."""
    if "jax" not in sys.modules:
        return None
    from .._core import _jax_load

    if cls is getattr(sys.modules.get("jaxlib._jax"), "ArrayImpl", None) and _jax_load():
        return Route("jax", "jax", prepare=_require_whole(), immutable=True)
    if hasattr(cls, "__dlpack__") and not issubclass(cls, sys.modules["jax"].core.Tracer):
        return Route("dlpack", "jax", immutable=True, minus_one_is_handle=True)
    return Route(
        "refuse",
        "jax",
        prepare="this jax value has no memory to share (a tracer inside jit or grad, or a "
        "key array); exchange concrete arrays outside of transformations",
    )


def _require_whole() -> Callable[[Any], None] | None:
    """Return the check for sharded arrays, or None where one device cannot have any."""
    import jax

    def check(x: Any) -> None:
        count = len(x.sharding.device_set)
        if count > 1 and not x.is_fully_replicated:
            raise ExchangeError(
                f"this jax array is sharded over {count} devices, none of which has all of it: "
                "exchange its shards (x.addressable_shards[i].data), or gather it first with "
                "jax.device_put(x, device)"
            )

    return check if max(jax.device_count(), jax.device_count("cpu")) > 1 else None


def report(module: ModuleType) -> Report:
    """Tell of devices only where the program has started them, since jax starts all."""
    from jax._src import xla_bridge

    started = getattr(xla_bridge, "backends_are_initialized", lambda: False)()
    note = route_note(fallback_reason)
    return Report(devices=devices(module) if started else (), notes=(note,))


def devices(module: ModuleType) -> tuple[str, ...]:
    """List the devices; starts every backend."""
    host = module.local_devices(backend="cpu")
    return tuple(dict.fromkeys(_name(d) for d in (*host, *module.local_devices())))


def _name(device: Any) -> str:
    return "cpu" if device.platform == "cpu" else f"{device.platform}:{device.id}"


def fast_route() -> tuple[bool, Any, Any, Any, Any, Any, Any, bool]:
    """Find and test jaxlib's functions, once.

    Returns
    -------
    tuple
        (usable, whole array, export, import, CPU device, public import, finish, five
        arguments)
    """
    global fallback_reason
    try:
        route = _probe()
        fallback_reason = ""
        return route
    except Exception as error:
        fallback_reason = f"{type(error).__name__}: {error}"
        return (False, None, None, None, None, from_tensor, _canonical, False)


def _probe() -> tuple[bool, Any, Any, Any, Any, Any, Any, bool]:
    import jax
    import numpy as np
    from jax._src.lib import _jax, jaxlib_extension_version

    whole = _jax.ArrayImpl._fully_replicated_shard
    export = _jax.buffer_to_dlpack_managed_tensor
    load = _jax.dlpack_managed_tensor_to_buffer
    device = jax.local_devices(backend="cpu")[0]
    five = jaxlib_extension_version >= 467
    source = jax.device_put(np.arange(6, dtype=np.float32).reshape(2, 3), device)
    capsule = export(whole(source))
    if '"dltensor"' not in repr(capsule):
        raise RuntimeError("jaxlib's export makes capsules of another kind")
    arguments = (capsule, device, None, None) + ((1,) if five else ())
    twin = load(*arguments)
    same = twin.unsafe_buffer_pointer() == source.unsafe_buffer_pointer()
    if not same or not np.array_equal(np.asarray(twin), np.asarray(source)):
        raise RuntimeError("the round trip through jaxlib's functions did not keep the array")
    if twin.sharding != source.sharding or twin.committed is not True:
        raise RuntimeError("jaxlib's import makes arrays that jax's own would not")
    return (True, whole, export, load, device, from_tensor, _canonical, five)


def from_tensor(tensor: Any, copy: bool | None) -> Any:
    """Import through jax's public function."""
    import jax

    is_wide = tensor.dtype.bits > (64 if tensor.dtype.name.startswith("complex") else 32)
    if is_wide and not jax.config.jax_enable_x64:
        _count_narrowing(copy)
    return jax.dlpack.from_dlpack(_Readable(tensor), copy=copy)


class _Readable:
    """A Tensor as jax asks for it: an unversioned capsule, also of read-only memory.

    jax does not write to what it imports.
    """

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self._tensor.__dlpack_device__()
        return device

    def __dlpack__(self, **_keywords: Any) -> Any:
        return legacy_capsule(self._tensor)


#: Device memory that jax arrays share, kept until the process ends: when jax runs the
#: deleter of foreign memory is not known.
_shared_on_device: list[Any] = []


def from_device_tensor(tensor: Any, copy: bool | None) -> Any:
    """Import device memory; a copy unless ``copy=False`` forbids it.

    jax passes its own stream to the Tensor's ``__dlpack__``, so the import is ordered.
    """
    import jax

    if needs_host(tensor):
        from .._core import to_jax

        return to_jax(on_host(tensor, copy))
    if copy is False:
        _shared_on_device.append(tensor)
        return jax.dlpack.from_dlpack(tensor, copy=False)
    return jax.dlpack.from_dlpack(tensor, copy=True)


def _canonical(array: Any, copy: bool | None) -> Any:
    """Apply jax's own rule for 64-bit values where x64 is off, as its from_dlpack does."""
    import jax

    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if dtype == array.dtype:
        return array
    _count_narrowing(copy)
    return jax.numpy.asarray(array, dtype=dtype)


def _count_narrowing(copy: bool | None) -> None:
    from .._core import _count_copy

    if copy is False:
        raise CopyError(
            "jax without x64 narrows 64-bit values, which is a copy, and copy=False forbids it; "
            'call jax.config.update("jax_enable_x64", True) first'
        )
    _count_copy()
