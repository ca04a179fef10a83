"""What a stage is, before any thread runs it: a function, where it works, what follows it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..device import Device

if TYPE_CHECKING:
    from .graph import Graph

__all__ = ["Stage"]


class Stage:
    """One step of a pipeline; made by ``@pipe.stage``, joined to others by ``>>``.

    Attributes
    ----------
    name : str
    function : callable or type
        ``function(ctx, x)``; a generator function; an object, or its class, with ``load()``.
    device : Device or None
        Where it works. None: on the host, without a stream.
    load : callable or None
        Makes ``ctx.model``, once, in the stage's own thread.
    lookahead : int
        How many steps the host may run ahead of the device.
    framework : str, module, type or None
        What arrays it is given. None: of the framework that made them.
    copy : bool
        Whether arrays of another device are copied to this one.
    is_filter : bool
        Whether it stands between partial results and the user.
    """

    def __init__(
        self,
        graph: Graph,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        device: Any = None,
        load: Callable[[], Any] | None = None,
        lookahead: int = 2,
        framework: Any = None,
        copy: bool = False,
        is_filter: bool = False,
    ) -> None:
        if lookahead < 1:
            raise ValueError(f"lookahead must be at least 1, not {lookahead}")
        if not callable(function):
            raise TypeError(f"a stage is made of a function or a class, not of {function!r}")
        if _is_async(function):
            raise TypeError(
                f"a stage runs in a thread, without an event loop: {function!r} must be a "
                "plain function or generator, not async"
            )
        self._graph = graph
        self.function = function
        self.name: str = name or str(getattr(function, "__name__", type(function).__name__))
        self.device = None if device is None else Device.of(device)
        if self.device is not None and self.device.type == 1:
            self.device = None  # the host: it has no stream
        self.load = load
        self.lookahead = lookahead
        self.framework = framework
        self.copy = copy
        self.is_filter = is_filter

    def __rshift__(self, after: Any) -> Any:
        """Give what this stage makes to another stage, or to each of several."""
        for stage in _stages(after):
            self._graph.join(self, stage)
        return after

    def __rrshift__(self, before: Iterable[Stage]) -> Stage:
        """Take what each of several stages makes, as one argument each."""
        for stage in _stages(before):
            self._graph.join(stage, self)
        return self

    def __repr__(self) -> str:
        return f"<stage {self.name!r} on {self.device or 'the host'}>"


def _is_async(function: Any) -> bool:
    calls = (function, function.__call__)
    return any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in calls)


def _stages(x: Any) -> list[Stage]:
    found = [x] if isinstance(x, Stage) else list(x) if isinstance(x, (list, tuple)) else []
    if not found or not all(isinstance(stage, Stage) for stage in found):
        raise TypeError(f">> joins stages, or tuples of stages; not {x!r}")
    return found
