"""What waits for one stage thread, and the lock around all that moves."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = ["Guard", "Inbox"]


class Guard:
    """A lock that, once free, sees to what destructors could not do while it was held.

    Parameters
    ----------
    end : callable
        Called, after a release, with each thing that was abandoned.
    """

    def __init__(self, end: Callable[[Any], None]) -> None:
        self.lock = threading.Lock()
        self._end = end
        self.abandoned: deque[Any] = deque()

    def abandon(self, thing: Any) -> None:
        """End a thing, now or as soon as the lock is free. For destructors: they run anywhere."""
        self.abandoned.append(thing)
        self.see_to_it()

    def see_to_it(self) -> None:
        """End what was abandoned; after each release of the lock, where there is such."""
        while self.abandoned and self.is_free():
            try:
                thing = self.abandoned.popleft()
            except IndexError:
                return  # another thread saw to it
            self._end(thing)

    def is_free(self) -> bool:
        """Tell whether nobody holds it now, not even this thread."""
        if not self.lock.acquire(blocking=False):
            return False
        self.lock.release()
        return True

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        if self.abandoned:
            self.see_to_it()


class Inbox:
    """A queue with one taker. Its length is bounded by the tickets, not by itself.

    A Condition would make a lock for each wait; here a plain lock wakes the one taker.
    """

    def __init__(self, guard: Guard) -> None:
        self.items: deque[Any] = deque()
        self._guard = guard
        self._bell = threading.Lock()
        self._bell.acquire()
        self._is_idle = False
        self._is_closed = False

    def put(self, item: Any) -> None:
        """Add an item. The lock is held."""
        self.items.append(item)
        self._ring()

    def close(self) -> None:
        """Let the taker end once the inbox is empty. The lock is held."""
        self._is_closed = True
        self._ring()

    def take(self) -> Any:
        """Return the next item, after however long; None once closed. The lock is not held."""
        while True:
            with self._guard.lock:  # not the guard: nothing here makes what could be collected
                if self.items:
                    return self.items.popleft()
                if self._is_closed:
                    return None
                self._is_idle = True
            self._bell.acquire()

    def take_now(self) -> Any:
        """Return the next item; None where there is none. The lock is not held."""
        with self._guard.lock:
            return self.items.popleft() if self.items else None

    def _ring(self) -> None:
        if self._is_idle:
            self._is_idle = False
            self._bell.release()
