"""Runs one stage: its function, on its stream, a step at a time, not too far ahead."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Generator
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from .._core import Event, Stream, _host_waits
from ..errors import Cancelled, DeviceLost, ExchangeError, StreamError
from .context import Context, Partial
from .currents import Currents
from .message import Message, pack, unpack
from .promises import Promised
from .recorder import now
from .request import Part

if TYPE_CHECKING:
    from .flow import Flow
    from .request import Request
    from .stage import Stage

__all__ = ["Runner"]


class Runner:
    """A stage at work. Opened, used and closed by one thread.

    Parameters
    ----------
    stream : Stream or None
        What it works on; None on the host.
    waits : bool
        Whether it may wait: for room for a partial result, and for its stream.
    """

    def __init__(self, stage: Stage, stream: Stream | None, flow: Flow, *, waits: bool) -> None:
        self.stage = stage
        self._flow = flow
        self._recorder = flow.recorder
        self.stream = stream
        self.records = True
        self._waits = waits
        self._deliver = flow.part if waits else flow.part_now
        self._shows_internal = any(stage.is_filter for stage in flow.inboxes)
        self._waited = 0
        self._side: Stream | bool = stage.copy
        if stage.copy and stage.device is not None:
            self._side = Stream.create(stage.device)
        self._ahead: deque[tuple[Event, int, int]] = deque()
        self._currents = Currents(stream)
        self._function: Callable[..., Any] = stage.function
        self.context = Context(stage, stream, self._emit)

    def open(self) -> None:
        """Load the model, with the stream current."""
        start = now()
        self.enter()
        made: Any = self.stage.function
        if inspect.isclass(made):
            made = made()
        if self.stage.load is not None:
            self.context.model = self.stage.load()
        elif hasattr(made, "load"):
            made.load()
        self._function = made
        self._recorder.span("load", self.stage.name, 0, start, "load")

    def enter(self) -> None:
        """Make the stream current in this thread."""
        self._currents.refresh()

    def leave(self) -> None:
        """Make current again what was before."""
        self._currents.close()

    def close(self) -> None:
        """Let go of the model and the stream."""
        while self._ahead:
            self._note_device()
        self._function = self.stage.function
        self.leave()
        del self.context  # which knows this runner: not even a cycle is left behind

    def steps(
        self, request: Request, messages: list[Message], part: Part | None
    ) -> Generator[None, None, Message]:
        """Run the function on a request; yield between its steps, return what it made."""
        self.context._begin(request, part)
        self._begin_step(request)
        try:
            self.context.checkpoint()
            self.enter()
            stage = self.stage
            arrays = [
                unpack(message, stage.device, stage.framework, stream=self.stream, side=self._side)
                for message in messages
            ]
            messages.clear()  # whoever called keeps the list
            self._keep_ahead()
            self._waited = _host_waits()
            made = self._function(self.context, *arrays)
            del arrays
            if isinstance(made, GeneratorType):
                made = yield from self._drive(made)
            else:
                self._check_strict()
            if isinstance(made, Partial):
                raise TypeError(f"stage {stage.name!r} returned a partial result: yield or emit it")
            message = pack(made, self.stream, records=self.records)
            if stage.is_filter:
                self._check_part(message)
            self._end_step()
            return message
        except Cancelled:
            self._end_step("cancelled")
            raise
        except GeneratorExit:
            raise
        except BaseException:
            self._end_step("failed")
            raise
        finally:
            self.context._end()
            self._flow.working.pop(self.stage, None)

    def loss(self, error: BaseException) -> DeviceLost | None:
        """Return what the device says where it is gone, and None where it is not."""
        if isinstance(error, DeviceLost):
            return error
        if self.stream is not None:
            try:
                self.stream.query()
            except DeviceLost as lost:
                return lost
            except (ExchangeError, RuntimeError):
                pass  # it captures, or a call failed: it is there
        return None

    def _drive(self, generator: Generator[Any, None, Any]) -> Generator[None, None, Any]:
        try:
            while True:
                self._waited = _host_waits()
                try:
                    said = next(generator)
                except StopIteration as stop:
                    self._check_strict()
                    return stop.value
                self._check_strict()
                self._end_step()
                if isinstance(said, Partial):
                    self.context.emit(said)
                elif said is not None:
                    raise TypeError(
                        f"stage {self.stage.name!r} yielded {type(said).__name__}: yield "
                        "ctx.partial(value), or nothing"
                    )
                del said
                yield
                self.context._go_on()
                self._begin_step(self.context._now())
                self.context.checkpoint()
                self._keep_ahead()
        finally:
            generator.close()  # here: in its own thread, its stream current

    def _emit(self, request: Request, partial: Partial) -> None:
        if request.room is not None and (self._shows_internal or not partial.is_internal):
            part = Part(None, self.stage.name, partial.step, False)
            message = pack(partial.value, self.stream)
            self._check_part(message)
            self._deliver(request, part, message)

    def _check_part(self, message: Message) -> None:
        if isinstance(message, Promised):
            raise ExchangeError(
                f"a partial result of stage {self.stage.name!r} waits for a future or a promise, "
                "and others would overtake it: yield it once it is done"
            )

    def _check_strict(self) -> None:
        if self._flow.is_strict and _host_waits() > self._waited:
            raise StreamError(
                f"stage {self.stage.name!r} made its thread wait for a device, and the pipeline "
                "is strict: await dx.host(x) outside, or let a stage of the device do it"
            )

    def _begin_step(self, request: Request) -> None:
        number, step = self._flow.working.get(self.stage, (0, 0))
        self._step = step + 1 if number == request.number else 0
        self._flow.working[self.stage] = (request.number, self._step)
        self._number = request.number
        self._start = now()

    def _end_step(self, how: str = "") -> None:
        note = how or (f"step {self._step}" if self._step else "")
        self._recorder.span("run", self.stage.name, self._number, self._start, note)
        if self._waits and self.stream is not None and not how:
            self._ahead.append((self.stream.record(), self._number, self._start))

    def _keep_ahead(self) -> None:
        """Wait, in this thread, until the host is less than `lookahead` steps ahead."""
        while len(self._ahead) >= self.stage.lookahead:
            event = self._ahead[0][0]
            if not event.query():
                start = now()
                event.synchronize()
                note = "for its stream"
                self._recorder.span("wait", self.stage.name, self._number, start, note)
            self._note_device()

    def _note_device(self) -> None:
        """Note when a step was seen complete: no earlier, since nobody asked before."""
        _, number, start = self._ahead.popleft()
        self._recorder.span("device", self.stage.name, number, start, "until seen complete")
