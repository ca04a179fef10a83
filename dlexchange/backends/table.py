"""The registered backends, and the numbers that streams have in the core.

The core knows a stream by device and number; a number is never used twice, so that one
kept too long names nothing rather than somebody else's stream. csrc/backend.c calls the
functions of the second half.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from typing import Any

from ..errors import ExchangeError, StreamError
from .protocol import StreamBackend

__all__ = ["native", "register", "registered", "unregister"]

_TAKEN = {1, 2, 3, 10, 11, 13}
_METHODS = ("device_of", "default", "record", "wait", "query", "synchronize", "notify")
_backends: dict[int, StreamBackend] = {}


class _Named:
    """A stream under its number. Whoever uses the number keeps this."""

    __slots__ = ("__weakref__", "backend", "device_id", "number", "stream")

    def __init__(self, backend: StreamBackend, device_id: int, stream: Any) -> None:
        self.backend = backend
        self.device_id = device_id
        self.stream = stream
        self.number = next(_numbers)

    def __repr__(self) -> str:
        return repr(self.stream)


_numbers = itertools.count(16)
_by_number: weakref.WeakValueDictionary[int, _Named] = weakref.WeakValueDictionary()
_by_stream: weakref.WeakValueDictionary[tuple[int, Any], _Named] = weakref.WeakValueDictionary()
_ours: list[_Named] = []  # pooled by the core, which never lets go of one


# ---- for people


def register(backend: StreamBackend) -> None:
    """Have `backend` order the work of its device type from now on.

    Parameters
    ----------
    backend : StreamBackend
        It takes the place of an earlier one for the same type.

    Raises
    ------
    ExchangeError
        A method is missing, or the type is one that dlexchange drives itself.
    """
    from .. import _core

    missing = [name for name in _METHODS if not callable(getattr(backend, name, None))]
    if missing:
        raise ExchangeError(f"{type(backend).__name__} is no StreamBackend: it lacks {missing}")
    if backend.device_type in _TAKEN:
        raise ExchangeError(f"dlexchange drives device type {backend.device_type} itself")
    _core._backend_install(int(backend.device_type), backend.name, sys.modules[__name__])
    _backends[int(backend.device_type)] = backend
    for named in _ours:  # the core's pool of streams is the device type's, not the backend's
        if named.backend.device_type == backend.device_type:
            named.backend, named.stream = backend, _optional(backend, "create")(named.device_id)


def unregister(device_type: int) -> None:
    """Forget the backend of a device type; its memory can not be exchanged any more.

    What it has recorded is still finished by it.
    """
    _backends.pop(int(device_type), None)


def registered(device_type: int) -> StreamBackend | None:
    """Return the backend of a device type; None where there is none.

    The one for SYCL is registered here, at the first question, where dpctl is installed.
    """
    backend = _backends.get(device_type)
    if backend is None and device_type == 14:
        from . import sycl

        if sycl.is_installed():
            register(sycl.SyclBackend())
            backend = _backends[device_type]
    return backend


def native(stream: Any) -> Any:
    """Return the backend's own object of a dlexchange.Stream, or of the core's number.

    Raises
    ------
    StreamError
        The stream is gone: nobody keeps its owner.
    """
    number = stream if isinstance(stream, int) else stream.handle
    return _named(number).stream


# ---- for the core


def find(x: Any) -> Any:
    """Make a Stream of any backend's stream object; None where no backend knows it."""
    if "dpctl" in sys.modules:
        registered(14)
    for device_type, backend in tuple(_backends.items()):
        device_id = backend.device_of(x)
        if device_id is not None:
            return _stream(backend, device_type, device_id, x)
    return None


def resolve(x: Any, device_type: int, device_id: int) -> Any:
    """Make a Stream of a stream object (None: the default one) of a given device."""
    backend = registered(device_type)
    if backend is None:
        raise StreamError(f"the backend of device type {device_type} was unregistered")
    if x is None:
        return _stream(backend, device_type, device_id, backend.default(device_id))
    known = _by_stream.get((device_type, x)) if _is_hashable(x) else None
    number = known.device_id if known is not None else backend.device_of(x)
    if number is None:
        raise TypeError(f"{type(x).__name__} is not a stream of {backend.name}: {x!r}")
    if number != device_id:
        raise StreamError(
            f"{x!r} is a stream of {backend.name}:{number}, but the memory is on "
            f"{backend.name}:{device_id}"
        )
    return _stream(backend, device_type, device_id, x)


def stream_of(x: Any, device_type: int, device_id: int) -> Any:
    """Make a Stream of what the backend says an array is used on; None where it cannot say."""
    ask = getattr(registered(device_type), "stream_of", None)
    return None if ask is None else resolve(ask(x), device_type, device_id)


def _is_hashable(x: Any) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True


def _stream(backend: StreamBackend, device_type: int, device_id: int, x: Any) -> Any:
    from .._core import Stream

    key = (device_type, x)
    named = _by_stream.get(key)
    if named is None or named.backend is not backend:
        named = _Named(backend, device_id, x)
        _by_stream[key] = named
        _by_number[named.number] = named
    return Stream.from_handle((device_type, device_id), named.number, named)


def _named(number: int) -> _Named:
    named = _by_number.get(number)
    if named is None:
        raise StreamError(
            f"{number} names no stream, or one that is gone: pass the stream object itself"
        )
    return named


#: An event, and the stream it was recorded on, which so keeps its number.
Mark = tuple[_Named, Any]


def record(number: int) -> Mark:
    named = _named(number)
    return named, named.backend.record(named.stream)


def wait(number: int, mark: Mark) -> None:
    named = _named(number)
    recorded, event = mark
    if recorded.backend.device_type != named.backend.device_type:
        raise StreamError(
            f"a stream of {named.backend.name} cannot wait for {recorded.backend.name}"
        )
    named.backend.wait(named.stream, event)


def query(mark: Mark) -> bool:
    recorded, event = mark
    return bool(recorded.backend.query(event))


def synchronize(mark: Mark) -> bool:
    recorded, event = mark
    recorded.backend.synchronize(event)
    return True


def notify(mark: Mark, done: Any) -> None:
    recorded, event = mark
    recorded.backend.notify(event, done)


def create(device_type: int, device_id: int) -> int:
    backend = _backends[device_type]
    named = _Named(backend, device_id, _optional(backend, "create")(device_id))
    _by_stream[device_type, named.stream] = _by_number[named.number] = named
    _ours.append(named)
    return named.number


def stream_query(number: int) -> bool:
    return query(record(number))


def stream_synchronize(number: int) -> None:
    synchronize(record(number))


def copy_to_host(number: int, address: int, destination: memoryview) -> None:
    named = _named(number)
    _optional(named.backend, "copy_to_host")(named.stream, address, destination)


def is_host_accessible(device_type: int, device_id: int, address: int) -> bool:
    ask = getattr(_backends[device_type], "is_host_accessible", None)
    return ask is not None and bool(ask(device_id, address))


def _optional(backend: StreamBackend, name: str) -> Any:
    method = getattr(backend, name, None)
    if method is None:
        raise NotImplementedError(f"the backend for {backend.name} has no method {name!r}")
    return method
