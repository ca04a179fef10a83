"""How requests move: who has a ticket, who waits, what lies in which inbox. One lock.

A request waits at the door (its caller waits, too), then in the queue, then takes a ticket
and enters the inboxes of the first stages. It is finished once it is in no inbox and no
stage; then, and only then, its ticket goes to the next. Whatever needs several of these
facts is one step under the lock, so that nothing can be cancelled in between.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled
from .inbox import Guard, Inbox
from .message import Message, pack
from .promises import Promised
from .recorder import Recorder, now
from .request import Part, Request, annotate, fresh

if TYPE_CHECKING:
    from .graph import Graph
    from .stage import Stage

__all__ = ["Flow"]


class Flow:
    """The state of an open pipeline. All methods may be called from any thread.

    Attributes
    ----------
    tickets : int
        How many are free.
    is_strict : bool
        Whether a stage that makes its thread wait for a device has failed.
    working : dict
        For those who look on: what number of request each stage works on, and its step.
    """

    def __init__(
        self, name: str, graph: Graph, inflight: int, queue: int, recorder: Recorder
    ) -> None:
        self.guard = Guard(self.cancel)
        self.tickets = inflight
        self.inboxes = {stage: Inbox(self.guard) for stage in graph.everything}
        self.unfinished: set[Request] = set()
        self.counts = {"finished": 0, "failed": 0, "cancelled": 0}
        self.recorder = recorder
        self.is_strict = False
        self.working: dict[Stage, tuple[int, int]] = {}
        self._name = name
        self._graph = graph
        self._sources, self.sinks = graph.sources, graph.sinks
        self._queue_room = queue
        self._queue: deque[Request] = deque()
        self._door: deque[Request] = deque()
        self._refusal: Callable[[], BaseException] | None = None
        self._idle: list[Callable[[], None]] = []

    # --- from the callers' side ---

    def enter(self, request: Request, message: Message) -> None:
        """Register a request: afterwards it has an outcome, whatever happens."""
        is_promised = isinstance(message, Promised)
        with self.guard:
            if self._refusal is not None:
                raise self._refusal()
            request.input, request.entered = None if is_promised else message, now()
            if request.room is not None:
                request.space = threading.Condition(self.guard.lock)
            self.unfinished.add(request)
            if is_promised:
                request.promised = 1
            else:
                self._door.append(request)
                self._admit()
        if is_promised:
            self._await(request, message, lambda kept: self._arrive(request, kept))

    def _arrive(self, request: Request, message: Message) -> None:
        if not request.is_ended:
            request.input = message
            self._door.append(request)
            self._admit()

    def is_at_door(self, request: Request) -> bool:
        """Tell whether the queue is full, so that the caller has to wait."""
        with self.guard:
            return request in self._door

    def cancel(self, request: Request) -> None:
        """Stop working for a request: at once where it waits, else at its next checkpoint."""
        self.end(request, None)

    def abandon(self, request: Request) -> None:
        """Cancel from a destructor, which may run anywhere: also while the lock is held."""
        self.guard.abandon(request)

    def end(self, request: Request, error: BaseException | None) -> None:
        """End a request early: with an error, or cancelled."""
        with self.guard:
            dropped = self._end(request, error or Cancelled(f"request {request.number}"))
            self._finish_idle(request)
        del dropped
        self._tell(request)

    def next_part(self, request: Request) -> tuple[Part, Message] | None:
        """Return the oldest partial result that waits, and make room for another."""
        with self.guard:
            if not request.parts:
                return None
            found = request.parts.popleft()
            self._make_room(request)
            return found

    def taken_by(self, taker: object) -> list[Request]:
        """Return the requests whose partial results somebody was taking."""
        with self.guard:
            return [request for request in self.unfinished if request.taker == taker]

    # --- from the stages' side; each call ends one piece of work ---

    def emitted(self, request: Request, stage: Stage, message: Message) -> None:
        """Pass on what a stage made."""
        if isinstance(message, Promised):
            self._promised(request, stage, message)
            return
        with self.guard.lock:  # what a guard does, faster
            if not request.is_ended:
                self._pass_on(request, stage, message)
            request.work -= 1
            self._finish_idle(request)
        if self.guard.abandoned:
            self.guard.see_to_it()
        self._tell(request)

    def _promised(self, request: Request, stage: Stage, message: Promised) -> None:
        """Note that a stage has done its work, and wait, without a thread, for what it made."""
        with self.guard:
            request.work -= 1
            request.promised += not request.is_ended
            self._finish_idle(request)
        self._tell(request)
        self._await(request, message, lambda kept: self._pass_on(request, stage, kept))

    def _await(self, request: Request, message: Promised, go_on: Callable[[Message], None]) -> None:
        """Have a step made, under the lock, once promises are kept, unless it ended before."""

        def kept(tree: Any) -> None:
            try:
                packed = pack(tree, None)
            except BaseException as error:
                self.end(request, error)
                return
            if isinstance(packed, Promised):  # a future of a future
                self._await(request, packed, go_on)
                return
            with self.guard:
                if not request.is_ended:
                    request.promised -= 1
                    go_on(packed)
                    self._finish_idle(request)
            self._tell(request)

        message.when_kept(kept, lambda error: self.end(request, error))

    def failed(self, request: Request, stage: Stage, error: BaseException) -> None:
        """End a request with the error of a stage, or note that the stage has let go of it."""
        dropped: list[Any] = []
        with self.guard:
            if not request.is_ended:
                text = f"in stage {stage.name!r} of pipeline {self._name!r}, for {request.site}"
                dropped = self._end(request, annotate(error, text))
            request.work -= 1
            self._finish_idle(request)
        del dropped
        self._tell(request)

    def filtered(self, request: Request, part: Part, message: Message | None) -> None:
        """Pass on what the filter lets through."""
        with self.guard:
            if message is None:
                self._make_room(request)
            elif not request.is_ended:
                request.parts.append((part, message))
            request.work -= 1
            self._finish_idle(request)
        if not request.is_finished:
            request.waker.wake()
        self._tell(request)

    # --- partial results ---

    def part(self, request: Request, part: Part, message: Message) -> None:
        """Send a partial result on its way to the user; the calling stage's work goes on.

        Blocks while the consumer has not taken enough of those before; a request that ends
        lets it go on.
        """
        with self.guard:
            space = request.space
            while request.room == 0 and space is not None and not request.is_ended:
                start = now()
                space.wait()
                self.recorder.span("wait", part.stage, request.number, start, "for its consumer")
            self._show(request, part, message)
        request.waker.wake()

    def part_now(self, request: Request, part: Part, message: Message) -> None:
        """Send a partial result where the stage is the thread that would take it."""
        with self.guard:
            self._show(request, part, message)

    def _show(self, request: Request, part: Part, message: Message) -> None:
        if request.is_ended or request.room is None:
            return
        request.room -= 1
        if self._graph.filter is not None:
            self._put(request, self._graph.filter, [message], part)
        else:
            request.parts.append((part, message))

    # --- the end ---

    def lose(self, error: BaseException) -> None:
        """End all requests, and refuse new ones: the device is gone."""
        self._refuse(lambda: fresh(error))

    def stop(self, reason: str) -> None:
        """Cancel all requests, and refuse new ones."""
        self._refuse(lambda: Cancelled(reason))

    def close_door(self, refusal: Callable[[], BaseException]) -> None:
        """Refuse new requests; those inside go on."""
        with self.guard:
            self._refusal = self._refusal or refusal

    def close(self) -> None:
        """Let the stage threads end once they have nothing to do."""
        with self.guard:
            for inbox in self.inboxes.values():
                inbox.close()

    def when_idle(self, call: Callable[[], None]) -> None:
        """Call back once no request is unfinished; at once where none is."""
        with self.guard:
            if self.unfinished:
                self._idle.append(call)
                return
        call()

    def _refuse(self, make: Callable[[], BaseException]) -> None:
        with self.guard:
            self._refusal = make
            ended = list(self.unfinished)
        for request in ended:
            self.end(request, make())

    # --- under the lock ---

    def _admit(self) -> None:
        while self._door or self._queue:
            if self.tickets:
                self._start((self._queue or self._door).popleft())
            elif self._door and len(self._queue) < self._queue_room:
                self._queue.append(self._door.popleft())
                self._queue[-1].waker.wake()
            else:
                return

    def _start(self, request: Request) -> None:
        self.tickets -= 1
        request.has_ticket, request.started = True, now()
        message, request.input = request.input, None
        for stage in self._sources:
            self._put(request, stage, [message])

    def _put(
        self, request: Request, stage: Stage, messages: list[Any], part: Part | None = None
    ) -> None:
        request.work += 1
        self.inboxes[stage].put((request, messages, part))

    def _pass_on(self, request: Request, stage: Stage, message: Message) -> None:
        after = self._graph.after[stage]
        if not after:
            request.outputs[stage] = message
        for target in after:
            before = self._graph.before[target]
            if len(before) == 1:
                self._put(request, target, [message])
                continue
            arrived = request.joins.setdefault(target, {})
            arrived[stage] = message
            if len(arrived) == len(before):
                del request.joins[target]
                self._put(request, target, [arrived[source] for source in before])

    def _end(self, request: Request, error: BaseException) -> list[Any]:
        if request.is_ended or request.is_finished:
            return []
        request.is_ended, request.error = True, error
        dropped = request.forget()
        request.promised = 0
        for waiting in (self._door, self._queue):
            if request in waiting:
                waiting.remove(request)
        for inbox in self.inboxes.values():
            mine = [item for item in inbox.items if item[0] is request]
            for item in mine:
                inbox.items.remove(item)
            request.work -= len(mine)
            dropped += mine
        if request.space is not None:
            request.space.notify_all()
        return dropped

    def _make_room(self, request: Request) -> None:
        if request.room is not None and request.space is not None:
            request.room += 1
            request.space.notify()

    def _finish_idle(self, request: Request) -> None:
        if request.work or request.promised or request.is_finished:
            return
        request.is_finished = True
        self.unfinished.discard(request)
        outcome = "finished"
        if request.error is not None:
            outcome = "cancelled" if isinstance(request.error, Cancelled) else "failed"
        self.counts[outcome] += 1
        times = request.entered, request.started
        self.recorder.request(request.number, times, outcome, request.site)
        if request.has_ticket:
            request.has_ticket = False
            self.tickets += 1
        self._admit()

    def _tell(self, request: Request) -> None:
        """Wake whoever waits; not under the lock, since that runs code of event loops."""
        if request.is_finished:
            request.waker.wake()
        if self._idle:
            with self.guard:
                calls = [] if self.unfinished else self._idle
                self._idle = [] if calls else self._idle
            for call in calls:
                call()
