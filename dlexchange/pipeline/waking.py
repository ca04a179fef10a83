"""How threads wake whoever waits for a request: a task of asyncio or trio, or a thread."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

import anyio

__all__ = ["TaskWaker", "ThreadWaker", "Waker", "calls_into_loop", "is_in_loop", "this_task"]


class Waker(Protocol):
    """Wakes a waiter, from any thread."""

    def wake(self) -> None:
        """Let the waiter look again. Never blocks; before the wait, it is not lost."""
        ...


def calls_into_loop() -> Callable[[Callable[[], Any]], None]:
    """Return what has the running event loop call a function soon, from any thread."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        soon: Callable[..., Any] = trio.lowlevel.current_trio_token().run_sync_soon
        over: tuple[type[BaseException], ...] = (trio.RunFinishedError,)
    elif is_in_loop():
        soon, over = asyncio.get_running_loop().call_soon_threadsafe, (RuntimeError,)
    else:
        raise RuntimeError(
            "no event loop runs in this thread: use `with pipe.sync() as p: p(x)`, or pipe.submit"
        )

    def call(function: Callable[[], Any]) -> None:
        try:
            soon(function)
        except over:
            pass  # the loop has ended, and with it whoever would have been called

    return call


def is_in_loop() -> bool:
    """Tell whether an event loop runs in this thread."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def this_task() -> object:
    """Return what runs here: the task of an event loop, or the thread."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        task: object = trio.lowlevel.current_task()
        return task
    return (asyncio.current_task() if is_in_loop() else None) or threading.get_ident()


class TaskWaker:
    """Wakes one task of the event loop it was made in."""

    def __init__(self) -> None:
        self.call = calls_into_loop()
        self._event = anyio.Event()

    def wake(self) -> None:
        """Let the task look again."""
        self.call(self._set)

    def _set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        """Wait for a wake since the last wait."""
        await self._event.wait()
        self._event = anyio.Event()


class ThreadWaker:
    """Wakes one thread."""

    def __init__(self) -> None:
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake(self) -> None:
        """Let the thread look again."""
        self._bell.put(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a wake; False where none came in time."""
        try:
            self._bell.get(timeout=timeout)
        except queue.Empty:
            return False
        return True
