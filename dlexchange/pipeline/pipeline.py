"""A pipeline: its stages, how it is entered, and what is asked of it."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio

from . import trace
from .draw import svg
from .engine import Engine
from .flow import Flow
from .future import Future, FutureWaker
from .graph import Graph
from .inline import Inline
from .message import learn_host_types, pack
from .outcome import Parts, Results, outcome
from .progress import Channel, Listener, Progress
from .recorder import Recorder
from .request import Request
from .stage import Stage
from .sync import SyncPipeline
from .threads import Threads
from .view import live
from .waking import TaskWaker, ThreadWaker, is_in_loop, this_task

__all__ = ["Pipeline"]

_HERE = str(Path(__file__).parent) + os.sep
_OPTIONS = {"timeout", "on_progress", "buffer"}


class Pipeline:
    """Stages, each in a thread and on a stream of its own, through which requests flow.

    Parameters
    ----------
    name : str
    inflight : int
        How many requests may be in the stages at a time.
    queue : int
        How many more are accepted by `submit` before it waits.
    parallel : bool
        False: no threads and one stream a device; whoever waits does the work.
    strict : bool
        True: a stage function that makes its thread wait for a device, through dlexchange,
        has failed: StreamError. Else such waits are counted, in ``dx.stats().host_waits``.
    keep : int
        How many events are kept for `trace` and `draw`, the newest; 0 for none.

    Synchronization
    ---------------
    Neither a device nor an event loop is ever blocked. A stage's thread waits for its own
    stream where it would be more than `lookahead` steps ahead of it.
    """

    def __init__(
        self,
        name: str = "pipeline",
        *,
        inflight: int = 4,
        queue: int = 64,
        parallel: bool = True,
        strict: bool = False,
        keep: int = 10_000,
    ) -> None:
        if inflight < 1 or queue < 0 or keep < 0:
            raise ValueError("inflight must be at least 1, queue and keep at least 0")
        self.name = name
        self._inflight = inflight
        self._queue = queue
        self._is_parallel = parallel
        self._is_strict = strict
        self._keep = keep
        self._recorder: Recorder | None = None
        self._graph = Graph()
        self._engine: Engine | None = None
        self._listener: Listener | None = None

    # --- stages ---

    def stage(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Make a stage of a function, a generator function, or an object or class with ``load()``.

        Parameters
        ----------
        function : callable
            ``function(ctx, x)``; what it returns goes to the next stage.
        name : str
        device : Device, str or tuple
            Where it works, on a stream of its own. Default: on the host.
        load : callable
            Makes ``ctx.model``: called once, in the stage's thread, its stream current.
        lookahead : int
            How many steps the host may run ahead of the device; bounds memory, and how much
            work is still done after a cancellation. Default 2.
        framework : str, module or type
            Give it arrays of this framework. Default: as the stage before it made them.
        copy : bool
            Copy arrays of another device to this one. Default: refuse them. Arrays of the host
            come as they are.

        Returns
        -------
        Stage
            Without `function`: a decorator.
        """
        return self._add(function, options)

    def filter(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Make a stage between all partial results and the user.

        What it returns for one is shown instead; None holds it back. Parameters as `stage`.
        """
        return self._add(function, {**options, "is_filter": True})

    def _add(self, function: Callable[..., Any] | None, options: dict[str, Any]) -> Any:
        def add(made: Callable[..., Any]) -> Stage:
            stage = Stage(self._graph, made, **options)
            self._graph.add(stage)
            return stage

        return add if function is None else add(function)

    # --- in an event loop ---

    async def __aenter__(self) -> Pipeline:
        waker = TaskWaker()
        engine = self._begin(waker.wake)
        try:
            engine.start()
            while not engine.is_started:
                await waker.wait()
            self._check_ready(engine)
        except BaseException:
            await self._leave(engine, waker, "the pipeline did not get ready")
            raise
        self._waker = waker
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        engine = self._running()
        await self._leave(engine, self._waker, None if error is None else "the pipeline was left")

    async def _leave(self, engine: Engine, waker: TaskWaker, reason: str | None) -> None:
        self._end(engine, reason)
        try:
            while not engine.is_stopped:
                await waker.wait()
        finally:
            with anyio.CancelScope(shield=True):
                engine.flow.stop("the pipeline was left")
                while not engine.is_stopped:
                    await waker.wait()
            self._ended(engine)

    def __call__(
        self,
        x: Any,
        *,
        timeout: float | None = None,
        on_progress: Callable[[Progress], Any] | None = None,
        **params: Any,
    ) -> Awaitable[Any]:
        """Send a request through the pipeline; await the result.

        Parameters
        ----------
        x : pytree
            What the first stages are given.
        timeout : float or None
            Seconds; then the request is cancelled and TimeoutError raised.
        on_progress : callable or None
            ``on_progress(progress)``, called in the event loop; too slow, it misses some. What
            it raises ends the request and is raised here.
        **params
            For ``ctx.param(name)``.

        Returns
        -------
        awaitable
            Of native arrays of the last stage's framework; a dict by stage name where several
            stages are last.

        Raises
        ------
        DeviceLost
            The device's context has died.
        Cancelled
            The pipeline was left.

        Synchronization
        ---------------
        The result is ordered into the streams that are current when the await resumes, in the
        thread of the event loop; the device may still be working on it. Currents are a
        thread's, not a task's: a ``with stream:`` block must not span an await.

        Ownership
        ---------
        The result keeps its memory; its release is ordered, also after the pipeline was left.
        """
        request = self._request(TaskWaker, params, on_progress)
        return self._outcome(request, x, timeout)

    async def _outcome(self, request: Request, x: Any, timeout: float | None) -> Any:
        engine = self._enter(request, x)
        return await outcome(engine, request, timeout)

    def stream(
        self,
        x: Any,
        *,
        buffer: int = 8,
        on_progress: Callable[[Progress], Any] | None = None,
        **params: Any,
    ) -> Parts:
        """Send a request; iterate over its partial results, then its result.

        Parameters
        ----------
        buffer : int
            How many partial results may wait for the loop before the stage does.

        Returns
        -------
        async iterator of Part
            ``part.value``, ``.stage``, ``.step``, ``.is_result``. Leaving the loop cancels the
            request; so does the task that takes the parts by leaving the pipeline.

        Synchronization
        ---------------
        As `__call__`, for each part.
        """
        request = self._request(TaskWaker, params, on_progress, buffer)
        return Parts(self._enter(request, x), request)

    def map(self, xs: Any, **params: Any) -> Results:
        """Send many requests; iterate over their results, in order.

        Parameters
        ----------
        xs : iterable or async iterable
            At most `inflight` are pulled before their results are taken. While it is awaited
            no result is handed out: what comes now and then is better sent by `__call__`.

        Synchronization
        ---------------
        As `__call__`, for each result.
        """
        engine = self._running()

        def begin(x: Any) -> Request:
            request = self._request(TaskWaker, params, None)
            self._enter(request, x)
            return request

        return Results(engine, begin, xs, self._inflight)

    # --- without an event loop ---

    def sync(self) -> SyncPipeline:
        """Return what enters the pipeline without an event loop: ``with pipe.sync() as p``."""
        return SyncPipeline(self)

    def submit(
        self, x: Any, *, on_progress: Callable[[Progress], Any] | None = None, **params: Any
    ) -> Future:
        """Send a request from any thread without an event loop.

        Waits while the queue is full.

        Returns
        -------
        Future
            A ``concurrent.futures.Future``; ``result()`` orders the arrays into the current
            streams of the thread that calls it.
        """
        if is_in_loop():
            raise RuntimeError("submit would block the event loop: use await pipe(x)")
        waker = FutureWaker()
        request = self._request(lambda: waker, params, on_progress)
        engine = self._running()
        future = Future(engine, request)
        waker.untold.append(future)
        self._enter(request, x)
        while engine.flow.is_at_door(request):
            engine.turn_here(request, None)
        if isinstance(engine, Inline):
            while not request.is_finished:
                engine.turn_here(request, None)
        return future

    # --- to look at ---

    def trace(self, path: str | Path) -> None:
        """Write what has happened since it was entered, for Perfetto or chrome://tracing.

        A row for each stage's thread and each stream, an arrow for each hand-off and release.
        A step on a stream is drawn until it was seen complete, which may be later than it was.
        """
        if self._recorder is None:
            raise RuntimeError("nothing has happened yet: enter the pipeline first")
        trace.write(path, self.name, self._graph, self._recorder)

    def draw(self, path: str | Path | None = None) -> str:
        """Return the stages, and the timeline where there is one, as an SVG; write it to `path`."""
        made = svg(self.name, self._graph, self._recorder)
        if path is not None:
            Path(path).write_text(made)
        return made

    def live(self, **options: Any) -> AbstractContextManager[Any]:
        """Show in the terminal, in the body, what waits and what works; needs rich."""
        return live(self, **options)

    # --- between ---

    def _begin(self, changed: Callable[[], None]) -> Engine:
        if self._engine is not None and self._engine.pid == os.getpid():
            raise RuntimeError(f"the pipeline {self.name!r} has been entered already")
        self._graph.check()
        self._graph.is_frozen = True
        learn_host_types()
        self._recorder = Recorder(self._keep)
        flow = Flow(self.name, self._graph, self._inflight, self._queue, self._recorder)
        flow.is_strict = self._is_strict
        self._engine = Threads(flow, self.name, changed) if self._is_parallel else Inline(flow)
        self._listener = Listener(self.name)
        return self._engine

    @staticmethod
    def _check_ready(engine: Engine) -> None:
        error = engine.first_error()
        if error is not None:
            raise error

    def _end(self, engine: Engine, reason: str | None) -> None:
        for request in engine.flow.taken_by(this_task()):
            engine.cancel(request)  # who leaves takes no more parts: their stage would wait
        if reason is not None:
            engine.flow.stop(reason)
        engine.flow.close_door(lambda: RuntimeError(f"the pipeline {self.name!r} has been left"))
        engine.stop()

    def _ended(self, engine: Engine) -> None:
        engine.join()
        if self._listener is not None:
            self._listener.close()
        self._engine = self._listener = None
        self._graph.is_frozen = False

    def _running(self) -> Engine:
        if self._engine is None:
            raise RuntimeError(
                f"the pipeline {self.name!r} is not running: enter it first, with "
                "`async with pipe:` or `with pipe.sync() as p:`"
            )
        return self._engine

    def _request(
        self,
        make_waker: Callable[[], TaskWaker | ThreadWaker],
        params: dict[str, Any],
        listener: Callable[[Progress], Any] | None,
        room: int | None = None,
    ) -> Request:
        engine = self._running()
        for name in _OPTIONS & params.keys():
            raise TypeError(f"{name}= is no option of this call, nor a name for a parameter")
        if room is not None and room < 1:
            raise ValueError(f"buffer must be at least 1, not {room}")
        waker = make_waker()
        request = Request(_site(), waker, params=params, room=room)
        if listener is not None and self._listener is not None:
            call = waker.call if isinstance(waker, TaskWaker) else self._listener.call
            known = weakref.ref(request)  # else a cycle would keep what nobody took

            def failed(error: BaseException) -> None:
                if (request := known()) is not None:
                    engine.flow.end(request, error)

            request.channel = Channel(call, listener, failed)
        return request

    def _enter(self, request: Request, x: Any) -> Engine:
        """Register a request in one step, without an await."""
        engine = self._running()
        engine.check()
        engine.flow.enter(request, pack(x, None))
        return engine


def _site() -> str:
    """Say which line outside of this package asks."""
    frame = sys._getframe(2)
    while frame.f_code.co_filename.startswith(_HERE) and frame.f_back is not None:
        frame = frame.f_back
    return f"the request of {frame.f_code.co_filename}:{frame.f_lineno}"
