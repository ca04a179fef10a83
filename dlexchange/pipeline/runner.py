"""Runs one stage: its function, on its stream, a step at a time, not too far ahead."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Generator
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from .._core import Event, Stream
from ..errors import DeviceLost, ExchangeError
from .context import Context, Partial
from .currents import Currents
from .message import Message, pack, unpack
from .request import Part

if TYPE_CHECKING:
    from .request import Request
    from .stage import Stage

__all__ = ["Runner"]


class Runner:
    """A stage at work. Opened, used and closed by one thread.

    Parameters
    ----------
    stream : Stream or None
        What it works on; None on the host.
    deliver : callable
        ``deliver(request, part, message)``: sends a partial result on its way.
    """

    def __init__(self, stage: Stage, stream: Stream | None, deliver: Callable[..., None]) -> None:
        self.stage = stage
        self.stream = stream
        self.keeps_ahead = stream is not None
        self.packs = True
        self.has_filter = False
        self._deliver = deliver
        self._ahead: deque[Event] = deque()
        self._currents = Currents(stream)
        self._function: Callable[..., Any] = stage.function
        self.context = Context(stage, stream, self._emit)

    def open(self) -> None:
        """Load the model, with the stream current."""
        self.enter()
        made: Any = self.stage.function
        if inspect.isclass(made):
            made = made()
        if self.stage.load is not None:
            self.context.model = self.stage.load()
        elif hasattr(made, "load"):
            made.load()
        self._function = made

    def enter(self) -> None:
        """Make the stream current in this thread."""
        self._currents.refresh()

    def leave(self) -> None:
        """Make current again what was before."""
        self._currents.close()

    def close(self) -> None:
        """Let go of the model and the stream."""
        self._ahead.clear()
        self._function = self.stage.function
        self.leave()
        del self.context  # which knows this runner: not even a cycle is left behind

    def steps(
        self, request: Request, messages: tuple[Message, ...], part: Part | None
    ) -> Generator[None, None, Message]:
        """Run the function on a request; yield between its steps, return what it made."""
        self.context._begin(request, part)
        try:
            self.context.checkpoint()
            self.enter()
            stage = self.stage
            arrays = [unpack(message, stage.device, stage.framework) for message in messages]
            del messages
            self._keep_ahead()
            made = self._function(self.context, *arrays)
            del arrays
            if isinstance(made, GeneratorType):
                made = yield from self._drive(made)
            self._step_done()
            return pack(made, self.stream) if self.packs else made
        finally:
            self.context._end()

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
                try:
                    said = next(generator)
                except StopIteration as stop:
                    return stop.value
                self._step_done()
                if isinstance(said, Partial):
                    self.context.emit(said)
                elif said is not None:
                    raise TypeError(
                        f"stage {self.stage.name!r} yielded {type(said).__name__}: yield "
                        "ctx.partial(value), or nothing"
                    )
                del said
                yield
                self.context.checkpoint()
                self._keep_ahead()
        finally:
            generator.close()  # here: in its own thread, its stream current

    def _emit(self, request: Request, partial: Partial) -> None:
        if request.room is not None and (self.has_filter or not partial.is_internal):
            part = Part(None, self.stage.name, partial.step, False)
            self._deliver(request, part, pack(partial.value, self.stream))

    def _step_done(self) -> None:
        if self.keeps_ahead and self.stream is not None:
            self._ahead.append(self.stream.record())

    def _keep_ahead(self) -> None:
        """Wait, in this thread, until the host is less than `lookahead` steps ahead."""
        while len(self._ahead) >= self.stage.lookahead:
            event = self._ahead.popleft()
            if not event.query():
                event.synchronize()
