"""Messages: what one stage hands to the next, recorded by its maker, ordered by its taker.

Arrays in device memory travel as `dx.Tensor`: the event is recorded in the thread that
made them, when they are handed over. Whoever takes them, in whatever thread, makes its own
stream wait for exactly that event. Host memory has no stream and travels as it is.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from .. import _core
from .._core import Stream, Tensor, convert, from_dlpack
from ..adapters import adapter_of
from ..device import Device, DeviceType
from ..errors import CopyError, StreamError
from ..tree import map_tree
from .copies import copy_to_device, copy_to_host
from .promises import Promised, has_no_streams, is_promise, promise_of

__all__ = ["Message", "pack", "unpack"]

Message = Any
"""A pytree whose device arrays are `Parcel`."""

#: Frameworks that cannot take device memory from a Tensor by themselves: their arrays, and
#: those of device types and frameworks from outside, arrive as dx.Tensor, which has
#: ``__cuda_array_interface__`` and ``__dlpack__``.
_TAKE_NO_TENSOR = ("numba", "cuda")

_PLAIN_TYPES = frozenset((int, float, complex, bool, str, bytes, type(None)))
_HOST_TYPES = set(_PLAIN_TYPES)  # and numpy's arrays, once there are any


class Parcel:
    """A device array on its way: the Tensor, and the type of array that it was."""

    __slots__ = ("kind", "tensor")

    def __init__(self, tensor: Tensor, kind: type) -> None:
        self.tensor = tensor
        self.kind = kind


def pack(tree: Any, stream: Stream | None, *, records: bool = True) -> Message:
    """Make a message of what a stage, or a caller, has made in this thread.

    Parameters
    ----------
    stream : Stream or None
        What wrote the arrays whose framework does not know.
    records : bool
        False: whoever takes it works on that same stream, so that there is nothing to order.

    Synchronization
    ---------------
    Records one event for each device array. The host does not block.

    Ownership
    ---------
    The message keeps the arrays until the work of all who took them is done; no stream is
    made to wait for that, since it could be the one that has the next request to work on.
    """
    if type(tree) in _HOST_TYPES:
        return tree
    promises: list[Any] = []
    made = map_tree(lambda leaf: _pack(leaf, stream, records, promises), tree)
    return Promised(made, promises) if promises else made


def _pack(leaf: Any, stream: Stream | None, records: bool, promises: list[Any]) -> Any:
    if not is_on_device(leaf):
        if type(leaf) not in _HOST_TYPES and is_promise(leaf):
            promises.append(leaf)
        return leaf
    if not (records or _is_promised(leaf)):
        return leaf
    tensor, kind = leaf, type(leaf)
    if kind is not Tensor:
        try:
            tensor = from_dlpack(leaf)
        except StreamError:
            if stream is None:
                raise
            tensor = from_dlpack(leaf, stream=stream)
        _core._park(tensor)
    promise = promise_of(tensor)
    if promise is not None:
        promises.append(promise)
    return Parcel(tensor, kind)


def _is_promised(leaf: Any) -> bool:
    device = getattr(leaf, "__dlpack_device__", None)
    return device is not None and has_no_streams(device()[0])


def is_on_device(leaf: Any) -> bool:
    """Tell whether an object is an array in memory that streams work on."""
    cls = type(leaf)
    if cls in _HOST_TYPES:
        return False
    device = getattr(leaf, "__dlpack_device__", None)
    if device is not None:
        return bool(device()[0] != DeviceType.CPU)
    return hasattr(cls, "__cuda_array_interface__")


def unpack(
    message: Message,
    device: Device | None = None,
    framework: Any = None,
    *,
    stream: Stream | None = None,
    side: Stream | bool = False,
    anywhere: bool = False,
) -> Any:
    """Make arrays of a message, for this thread and its current streams.

    Parameters
    ----------
    device : Device or None
        Where the taker works; None: on the host.
    framework : str, module, type or None
        What arrays to make; None: what they were.
    stream : Stream or None
        Where the taker works, for arrays of frameworks without current streams, and for
        leaves that know no more than ``wait_on(stream)``.
    side : Stream or bool
        Where arrays of another device are copied to this one; on the host: True. False: they
        are refused.
    anywhere : bool
        Take them where they are.

    Synchronization
    ---------------
    The current stream of each framework waits for the events. The host does not block.
    """
    if type(message) in _PLAIN_TYPES:
        return message
    place = _Place(device, framework, stream, side, anywhere)
    return map_tree(lambda leaf: _unpack(leaf, place), message)


class _Place(NamedTuple):
    device: Device | None
    framework: Any
    stream: Stream | None
    side: Stream | bool
    anywhere: bool


def _unpack(leaf: Any, place: _Place) -> Any:
    framework, stream = place.framework, place.stream
    if not isinstance(leaf, Parcel):
        if stream is not None and hasattr(leaf, "wait_on"):
            leaf.wait_on(stream)
        if framework is not None and (hasattr(leaf, "__dlpack_device__") or is_on_device(leaf)):
            return _convert(leaf, framework, stream if is_on_device(leaf) else None)
        return leaf
    tensor = leaf.tensor
    if not place.anywhere and not _is_at(tensor.device, place.device):
        if place.side is False:
            raise CopyError(
                f"an array is on {tensor.device}, and the stage works on "
                f"{place.device or 'the host'}: give the stage copy=True, or its device="
            )
        if not isinstance(place.side, Stream):
            return convert(copy_to_host(tensor), framework or "numpy")
        tensor = copy_to_device(tensor, leaf.kind, place.side)
    kind = leaf.kind if framework is None else framework
    if kind is Tensor or kind == "dlexchange" or _takes_no_tensor(kind, tensor.device.type):
        return tensor
    return _convert(tensor, kind, stream)


def _convert(x: Any, kind: Any, stream: Stream | None) -> Any:
    if stream is not None and stream.device.type not in (DeviceType.CUDA, DeviceType.ROCM):
        return convert(x, kind, stream=stream)  # no framework there has current streams
    return convert(x, kind)


def _takes_no_tensor(kind: Any, device_type: int) -> bool:
    if not isinstance(kind, type):
        return False
    if device_type not in (DeviceType.CUDA, DeviceType.ROCM) and adapter_of(kind) is None:
        return True  # of an outside package: what it takes is a Tensor
    return kind.__module__.partition(".")[0] in _TAKE_NO_TENSOR


def _is_at(here: Device, wanted: Device | None) -> bool:
    if here.type in (DeviceType.CUDA_HOST, DeviceType.ROCM_HOST, DeviceType.CUDA_MANAGED):
        return True
    return here == wanted


def learn_host_types() -> None:
    """Know numpy's arrays as host memory without asking them."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        _HOST_TYPES.add(numpy.ndarray)
