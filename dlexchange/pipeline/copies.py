"""Copies to the device of a stage that asked for them, on a stream that is only for that."""

from __future__ import annotations

from typing import Any

from .. import _core
from .._core import Stream, Tensor, from_dlpack
from ..adapters import adapter_of
from ..errors import CopyError
from ..stream import push

__all__ = ["copy_to_device", "copy_to_host"]


def copy_to_host(tensor: Tensor) -> Tensor:
    """Copy device memory to the host, on a stream of ours.

    Synchronization
    ---------------
    The stage's thread waits for the copy; counted in ``dx.stats().host_waits``.
    """
    copy, event = _core._copy_to_host(tensor)
    if event is not None and not event.query():
        event.synchronize()
    return copy


def copy_to_device(tensor: Tensor, kind: Any, side: Stream) -> Tensor:
    """Copy to the device of `side`, into an array of the framework that made it.

    Its adapter is asked, else its type's framework: ``copy_across(x, stream)``.

    Synchronization
    ---------------
    `side` waits for the memory to be ready; who takes the copy waits for `side`. The host
    does not block.

    Ownership
    ---------
    The source is released behind the copy.
    """
    across = getattr(adapter_of(kind), "copy_across", None)
    if across is None:
        across = getattr(getattr(kind, "framework", None), "copy_across", None)
    if across is None:
        name = getattr(kind, "__module__", str(kind)).partition(".")[0]
        raise CopyError(
            f"dlexchange does not copy arrays of {name} from {tensor.device} to {side.device} "
            "yet: let a stage of that framework do it"
        )
    if tensor.ready_event is not None:
        side.wait(tensor.ready_event)
    copy = from_dlpack(across(tensor, side), stream=side)
    _core._park(copy)
    back = Stream.create(tensor.device)  # a stream of the source's device, behind the copy
    push(side, back)
    tensor.record_stream(back)
    return copy
