"""The pipeline's face without an event loop."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .engine import Engine, result_of, take_part
from .progress import Progress
from .request import Part, Request
from .waking import ThreadWaker, is_in_loop, this_task

if TYPE_CHECKING:
    from .future import Future
    from .pipeline import Pipeline

__all__ = ["SyncPipeline"]


class SyncPipeline:
    """A pipeline for code without an event loop: everything here blocks the calling thread."""

    def __init__(self, pipe: Pipeline) -> None:
        self._pipe = pipe
        self._waker = ThreadWaker()

    def __enter__(self) -> SyncPipeline:
        if is_in_loop():
            raise RuntimeError(
                "an event loop runs in this thread, and would be blocked: use `async with pipe:`"
            )
        engine = self._engine = self._pipe._begin(self._waker.wake)
        try:
            engine.start()
            while not engine.is_started:
                self._waker.wait()
            self._pipe._check_ready(engine)
        except BaseException:
            self._leave(engine, "the pipeline did not get ready")
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(self._engine, None if error is None else "the pipeline was left")

    def _leave(self, engine: Engine, reason: str | None) -> None:
        if engine.pid != os.getpid():
            return  # a forked child has no stage to wait for
        self._pipe._end(engine, reason)
        while not engine.is_stopped:
            self._waker.wait()
        self._pipe._ended(engine)

    def __call__(
        self,
        x: Any,
        *,
        timeout: float | None = None,
        on_progress: Callable[[Progress], Any] | None = None,
        **params: Any,
    ) -> Any:
        """Send a request and return its result; as `Pipeline.__call__`, in this thread.

        `on_progress` is called in a thread of its own; what it raises once the result is there
        may be lost.
        """
        request = self._pipe._request(ThreadWaker, params, on_progress)
        engine = self._enter(request, x)
        _wait_for(engine, request, lambda: request.is_finished, timeout)
        return result_of(engine, request)

    def stream(
        self,
        x: Any,
        *,
        buffer: int = 8,
        on_progress: Callable[[Progress], Any] | None = None,
        **params: Any,
    ) -> Iterator[Part]:
        """Iterate over partial results, then the result; leaving the loop cancels."""
        request = self._pipe._request(ThreadWaker, params, on_progress, buffer)
        parts = _parts(self._enter(request, x), request)
        next(parts)  # into its try: a generator that was never started has no end to run
        return parts

    def map(self, xs: Iterable[Any], **params: Any) -> Iterator[Any]:
        """Iterate over the results of many requests, in order; as `Pipeline.map`."""

        def begin(x: Any) -> Request:
            request = self._pipe._request(ThreadWaker, params, None)
            self._enter(request, x)
            return request

        return _results(self._pipe._running(), begin, xs, self._pipe._inflight)

    def submit(self, x: Any, **options: Any) -> Future:
        """Send a request and return its future; as `Pipeline.submit`."""
        return self._pipe.submit(x, **options)

    def _enter(self, request: Request, x: Any) -> Engine:
        if is_in_loop():
            raise RuntimeError("an event loop runs in this thread: use `await pipe(x)`")
        return self._pipe._enter(request, x)


def _wait_for(
    engine: Engine, request: Request, is_met: Callable[[], Any], timeout: float | None = None
) -> None:
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        while not is_met():
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not engine.turn_here(request, left) or left == 0.0:
                raise TimeoutError(f"no result within {timeout} s")
    except BaseException:
        engine.cancel(request)
        while not request.is_finished:
            engine.turn_here(request, None)
        raise


def _parts(engine: Engine, request: Request) -> Iterator[Any]:
    try:
        request.taker = this_task()
        yield
        while True:
            request.taker = this_task()
            _wait_for(engine, request, lambda: request.parts or request.is_finished)
            part = take_part(engine, request)
            yield part
            if part.is_result:
                return
    finally:
        if not request.is_finished:
            engine.abandon(request)


def _results(
    engine: Engine, begin: Callable[[Any], Request], xs: Iterable[Any], inflight: int
) -> Iterator[Any]:
    pending: deque[Request] = deque()
    items = iter(xs)
    try:
        while True:
            while len(pending) < inflight:
                try:
                    pending.append(begin(next(items)))
                except StopIteration:
                    break
            if not pending:
                return
            request = pending[0]
            _wait_for(engine, request, lambda: request.is_finished)  # noqa: B023
            pending.popleft()
            yield result_of(engine, request)
    finally:
        for request in pending:
            engine.abandon(request)
