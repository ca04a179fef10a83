"""What the faces of a pipeline, with and without an event loop, have in common."""

from __future__ import annotations

from typing import Any, TypeAlias

from .inline import Inline
from .message import unpack
from .request import Part, Request
from .threads import Threads

__all__ = ["Engine", "result_of", "take_part"]

Engine: TypeAlias = Threads | Inline


def result_of(engine: Engine, request: Request) -> Any:
    """Return the result, ordered into this thread's current streams, or raise the error."""
    request.raise_error()
    outputs, request.outputs = request.outputs, {}
    made = {stage: unpack(outputs.pop(stage), anywhere=True) for stage in engine.flow.sinks}
    if len(made) == 1:
        return made.popitem()[1]
    return {stage.name: value for stage, value in made.items()}


def take_part(engine: Engine, request: Request) -> Part:
    """Return the next partial result, or the result where there is no more."""
    found = engine.flow.next_part(request)
    if found is not None:
        part, message = found
        return part._replace(value=unpack(message, anywhere=True))
    value = result_of(engine, request)
    return Part(value, engine.flow.sinks[-1].name, None, True)
