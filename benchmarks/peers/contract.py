"""What a peer's file is written against."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

CALL = "f(x)"
CALL_MANY = "list(map(f, x))"


class Absent(Exception):
    """This machine can not run the peer; the text says why, and is printed."""


@dataclass(frozen=True)
class Guarantees:
    """The four columns: ``"yes"``, ``"no"``, ``"host"`` (host memory only, so there is
    nothing to order) or ``"caller"`` (left to the caller). `why` names the evidence."""

    values: str  # conj and neg bits: what the framework shows, or a refusal
    ordering: str  # the consumer's stream waits for the producer's
    release: str  # memory is not reused while the consumer's stream still reads it
    capture: str  # a wrong hand-off in a graph capture is refused before it spoils it
    why: str


def require(name: str) -> ModuleType:
    """Import `name`, or raise `Absent`."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Absent(f"{name} is not installed or does not load: {error}") from error
