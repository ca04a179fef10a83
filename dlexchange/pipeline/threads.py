"""The stages at work in parallel: one thread each, for as long as the pipeline is open."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._core import Stream
from .flow import Flow
from .request import Request, annotate
from .runner import Runner

if TYPE_CHECKING:
    from .stage import Stage

__all__ = ["Threads"]


class Worker:
    """A stage's thread: it opens the stage, serves its inbox, and closes it.

    Parameters
    ----------
    changed : callable
        Called when it is ready, has failed to get ready, or has ended.
    """

    def __init__(self, flow: Flow, stage: Stage, name: str, changed: Callable[[], None]) -> None:
        self.stage = stage
        self.error: BaseException | None = None
        self.is_started = False
        self.is_ended = False
        self._flow = flow
        self._inbox = flow.inboxes[stage]
        self._changed = changed
        self.thread = threading.Thread(target=self._run, name=f"{name}/{stage.name}", daemon=True)

    def _run(self) -> None:
        runner = None
        try:
            stream = None if self.stage.device is None else Stream.create(self.stage.device)
            runner = Runner(self.stage, stream, self._flow, waits=True)
            runner.open()
        except BaseException as error:
            self.error = annotate(error, f"while stage {self.stage.name!r} was getting ready")
        self.is_started = True
        self._changed()
        if runner is not None:
            if self.error is None:
                self._serve(runner)
            runner.close()
        del runner
        self.is_ended = True
        self._changed()

    def _serve(self, runner: Runner) -> None:
        while (item := self._inbox.take()) is not None:
            self._run_one(runner, *item)
            del item  # keep nothing alive while there is nothing to do

    def _run_one(self, runner: Runner, request: Request, messages: Any, part: Any) -> None:
        try:
            message = run_to_end(runner.steps(request, messages, part))
        except BaseException as error:
            lost = runner.loss(error)
            if lost is not None:
                self._flow.lose(lost)
            self._flow.failed(request, self.stage, error)
        else:
            finish_one(self._flow, self.stage, request, part, message)


def run_to_end(steps: Any) -> Any:
    """Run a generator; return what it returns."""
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        return stop.value


def finish_one(flow: Flow, stage: Stage, request: Request, part: Any, message: Any) -> None:
    """Tell the flow what a stage made."""
    if stage.is_filter:
        flow.filtered(request, part, message)
    else:
        flow.emitted(request, stage, message)


class Threads:
    """An open pipeline whose stages have threads of their own."""

    def __init__(self, flow: Flow, name: str, changed: Callable[[], None]) -> None:
        self.flow = flow
        self.pid = os.getpid()
        self._workers = [Worker(flow, stage, name, changed) for stage in flow.inboxes]

    def start(self) -> None:
        """Start the threads; `is_started` says when all are ready, or not to be so."""
        try:
            for worker in self._workers:
                worker.thread.start()
        except RuntimeError:  # there is no thread to be had
            for worker in self._workers:
                worker.is_ended |= worker.thread.ident is None
            raise

    @property
    def is_started(self) -> bool:
        """Whether each stage is ready or has failed."""
        return all(worker.is_started for worker in self._workers)

    @property
    def is_stopped(self) -> bool:
        """Whether each thread has ended its work."""
        return all(worker.is_ended for worker in self._workers)

    def first_error(self) -> BaseException | None:
        """Return the first error with which a stage failed to get ready."""
        errors = [worker.error for worker in self._workers if worker.error is not None]
        return errors[0] if errors else None

    def check(self) -> None:
        """Raise where a request could only deadlock."""
        if os.getpid() != self.pid:
            raise RuntimeError(
                "stage threads do not survive a fork: enter the pipeline in the child"
            )
        if any(worker.thread is threading.current_thread() for worker in self._workers):
            raise RuntimeError(
                "a stage, or the callback of a future, cannot ask its own pipeline: its thread "
                "would wait for itself"
            )

    def stop(self) -> None:
        """Let the threads end once no request is unfinished."""
        self.flow.when_idle(self.flow.close)

    def join(self) -> None:
        """Wait for threads that have ended their work."""
        for worker in self._workers:
            if worker.thread.ident is not None:
                worker.thread.join()

    async def turn(self, request: Request) -> None:
        """Wait until something has happened to a request of this task."""
        await request.waker.wait()  # type: ignore[attr-defined]

    def turn_here(self, request: Request, timeout: float | None) -> bool:
        """Wait, in this thread; False where nothing happened in time."""
        return bool(request.waker.wait(timeout))  # type: ignore[attr-defined]

    def cancel(self, request: Request) -> None:
        """Stop working for a request."""
        self.flow.cancel(request)

    def abandon(self, request: Request) -> None:
        """Stop working for a request; from a destructor."""
        self.flow.abandon(request)
