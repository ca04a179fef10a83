"""Progress: news on its way to a listener that can never hold up the stage."""

from __future__ import annotations

import inspect
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Channel", "Listener", "Progress"]

_ROOM = 32


class Progress(NamedTuple):
    """How far a stage is with a request."""

    stage: str
    step: int
    total: int | None


class Channel:
    """News of one request. Keeps the newest; what the listener has no time for is dropped.

    Parameters
    ----------
    call : callable
        Has a function called soon, in the listener's thread.
    listener : callable
        ``listener(progress)``.
    failed : callable
        Called with what the listener raises.

    Attributes
    ----------
    error : BaseException or None
        What it raised.
    """

    def __init__(
        self,
        call: Callable[[Callable[[], Any]], None],
        listener: Callable[[Progress], Any],
        failed: Callable[[BaseException], None],
    ) -> None:
        if inspect.iscoroutinefunction(listener):
            raise TypeError(f"on_progress must be a plain function, not async: {listener!r}")
        self._news: deque[Progress] = deque(maxlen=_ROOM)
        self._call = call
        self._listener = listener
        self._failed = failed
        self.error: BaseException | None = None
        self._is_called = False

    def put(self, news: Progress) -> None:
        """Send news. Never blocks."""
        self._news.append(news)
        if not self._is_called:
            self._is_called = True
            self._call(self._deliver)

    def _deliver(self) -> None:
        self._is_called = False  # before looking: what comes from now on calls again
        while self._news:
            try:
                self._listener(self._news.popleft())
            except BaseException as error:
                self._news.clear()
                self.error = error
                self._failed(error)


class Listener:
    """One thread that calls listeners of code without an event loop. Started at first need."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def call(self, function: Callable[[], Any]) -> None:
        """Have a function called in the listener's thread."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"{self._name}-progress", daemon=True
                )
                self._thread.start()
        self._calls.put(function)

    def close(self) -> None:
        """Deliver what is on its way, and end the thread."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (function := self._calls.get()) is not None:
            function()
