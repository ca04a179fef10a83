"""Futures of requests, for code without an event loop."""

from __future__ import annotations

import concurrent.futures
from typing import Any

from .engine import Engine, result_of
from .request import Request
from .waking import ThreadWaker

__all__ = ["Future", "FutureWaker"]


class Future(concurrent.futures.Future[Any]):
    """The outcome of a submitted request.

    Synchronization
    ---------------
    `result` orders the arrays into the current streams of the thread that first calls it.
    """

    def __init__(self, engine: Engine, request: Request) -> None:
        super().__init__()
        self._engine = engine
        self._request = request
        self._made: tuple[Any] | None = None

    def cancel(self) -> bool:
        """Cancel the request, also while it runs; False where it is finished."""
        if not super().cancel():
            return False
        self.set_running_or_notify_cancel()
        self._engine.cancel(self._request)
        return True

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result and return it, or raise what ended the request."""
        super().result(timeout)
        with self._condition:
            if self._made is None:
                self._made = (result_of(self._engine, self._request),)
            return self._made[0]

    def finish(self) -> None:
        """Tell those who wait; the request is finished."""
        error, self._request.error = self._request.error, None  # its traceback knows the request
        try:
            if error is None:
                self.set_result(None)
            else:
                self.set_exception(error)
        except concurrent.futures.InvalidStateError:  # cancelled before, or told already
            if self.cancelled():
                self._request.forget()


class FutureWaker(ThreadWaker):
    """Finishes a future when its request is finished."""

    def __init__(self) -> None:
        super().__init__()
        self.untold: list[Future] = []

    def wake(self) -> None:
        """Let the submitting thread look again, and finish the future, once."""
        super().wake()
        try:
            if not self.untold[0]._request.is_finished:
                return
            future = self.untold.pop()  # it knows the request, which knows this: no cycle is left
        except IndexError:
            return  # told already
        future.finish()
