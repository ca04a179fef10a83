"""What a stage function is given first: its model, its stream, and who asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from .._core import Stream
from ..device import Device
from ..errors import Cancelled
from .progress import Progress
from .request import Part

if TYPE_CHECKING:
    from .request import Request
    from .stage import Stage

__all__ = ["Context", "Partial"]


class Partial(NamedTuple):
    """An intermediate result; made by ``ctx.partial``, and yielded or emitted."""

    value: Any
    step: int | None
    is_internal: bool


class Context:
    """The first argument of a stage function. Of its stage's thread: nobody else may use it.

    Attributes
    ----------
    model : object
        What the stage's `load` returned.
    stream : Stream or None
        The stage's stream, current in this thread; None on the host.
    device : Device or None
    stage : str
        The stage's name.
    part : Part or None
        In a filter: the step and stage of the partial result.
    """

    def __init__(self, stage: Stage, stream: Stream | None, emit: Callable[..., None]) -> None:
        self.model: Any = None
        self.stream = stream
        self.device: Device | None = stage.device
        self.stage = stage.name
        self.part: Part | None = None
        self._emit = emit
        self._request: Request | None = None
        self._thread: int | None = None

    def checkpoint(self) -> None:
        """Raise `dx.Cancelled` where nobody wants this request any more."""
        if self._now().is_ended:
            raise Cancelled(f"request {self._now().number}, in stage {self.stage!r}")

    def partial(self, value: Any, step: int | None = None, *, internal: bool = False) -> Partial:
        """Make an intermediate result, to be yielded.

        Parameters
        ----------
        step : int or None
        internal : bool
            Not for the user, unless the pipeline's filter makes something of it.
        """
        return Partial(value, step, internal)

    def emit(self, partial: Partial) -> None:
        """Send an intermediate result, where the function is no generator; a checkpoint.

        Waits while the consumer has not taken enough of those before.
        """
        request = self._now()
        if not isinstance(partial, Partial):
            raise TypeError(f"emit ctx.partial(value), not {type(partial).__name__}")
        if request.channel is not None and partial.step is not None:
            request.channel.put(Progress(self.stage, partial.step, None))
        self._emit(request, partial)
        self.checkpoint()

    def progress(self, step: int, total: int | None = None) -> None:
        """Tell how far it is. Never waits: a listener that is too slow misses news."""
        channel = self._now().channel
        if channel is not None:
            channel.put(Progress(self.stage, step, total))

    def param(self, name: str, default: Any = None) -> Any:
        """Return a parameter that the caller gave with the request."""
        return self._now().params.get(name, default)

    def _now(self) -> Request:
        request = self._request
        if request is None or self._thread != threading.get_ident():
            raise RuntimeError(
                f"the ctx of stage {self.stage!r} was used outside of its thread, or when no "
                "request is there: keep to the stage function's own thread and call"
            )
        return request

    def _begin(self, request: Request, part: Part | None) -> None:
        self._request, self.part, self._thread = request, part, threading.get_ident()

    def _go_on(self) -> None:
        """Be of the thread that does the next step: without parallelism, of whoever waits."""
        self._thread = threading.get_ident()

    def _end(self) -> None:
        self._request = self.part = None
