"""Memory as a consumer can take it: what frameworks need, and how they are given it.

Frameworks differ in what they make of strides, alignment and the read-only flag. Where
one would refuse, abort or forget, its adapter says so in `Needs`, and a copy is made
first (where the caller allows one) or a warning given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from ..device import Device, DeviceType
from ..errors import CopyError, ExchangeError, StreamError

if TYPE_CHECKING:
    from .._core import Tensor

__all__ = ["Needs", "legacy_capsule", "through"]


class Needs(NamedTuple):
    """What a consumer needs of memory, and what becomes of it there."""

    layout: str = "any"
    """"any" strides, "forward" (no negative ones) or "compact" (row-major, no gaps)."""
    alignment: int = 1
    """Bytes that the address must be a multiple of; 0: of the element's own size."""
    keeps_read_only: bool = True
    """False where the consumer's arrays can be written to whatever the memory is."""
    keeps_padding: bool = True
    """False where the consumer reads small elements as packed, even one a byte."""
    on_device: bool = False
    """True where the consumer takes device memory only: its stream is asked for first."""
    copies: bool = False
    """True where the consumer copies host memory in every case."""


#: To a consumer with streams this is host memory, once it is complete.
_PINNED = (DeviceType.CUDA_HOST, DeviceType.ROCM_HOST)
#: Has a framework work on a Stream (None: its current one) in the body, and yields it:
#: ``on_stream(to, device, stream)``.
OnStream = Callable[[Any, Any, Any], AbstractContextManager[Any]]


def through(
    name: str,
    make: Callable[[Tensor, Any], Any],
    needs: Needs,
    to: Any,
    on_stream: OnStream | None = None,
    copied: Callable[[Any], Any] | None = None,
) -> Any:
    """Build the consumer that makes arrays of the framework `name` out of any producer.

    It is a callable that takes (x, stream, copy, producer's name), and where nothing is said
    and the memory fits as it is, `make` alone: what fit.c takes to do that.

    Parameters
    ----------
    make : callable
        Takes a Tensor that meets `needs`, and `to`; returns the framework's array.
    to : str, module or array type
        What the caller named as the consumer.
    on_stream : callable or None
        None: the framework's stream is not known to us, so it cannot be given one, and the
        release is not ordered behind its work.
    copied : callable or None
        Copies an array of device memory on the framework's current stream.
    """

    def hand_over(x: Any, stream: Any, copy: bool | None, producer: str = "") -> Any:
        if copy is False and needs.copies:
            raise CopyError(f"{name} copies every array it imports, and copy=False forbids it")
        shown = producer or (type(x).__module__ or "").partition(".")[0]
        with ExitStack() as stack:
            tensor = _reach(name, stack, on_stream, to, x, stream, copy)
            copies = bool(copy) and not tensor.is_copied
            if copies and copied is None:
                raise CopyError(f"dlexchange cannot have {name} copy {tensor!r}: leave copy out")
            tensor = _fitted(name, tensor, copy, needs, shown)
            with _refusing(name, tensor):
                array = make(tensor, to)
                if copies and copied is not None:
                    array = copied(array)
        if copies or needs.copies:
            _core()._count_copy()
        return array

    if needs.copies or needs.on_device:
        return hand_over
    return (_bits(needs), needs.alignment, make, to, name, hand_over)


def _bits(needs: Needs) -> int:
    """Put needs into the bits of fit.h."""
    layout = {"any": 0, "forward": 1, "compact": 2}[needs.layout]
    return layout | needs.keeps_read_only << 2 | needs.keeps_padding << 3


@contextmanager
def _refusing(name: str, what: Any) -> Iterator[None]:
    try:
        yield
    except (ExchangeError, MemoryError):
        raise
    except Exception as error:
        raise ExchangeError(f"{name} refused {what!r}; see the cause above") from error


