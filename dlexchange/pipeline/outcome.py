"""Waiting for outcomes in an event loop: of one request, of its parts, of many."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import anyio

from .engine import Engine, result_of, take_part
from .request import Part, Request
from .waking import this_task

__all__ = ["Parts", "Results", "outcome"]


async def wait_for(engine: Engine, request: Request, is_met: Callable[[], Any]) -> None:
    """Wait until a condition on a request is met; cancelled, see the request off first.

    The shield is what keeps the promise that after a cancelled await nothing of the
    request is left: its generator is closed, its ticket back, its tensors released.
    """
    try:
        while not is_met():
            await engine.turn(request)
    except GeneratorExit:
        engine.cancel(request)  # the coroutine is closed: it cannot wait any more
        raise
    except BaseException:
        engine.cancel(request)
        with anyio.CancelScope(shield=True):
            while not request.is_finished:
                await engine.turn(request)
        raise


async def outcome(engine: Engine, request: Request, timeout: float | None) -> Any:
    """Wait for the outcome of a request."""
    if timeout is None:
        await wait_for(engine, request, lambda: request.is_finished)
    else:
        with anyio.fail_after(timeout):
            await wait_for(engine, request, lambda: request.is_finished)
    return result_of(engine, request)


class Parts:
    """The partial results of one request, then its result. Leaving the loop cancels it."""

    def __init__(self, engine: Engine, request: Request) -> None:
        self._engine = engine
        self._request = request
        self._is_busy = False
        self._is_over = False
        request.taker = this_task()

    def __aiter__(self) -> AsyncIterator[Part]:
        return self

    async def __anext__(self) -> Part:
        if self._is_busy:
            raise RuntimeError("two tasks iterate over the parts of one request")
        if self._is_over:
            raise StopAsyncIteration
        self._is_busy = True
        request = self._request
        request.taker = this_task()
        try:
            await wait_for(self._engine, request, lambda: request.parts or request.is_finished)
            return self._take()
        except BaseException:
            self._is_over = True
            raise
        finally:
            self._is_busy = False

    def _take(self) -> Part:
        part = take_part(self._engine, self._request)
        self._is_over = part.is_result
        return part

    async def aclose(self) -> None:
        """Cancel the request where it is not finished, and see it off."""
        self._is_over = True
        self._engine.cancel(self._request)
        request = self._request
        with anyio.CancelScope(shield=True):
            await wait_for(self._engine, request, lambda: request.is_finished)

    async def __aenter__(self) -> Parts:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if not self._request.is_finished:
            self._engine.abandon(self._request)


class Results:
    """The results of many requests, in their order; at most `inflight` are pulled ahead."""

    def __init__(
        self, engine: Engine, begin: Callable[[Any], Request], xs: Any, inflight: int
    ) -> None:
        self._pending: deque[Request] = deque()  # first: the destructor looks at it
        self._engine = engine
        self._begin = begin
        self._xs = _Source(xs)
        self._inflight = inflight

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        pending = self._pending
        while len(pending) < self._inflight and not (pending and pending[0].is_finished):
            try:
                pending.append(self._begin(await self._xs.next()))
            except StopAsyncIteration:
                break
        if not pending:
            raise StopAsyncIteration
        request = pending[0]
        await wait_for(self._engine, request, lambda: request.is_finished)
        pending.popleft()
        return result_of(self._engine, request)

    async def aclose(self) -> None:
        """Cancel what is pending, and see it off."""
        for request in self._pending:
            self._engine.cancel(request)
        with anyio.CancelScope(shield=True):
            while self._pending:
                request = self._pending[0]
                await wait_for(self._engine, request, lambda: self._pending[0].is_finished)
                self._pending.popleft()
            await self._xs.aclose()

    async def __aenter__(self) -> Results:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        for request in self._pending:
            if not request.is_finished:
                self._engine.abandon(request)


class _Source:
    """One item after another, of an iterable or an asynchronous one."""

    def __init__(self, xs: Iterable[Any] | AsyncIterator[Any]) -> None:
        self._is_async = hasattr(xs, "__aiter__")
        self._items: Any = xs.__aiter__() if hasattr(xs, "__aiter__") else iter(xs)

    async def next(self) -> Any:
        if self._is_async:
            return await self._items.__anext__()
        for item in self._items:
            return item
        raise StopAsyncIteration

    async def aclose(self) -> None:
        if hasattr(self._items, "aclose"):
            await self._items.aclose()
