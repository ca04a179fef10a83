"""Streams for people: the push, the current stream, further consumers."""

from __future__ import annotations

import atexit
from typing import Any

from . import _core
from ._core import Event, Stream, Tensor
from .adapters import streams
from .backends import table
from .errors import ExchangeError, StreamError

atexit.register(_core._stop)  # before the interpreter goes: then nothing is driven

__all__ = ["Event", "Stream", "current_stream", "push", "record_stream"]


def current_stream(x: Any, device: Any = None) -> Stream:
    """Return the stream on which a framework works now, in the calling thread.

    Parameters
    ----------
    x : array, array type, module or str
        The framework, or an array of it.
    device : Device, str, tuple or None
        Which device. None: that of the array, else the framework's CUDA device 0.

    Returns
    -------
    Stream
        A view; where the framework shows an object it owns the handle.

    Raises
    ------
    StreamError
        The framework does not show its stream, or the memory has none.

    Synchronization
    ---------------
    None.
    """
    found: Stream = streams.current(x, device)
    return found


def as_stream(x: Any) -> Stream:
    """Make a Stream of whatever knows its own device; not of the protocol's integers."""
    if isinstance(x, Stream):
        return x
    if isinstance(x, int):
        raise StreamError(
            f"the number {x} does not say of which device the stream is: pass "
            "dx.Stream.from_handle(device, handle)"
        )
    outside = table.find(x)
    if outside is not None:
        return outside  # type: ignore[no-any-return]
    found: Stream = streams.resolve(x, streams.gpu_type(), streams.device_of_stream(x))
    return found


def push(src: Any, dst: Any) -> None:
    """Make later work on `dst` wait for the work now on `src`.

    One event recorded on `src` and waited for by `dst`; nothing where both are one stream.

    Parameters
    ----------
    src, dst : stream
        dx.Stream or a framework's stream object; they may be of two devices.

    Raises
    ------
    TypeError
        One of them is not a stream.
    StreamError
        One of them is a bare number, which does not say of which device it is.
    CaptureError
        It would harm a graph capture; the driver was not touched.
    DriverError
        A driver call failed.

    Synchronization
    ---------------
    Device-side only; the host does not block. During a capture of `src` this draws `dst`
    into the capture; push back to join it.

    Source
    ------
    push.one-record-one-wait, push.legacy-untouched
    """
    _core._push(as_stream(src), as_stream(dst))


def record_stream(native: Any, stream: Any) -> None:
    """Note that work on a further stream uses memory that came through dlexchange.

    torch's own ``record_stream`` skips memory that is not torch's; this finds the managed
    tensor behind the array.

    Parameters
    ----------
    native : Tensor or array
        What a hand-off of ours returned, or a view of it.
    stream : stream
        One that somebody owns.

    Raises
    ------
    ExchangeError
        The memory did not come through us.
    TypeError
        `stream` is not a stream.
    StreamError
        It cannot be used on this memory; the text says why.

    Synchronization
    ---------------
    The memory is released behind the work queued on `stream` by then. The host does not
    block.

    Ownership
    ---------
    Keeps the stream's owner until the memory is released.
    """
    if isinstance(native, Tensor):
        native.record_stream(stream)
        return
    for address in _addresses(native):
        if _core._record_stream(address, as_stream(stream)):
            return
    raise ExchangeError(
        f"this {type(native).__name__} is not in device memory that came through dlexchange "
        "(or its stream is the producer's own, which needs no record)"
    )


def _addresses(native: Any) -> list[int]:
    """Addresses under which the memory may be known: of the storage, then of the view."""
    found = []
    storage = getattr(native, "untyped_storage", None)
    if storage is not None:  # torch
        found += [storage().data_ptr(), native.data_ptr()]
    data = getattr(native, "data", None)
    memory = getattr(data, "mem", None)
    if data is not None and memory is not None:  # CuPy
        found += [memory.ptr, data.ptr]
    if not found:
        with _core.from_dlpack(native, stream=-1) as tensor:
            found.append(tensor.data_ptr)
    return found