def _reach(
    name: str,
    stack: ExitStack,
    on_stream: OnStream | None,
    to: Any,
    x: Any,
    stream: Any,
    copy: bool | None,
) -> Tensor:
    """Make a Tensor; of device memory in the framework's stream, which `stack` keeps current.

    Where that stream is not known, the framework has the Tensor ordered as it asks for itself.
    """
    vouched = isinstance(stream, int) and stream == -1
    tensor: Tensor
    device = None if on_stream is None else device_of(x)
    if device is not None and device.type == DeviceType.CUDA_MANAGED:
        device = Device(int(DeviceType.CUDA), device.id)
    if device is None or device.type in (DeviceType.CPU, *_PINNED):
        x = tensor = _core().from_dlpack(x, stream=-1 if vouched else None, copy=copy)
        if needs_host(tensor) if on_stream is None else tensor.device.type in _PINNED:
            x = tensor = on_host(tensor, copy)
        device = tensor.device
    named = None if vouched else stream
    if on_stream is None or device.type == DeviceType.CPU:
        if named is not None and device.type == DeviceType.CPU:
            raise StreamError(f"host memory has no stream: leave stream out, not {named}")
        if named is not None:
            raise StreamError(
                f"dlexchange cannot make {name} work on a given stream: make it current there, "
                "and leave stream out"
            )
        return tensor
    without = None if copy else copy  # a copy is the framework's own, later
    if named is not None:  # x is read before its framework may be on that stream
        named = _core()._read_stream(named, *device)
        tensor = _core()._for_adapter(x, named, False, without)
    with _refusing(name, device):
        used = stack.enter_context(on_stream(to, device, named))
    if named is None:
        tensor = _core()._for_adapter(x, -1 if vouched else used, True, without)
    return tensor


def needs_host(tensor: Tensor) -> bool:
    """Tell whether a consumer without streams of that memory must take it as host memory.

    So with pinned and managed memory, and with device types that a backend orders.
    """
    return tensor.device.type not in (DeviceType.CPU, DeviceType.CUDA, DeviceType.ROCM)


def on_host(tensor: Tensor, copy: bool | None) -> Tensor:
    """View device memory that the host may read, complete; where it may not, copy if asked."""
    host: Tensor = _core().from_dlpack(_core().to_numpy(tensor, copy=copy))
    return host


def legacy_capsule(tensor: Tensor) -> Any:
    """Export for consumers that know only unversioned capsules, also read-only memory."""
    return _core()._legacy_capsule(tensor) if tensor.readonly else tensor.__dlpack__()


def _fitted(name: str, tensor: Tensor, copy: bool | None, needs: Needs, producer: str) -> Tensor:
    if not needs.keeps_padding and _is_padded(tensor):
        raise ExchangeError(
            f"{name} would read this tensor of {tensor.dtype}, one element a byte, as packed; "
            "convert it to a dtype of 8 bits first"
        )
    why = _misfit(tensor, needs)
    if why:
        if copy is False:
            raise CopyError(
                f"{name} {why}: this tensor would have to be copied, and copy=False forbids it"
            )
        tensor = _core().from_dlpack(tensor, copy=True)
    if tensor.readonly and not needs.keeps_read_only:
        _core()._warn_read_only(producer, name, 3)  # of who asked, behind `hand_over`
    return tensor


def _misfit(tensor: Tensor, needs: Needs) -> str:
    """Say what of the memory the consumer cannot take; "" where it can take it."""
    if 0 in tensor.shape:
        return ""
    if needs.layout == "compact" and not _is_compact(tensor):
        return "takes only row-major memory without gaps"
    if needs.layout == "forward" and any(
        stride < 0 < size - 1 for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    ):
        return "has no negative strides"
    alignment = needs.alignment or _element_alignment(tensor)
    if tensor.data_ptr % alignment:
        return f"needs memory aligned to {alignment} bytes"
    return ""


def _is_padded(tensor: Tensor) -> bool:
    bits = tensor.dtype.bits * tensor.dtype.lanes
    return bits < 8 and tensor.nbytes * 8 >= math.prod(tensor.shape) * bits + 8


def _is_compact(tensor: Tensor) -> bool:
    step = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


def _element_alignment(tensor: Tensor) -> int:
    dtype = tensor.dtype
    is_complex = dtype.code == 5
    return max(1, dtype.bits * dtype.lanes // (16 if is_complex else 8))


def device_of(x: Any) -> Device | None:
    """Return the device an object says it is on, or None where it does not say."""
    try:
        kind, number = x.__dlpack_device__()
        return Device(int(kind), int(number or 0))
    except (AttributeError, TypeError, ValueError):
        return None


def _core() -> Any:
    from .. import _core

    return _core
