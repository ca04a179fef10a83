"""One thread a process that waits, for runtimes that have no completion callback."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable

__all__ = ["call_when"]

Job = tuple[Callable[[], object], Callable[..., object]]


class _Waiter:
    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._pid = 0
        self._starting = threading.Lock()

    def call_when(self, wait: Callable[[], object], done: Callable[..., object]) -> None:
        with self._starting:
            if self._pid != os.getpid():  # the thread does not survive a fork
                self._jobs = queue.SimpleQueue()
                threading.Thread(
                    target=self._run, args=(self._jobs,), name="dlexchange-waiter", daemon=True
                ).start()
                self._pid = os.getpid()
        self._jobs.put((wait, done))

    @staticmethod
    def _run(jobs: queue.SimpleQueue[Job]) -> None:
        while True:
            wait, done = jobs.get()
            try:
                wait()
            except BaseException as error:
                done(error)
            else:
                done()
            del wait, done


_waiter = _Waiter()


def call_when(wait: Callable[[], object], done: Callable[..., object]) -> None:
    """Call `wait` in the waiter's thread, then ``done()``, or ``done(error)`` if it raises.

    Jobs are done one after another: one that takes long delays those behind it. Return at
    once.
    """
    _waiter.call_when(wait, done)
