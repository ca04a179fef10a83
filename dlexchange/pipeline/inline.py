"""The same stages without parallelism: in the caller's thread, on one stream a device."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from typing import Any, NamedTuple

import anyio

from .._core import Stream
from .flow import Flow
from .request import Part, Request, annotate
from .runner import Runner
from .stage import Stage
from .threads import finish_one

__all__ = ["Inline"]

_PAUSE = 0.001
"""Seconds between looks for work, where all there is waits for somebody's future."""


class _Run(NamedTuple):
    stage: Stage
    request: Request
    part: Part | None
    steps: Generator[None, None, Any]


class Inline:
    """An open pipeline without threads: whoever waits for a request does the work.

    One stage works on one request at a time, the last stages first, as far as its next
    step; so results are the same as in parallel, and cancelling works at the same points.
    """

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.is_started = self.is_stopped = True
        self.pid = os.getpid()
        self._error: BaseException | None = None
        self._runners: dict[Stage, Runner] = {}
        self._run: _Run | None = None
        self._turn = threading.Lock()
        self._thread = 0

    def start(self) -> None:
        """Load every stage, here."""
        stages = list(self.flow.inboxes)
        streams = {s.device: Stream.create(s.device) for s in stages if s.device is not None}
        for stage in stages:
            stream = None if stage.device is None else streams[stage.device]
            runner = Runner(stage, stream, self.flow, waits=False)  # the caller sets the pace
            runner.records = len(streams) > 1 or stage.is_filter or stage in self.flow.sinks
            self._runners[stage] = runner
            try:
                runner.open()
            except BaseException as error:
                self._error = annotate(error, f"while stage {stage.name!r} was getting ready")
                return
            finally:
                runner.leave()

    def first_error(self) -> BaseException | None:
        """Return the error with which a stage failed to get ready."""
        return self._error

    def check(self) -> None:
        """Raise where a request could only deadlock."""
        if os.getpid() != self.pid:
            raise RuntimeError("a pipeline does not survive a fork: enter it in the child")
        if self._thread == threading.get_ident():
            raise RuntimeError(
                "a stage, or the callback of a future, cannot ask its own pipeline: its thread "
                "would wait for itself"
            )

    def stop(self) -> None:
        """Close the stages, here."""
        while self.flow.unfinished:
            self._step()
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()

    def join(self) -> None:
        """Nothing to wait for."""

    async def turn(self, request: Request) -> None:
        """Do a step; then others may run, and cancellation takes effect."""
        await anyio.sleep(0 if self._step() else _PAUSE)

    def turn_here(self, request: Request, timeout: float | None) -> bool:
        """Do a step."""
        if not self._step():
            time.sleep(_PAUSE)
        return True

    def cancel(self, request: Request) -> None:
        """Stop working for a request; its generator is closed at once."""
        self.flow.cancel(request)
        self._close(request)

    def abandon(self, request: Request) -> None:
        """Stop working for a request; from a destructor."""
        self.flow.abandon(request)
        if self.flow.guard.is_free():  # else this thread may hold it, and closing needs it
            self._close(request)

    def _close(self, request: Request) -> None:
        if self._turn.acquire(blocking=False):  # else it runs now, and sees the flag
            try:
                if self._run is not None and self._run.request is request:
                    self._advance()
            finally:
                self._turn.release()

    def _step(self) -> bool:
        with self._turn:
            if self._run is None:
                self._run = self._next()
            if self._run is None:
                return False
            self._advance()
            return True

    def _next(self) -> _Run | None:
        for stage, inbox in reversed(list(self.flow.inboxes.items())):
            item = inbox.take_now()
            if item is not None:
                request, messages, part = item
                return _Run(
                    stage, request, part, self._runners[stage].steps(request, messages, part)
                )
        return None

    def _advance(self) -> None:
        run = self._run
        assert run is not None
        runner = self._runners[run.stage]
        self._thread = threading.get_ident()
        runner.enter()
        try:
            next(run.steps)
            return
        except StopIteration as stop:
            self._run = None
            finish_one(self.flow, run.stage, run.request, run.part, stop.value)
        except BaseException as error:
            self._run = None
            lost = runner.loss(error)
            if lost is not None:
                self.flow.lose(lost)
            self.flow.failed(run.request, run.stage, error)
        finally:
            runner.leave()
            self._thread = 0
