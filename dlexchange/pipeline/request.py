"""One request: what somebody asked for, where it stands, and its one outcome."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import Cancelled, DeviceLost

if TYPE_CHECKING:
    from .message import Message
    from .progress import Channel
    from .stage import Stage
    from .waking import Waker

__all__ = ["Part", "Request"]

_numbers = itertools.count(1)


class Part(NamedTuple):
    """Something that ``pipe.stream(x)`` yields: a partial result, or the result."""

    value: Any
    stage: str
    step: int | None
    is_result: bool


class Request:
    """The state of a request. All of it belongs to the flow's lock, but for the flags.

    Attributes
    ----------
    is_ended : bool
        Nobody works for it any more: cancelled or failed. Set once, read without the lock.
    is_finished : bool
        It has its outcome, and has given back its ticket.
    work : int
        How many inboxes and stages it is in.
    promised : int
        How many messages of it wait for futures.
    room : int or None
        How many more partial results may wait for their consumer. None: nobody wants any.
    taker : object
        The task or thread that takes them, so far; None where nobody wants any.
    """

    def __init__(
        self,
        site: str,
        waker: Waker,
        *,
        params: dict[str, Any] | None = None,
        channel: Channel | None = None,
        room: int | None = None,
    ) -> None:
        self.number = next(_numbers)
        self.site = site
        self.params = params or {}
        self.waker = waker
        self.channel = channel
        self.input: Message | None = None
        self.is_ended = False
        self.is_finished = False
        self.has_ticket = False
        self.work = self.promised = 0
        self.entered = self.started = 0
        self.joins: dict[Stage, dict[Stage, Message]] = {}
        self.outputs: dict[Stage, Message] = {}
        self.error: BaseException | None = None
        self.room = room
        self.taker: object = None
        self.parts: deque[tuple[Part, Message]] = deque()
        self.space: threading.Condition | None = None

    def raise_error(self) -> None:
        """Raise what ended it, if something did; once, since a traceback keeps its frames."""
        error, self.error = self.error, None
        if self.channel is not None:  # what its listener raised may have been late
            error = self.channel.error if error is None else error
            self.channel.error = None
        if error is not None:
            try:
                raise error
            finally:
                del error

    def forget(self) -> list[Any]:
        """Let go of all messages; the caller drops them outside of the lock."""
        kept = [self.input, self.joins, self.outputs, self.parts]
        self.input, self.joins, self.outputs, self.parts = None, {}, {}, deque()
        return kept


def annotate(error: BaseException, text: str) -> BaseException:
    """Add a note to an error; Python before 3.11 keeps it without showing it."""
    error.__notes__ = [*getattr(error, "__notes__", []), text]
    return error


def fresh(error: BaseException) -> BaseException:
    """Return an error of its own for each of several requests."""
    if isinstance(error, DeviceLost):
        return DeviceLost(error.call, error.status, error.text)
    return Cancelled(*error.args)
