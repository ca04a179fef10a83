"""dpnp: SYCL memory, ordered by the queues of dpctl; host memory goes over by a copy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ..backends import table
from ..backends.sycl import Usm
from ..device import DeviceType
from ..errors import CopyError
from . import Route, by_protocol
from .fit import Needs
from .info import Report, has_exchange_api

MODULE = "dpnp"
DISTRIBUTIONS = ("dpnp",)
NEEDS = Needs()
NOTES = ('to the host with copy=True or device="cpu", from it with copy=True',)

_on = threading.local()


def classify(cls: type) -> Route | None:
    """Tell the queue on which an array's work runs; its ``__dlpack__`` orders nothing."""
    if not hasattr(cls, "sycl_queue"):
        return None
    return by_protocol(cls, work_stream=work_stream)


def work_stream(x: Any) -> Any:
    """Return the queue that dpnp submits the array's work to."""
    return x.sycl_queue


def current_stream(to: Any, device: Any) -> Any:
    """Return an array's queue; of dpnp itself the device's default one."""
    queue = None if isinstance(to, (str, type, ModuleType)) else to.sycl_queue
    number = device.id if device.type == DeviceType.ONE_API else 0
    return table.resolve(queue, int(DeviceType.ONE_API), number)


def make(tensor: Any, to: Any) -> Any:
    """Import SYCL memory on the queue of `on_stream`; copy host memory to the default one."""
    import dpnp

    if tensor.device.type != DeviceType.CPU:
        return _view(tensor, _on.queue)
    if not tensor.is_copied:
        raise CopyError("dpnp takes SYCL memory only: pass copy=True to copy host memory")
    from .._core import to_numpy

    return dpnp.asarray(to_numpy(tensor))


@contextmanager
def on_stream(to: Any, device: Any, stream: Any) -> Iterator[Any]:
    """Give the array a queue; None: the one dpctl keeps for the device."""
    named = stream or table.resolve(None, device.type, device.id)
    _on.queue = table.native(named)
    try:
        yield named
    finally:
        _on.queue = None


def _view(tensor: Any, queue: Any) -> Any:
    """View the memory of a Tensor on a queue, which waits for it.

    dpnp's own ``from_dlpack`` gives all that it imports the device's default queue, and
    refuses some negative strides.
    """
    import dpctl.memory
    import dpnp

    capsule = tensor.__dlpack__(stream=queue, max_version=(1, 3))
    dtype = dpnp.dtype(tensor.dtype.name)
    if 0 in tensor.shape:
        return dpnp.empty(tensor.shape, dtype=dtype, sycl_queue=queue)
    steps = [step * dtype.itemsize for step in tensor.strides]
    extents = [(n - 1) * step for n, step in zip(tensor.shape, steps, strict=True)]
    low, high = sum(min(0, e) for e in extents), sum(max(0, e) for e in extents)
    usm = Usm(tensor.data_ptr + low, high - low + dtype.itemsize, queue, owner=capsule)
    array = dpnp.ndarray(
        tensor.shape,
        dtype=dtype,
        buffer=dpctl.memory.as_usm_memory(usm),
        offset=-low // dtype.itemsize,
        strides=tuple(steps),
    )
    if tensor.readonly:
        array.flags.writable = False
    return array


def report(module: ModuleType) -> Report:
    """Devices are not asked for: that would start the SYCL runtime."""
    return Report(devices=(), exchange_api=has_exchange_api(module.ndarray))


def devices(module: ModuleType) -> tuple[str, ...]:
    """List the SYCL devices; starts the SYCL runtime."""
    import dpctl

    return tuple(f"{device.filter_string}" for device in dpctl.get_devices())
