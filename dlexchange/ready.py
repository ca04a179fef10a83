"""Awaiting a device: `ready` and `host`, on asyncio and on trio, without a blocked thread."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

from . import _core
from ._core import Tensor, from_dlpack, to_numpy
from .backends.waiter import call_when
from .device import DeviceType
from .errors import ExchangeError, StreamError
from .stream import as_stream
from .tree import map_tree

__all__ = ["Ready", "host", "ready"]


class Ready:
    """Completes when the work that makes a tensor's values is done.

    Await it, from as many tasks as you like, ask `done()`, or let a stream wait for it.
    """

    def __init__(self, subject: Any, completion: Any) -> None:
        self._subject = subject
        self._completion = completion

    def done(self) -> bool:
        """Return True where the work is done; raise what the device said otherwise."""
        return self._completion is None or bool(self._completion.done())

    def wait_on(self, stream: Any) -> None:
        """Make later work of `stream` wait, on the device; the host does not block.

        Raises
        ------
        StreamError
            The work runs on the host, where no stream can wait for it: await it instead.
        """
        if self._subject is not None:
            as_stream(stream).wait(self._subject)
        elif not self.done():
            raise StreamError("no stream can wait for work on the host: await it first")

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        trio = sys.modules.get("trio")
        in_trio = trio is not None and trio.lowlevel.in_trio_task()
        while not self.done():
            fd = os.dup(self._completion.fileno())  # loops allow one task a descriptor
            try:
                if trio is not None and in_trio:
                    await trio.lowlevel.wait_readable(fd)
                else:
                    await _readable(fd)
            finally:
                os.close(fd)


async def _readable(fd: int) -> None:
    """Wait in asyncio until a descriptor can be read."""
    loop = asyncio.get_running_loop()
    readable = loop.create_future()

    def wake() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(fd, wake)
    try:
        await readable
    finally:
        loop.remove_reader(fd)


def ready(x: Any) -> Ready:
    """Return an awaitable that completes when the work that makes `x` is done.

    Parameters
    ----------
    x : Tensor, Event, Stream or array
        A Tensor: its ready event. A device array: what ``from_dlpack(x)`` would wait for.
        A host array: done, but for jax, whose arrays may still be computed.

    Returns
    -------
    Ready
        Awaitable on asyncio and trio.

    Raises
    ------
    StreamError
        The array's stream cannot be told; make a Tensor with ``from_dlpack(x, stream=...)``.
    DeviceLost
        On awaiting: the device's context has died; it raises rather than hangs.

    Synchronization
    ---------------
    Nothing blocks: a stream of ours waits for the event, and a driver's callback wakes the
    event loop through a descriptor.

    Ownership
    ---------
    A cancelled await frees nothing early.
    """
    if isinstance(x, _core.Stream):
        x = x.record()
    if isinstance(x, _core.Event):
        return Ready(x, _core._notify(x))
    if isinstance(x, Tensor):
        event = x.ready_event
        return Ready(event, None if event is None else _core._notify(event))
    if hasattr(x, "block_until_ready"):
        return Ready(None, None if x.is_ready() else _HostCompletion.of(x.block_until_ready))
    if _is_on_host(x):
        return Ready(None, None)
    with from_dlpack(x) as tensor:
        return ready(tensor)


def _is_on_host(x: Any) -> bool:
    device = getattr(x, "__dlpack_device__", None)
    return device is not None and device()[0] == DeviceType.CPU


class _HostCompletion:
    """What `_Completion` is for devices, for a function that a thread waits in."""

    _fd = -1

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._done = False
        self._error: BaseException | None = None

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def fileno(self) -> int:
        return self._fd

    def done(self) -> bool:
        if self._error is not None:
            raise self._error
        return self._done

    @classmethod
    def of(cls, wait: Callable[[], Any]) -> _HostCompletion:
        """Have the waiter's thread call `wait`."""
        completion = cls()
        call_when(wait, completion.finish)
        return completion

    def finish(self, error: BaseException | None = None) -> None:
        self._error, self._done = error, True
        os.eventfd_write(self._fd, 1)


def host(x: Any) -> Coroutine[Any, Any, Any]:
    """Start to copy `x` to the host; awaited, it returns the values as numpy arrays.

    Parameters
    ----------
    x : array or pytree
        Arrays in lists, tuples, named tuples, dicts and dataclasses, nested at will. What
        is no array stays as it is.

    Returns
    -------
    numpy.ndarray or pytree
        Shape as `x`. Host arrays share memory; device arrays are copied to pinned memory.

    Raises
    ------
    ExchangeError
        An array cannot be exchanged.
    DeviceLost
        The device's context has died.

    Synchronization
    ---------------
    Each copy runs on a stream of ours behind the work that makes the array, on the stream
    that is current when this is called; the event loop is never blocked.

    Ownership
    ---------
    A copy in flight keeps its source and destination until it is done, cancelled or not.
    """
    pending: list[Awaitable[Any]] = []
    return _arrive(map_tree(lambda leaf: _start(leaf, pending), x), pending)


async def _arrive(made: Any, pending: list[Awaitable[Any]]) -> Any:
    for copy in pending:
        await copy
    return map_tree(lambda leaf: leaf.finish() if isinstance(leaf, _OnItsWay) else leaf, made)


class _OnItsWay:
    def __init__(self, finish: Callable[[], Any]) -> None:
        self.finish = finish


def _start(leaf: Any, pending: list[Awaitable[Any]]) -> Any:
    if not any(hasattr(leaf, name) for name in ("__dlpack_device__", "__cuda_array_interface__")):
        return leaf
    if _is_on_host(leaf):
        pending.append(ready(leaf))
        return _OnItsWay(lambda: to_numpy(leaf))
    try:
        copy, event = _core._copy_to_host(from_dlpack(leaf))
    except ExchangeError:
        raise
    except BufferError as error:
        raise ExchangeError(f"{type(leaf).__name__} cannot be copied to the host") from error
    pending.append(ready(event) if event is not None else Ready(None, None))
    return _OnItsWay(lambda: to_numpy(copy))
