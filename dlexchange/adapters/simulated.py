"""Arrays of `dlexchange.testing`: a simulated framework, whose streams are known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import Route, streams
from .fit import Needs

NEEDS = Needs()


def classify(cls: type) -> Route | None:
    """Tell the stream an array was allocated on, so that its release can be an edge."""
    if not hasattr(cls, "framework") or not hasattr(cls, "stream"):
        return None
    api = getattr(cls, "__dlpack_c_exchange_api__", None)
    if api is None:
        return None
    return Route("exchange", "simulated", api, allocation_stream=allocation_stream)


def allocation_stream(x: Any) -> Any:
    """Return the stream that the array's memory comes from and goes back to."""
    return x.stream


def make(tensor: Any, to: Any) -> Any:
    """Import with the framework's own ``from_dlpack``; `to` is its array type."""
    return to.framework.from_dlpack(tensor)


def copied(array: Any) -> Any:
    """Copy on the framework's current stream."""
    return array.copy()


def current_stream(to: Any, device: Any) -> Any:
    """Return the current stream of an array's or array type's framework."""
    return streams.resolve(to.framework.current_stream(device.id), device.type, device.id)


@contextmanager
def on_stream(to: Any, device: Any, stream: Any) -> Iterator[Any]:
    """Make a stream the framework's current one; None: the one it has."""
    if stream is None:
        yield current_stream(to, device)
    else:
        with to.framework.use_handle(stream.handle, device.id):
            yield stream
