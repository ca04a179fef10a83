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
    afterwards : callable
        Called after each release.
    """

    def __init__(self, afterwards: Callable[[], None]) -> None:
        self.lock = threading.Lock()
        self._afterwards = afterwards

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
        self._afterwards()


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
            with self._guard:
                if self.items:
                    return self.items.popleft()
                if self._is_closed:
                    return None
                self._is_idle = True
            self._bell.acquire()

    def _ring(self) -> None:
        if self._is_idle:
            self._is_idle = False
            self._bell.release()
