"""Streams of the frameworks: from what people pass to a dlexchange.Stream.

`resolve` is asked by the core for each `stream` argument that is neither one of ours nor an
integer; `current` by `dlexchange.current_stream`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ..backends import table
from ..backends.promise import Promise
from ..device import Device, DeviceType
from ..errors import StreamError

__all__ = ["current", "resolve"]


def _cuda_stream_protocol(x: Any) -> int | None:
    method = getattr(x, "__cuda_stream__", None)
    if method is None:
        return None
    pair = method() if callable(method) else method
    return int(pair[1])


def _attribute(name: str) -> Callable[[Any], int | None]:
    def read(x: Any) -> int | None:
        value = getattr(x, name, None)
        value = getattr(value, "value", value)  # ctypes, as numba's handles
        if callable(value):
            return None
        try:
            return None if value is None else int(value)
        except (TypeError, ValueError):
            return None

    return read


#: Ways to a CUDA or HIP handle, in order: the protocol, torch, CuPy, numba, cuda.core.
_WAYS = (
    _cuda_stream_protocol,
    _attribute("cuda_stream"),
    _attribute("ptr"),
    _attribute("handle"),
)


def _device_of_stream(x: Any) -> int | None:
    """Number of the device a framework's stream says it is on, or None."""
    device = getattr(x, "device", None)
    for value in (
        device,
        getattr(device, "index", None),
        getattr(device, "device_id", None),
        getattr(x, "device_index", None),
        getattr(x, "device_id", None),
    ):
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def device_of_stream(x: Any) -> int:
    """Number of the device of a stream that nothing else tells the device of.

    CuPy's default streams stand for those of the device that is current, and say -1.
    """
    cupy = sys.modules.get("cupy")
    number = _device_of_stream(x)
    if number is None and cupy is not None and getattr(x, "device_id", None) == -1:
        number = cupy.cuda.runtime.getDevice()
    return number or 0


#: Device types whose streams are handles of a driver (csrc/gpu_driver.c).
_DRIVEN = (DeviceType.CUDA, DeviceType.ROCM)


def is_registered(device_type: int) -> bool:
    """Tell the core whether a backend orders that device type."""
    return table.registered(device_type) is not None


def gpu_type() -> int:
    """Tell of which kind streams are that do not say: ROCm where that alone is driven."""
    from .._core import _driver_presence

    cuda = _driver_presence(DeviceType.CUDA)
    if cuda < 2 and _driver_presence(DeviceType.ROCM) > cuda:
        return DeviceType.ROCM
    return DeviceType.CUDA


def resolve(x: Any, device_type: int, device_id: int) -> Any:
    """Make a Stream of a framework's stream object, which then owns the handle.

    Raises
    ------
    StreamError
        It is not a stream, or of another device than the memory.
    """
    from .._core import Stream

    if isinstance(x, bool) or isinstance(x, (str, bytes, float)):
        raise TypeError(f"{x!r} is not a stream: pass a stream object or the protocol's integer")
    if device_type not in _DRIVEN:
        return table.resolve(x, device_type, device_id)
    device = Device(device_type, device_id)
    if isinstance(x, Promise):
        return _kept(x, device)
    for way in _WAYS:
        handle = way(x)
        if handle is not None:
            on = _device_of_stream(x)
            if on is not None and on != device_id:
                raise StreamError(
                    f"{x!r} is a stream of device {on}, but the memory is on {device}"
                )
            return Stream.from_handle(device, handle, owner=x)
    raise TypeError(
        f"{type(x).__name__} is not a stream: pass a dlexchange.Stream, an object with "
        "__cuda_stream__, a stream of torch, CuPy, numba or cuda.core, or the protocol's integer"
    )


def _kept(promise: Promise, device: Device) -> Any:
    """Return a stream behind the promise: of ours, empty, once the host has joined it.

    A stream could wait for a flag that the notifier sets (``cuStreamWaitValue32``). But
    CUDA's manual warns that an order which the driver cannot see may deadlock: work of the
    scheduler's own may be queued behind the wait on the device. And a promise that fails
    would have the consumer compute with what is not there; here its error is raised.
    """
    from .._core import Stream

    promise.join()
    return Stream.create(device)


def current(x: Any, device: Any) -> Any:
    """Find the current stream of a framework, or the stream an array is used on.

    An adapter's ``current_stream(to, device)`` says it together with what owns the handle; the
    work stream of an exchange API alone is a bare handle.
    """
    from .. import adapters

    wanted = _device_for(x, device)
    name = adapters._framework_name(x)
    adapter = adapters._adapter(name)
    ask = getattr(adapter, "current_stream", None)
    is_here = getattr(adapter, "MODULE", "sys") in sys.modules
    found = ask(x, wanted) if ask is not None and is_here else _of_array(x, wanted)
    if found is None:
        raise StreamError(f"dlexchange cannot tell the current stream of {name!r}; name one")
    return found


def _device_for(x: Any, device: Any) -> Device:
    if device is None and hasattr(x, "__dlpack_device__") and not isinstance(x, type):
        device = tuple(x.__dlpack_device__())
    wanted = Device(gpu_type(), 0) if device is None else Device.of(device)
    if wanted.type in (DeviceType.CUDA_HOST, DeviceType.CUDA_MANAGED):
        wanted = Device(int(DeviceType.CUDA), wanted.id)
    if wanted.type == DeviceType.CPU:
        raise StreamError("host memory has no stream")
    return wanted


def _of_array(x: Any, wanted: Device) -> Any:
    """What an array's type tells of streams, or None."""
    from .. import adapters
    from .._core import Stream, _work_stream

    if isinstance(x, str) or hasattr(x, "__path__"):
        return None
    cls = x if isinstance(x, type) else type(x)
    ask = adapters.classify(cls).work_stream
    if wanted.type not in _DRIVEN and ask is None:
        return table.stream_of(x, wanted.type, wanted.id)
    if ask is None or x is cls:
        return _work_stream(cls, wanted.type, wanted.id)
    found = ask(x)
    if isinstance(found, Stream):
        return found
    if isinstance(found, int):
        return Stream.from_handle(wanted, found)
    return resolve(found, wanted.type, wanted.id)
