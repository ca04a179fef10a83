"""A scheduler without streams: its tasks say "ready?" and "wait", and end when a test says so."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import dlexchange as dx
from dlexchange import backends
from dlexchange.backends import Promise, PromiseBackend
from dlexchange.testing import drain

DEVICE_TYPE = 17
PATIENCE = 60.0
"""Seconds after which a hang is a failure."""


class Task:
    """A task of the scheduler.

    Attributes
    ----------
    waiters : list of str
        The threads that had to wait for it.
    """

    def __init__(self, *, notifies: bool = False) -> None:
        self.ended = threading.Event()
        self.error: BaseException | None = None
        self.callbacks: list[Any] = []
        self.waiters: list[str] = []
        self.dependencies: list[Promise] = []
        self.promise = Promise(
            self.ended.is_set,
            self.wait,
            add_done_callback=self.callbacks.append if notifies else None,
            after=self.dependencies.append if notifies else None,
        )

    def wait(self) -> None:
        if not self.ended.is_set():
            self.waiters.append(threading.current_thread().name)
            assert self.ended.wait(PATIENCE)
        if self.error is not None:
            raise self.error

    def end(self, error: BaseException | None = None) -> None:
        self.error = error
        self.ended.set()
        while self.callbacks:
            self.callbacks.pop()()


class Values(dx.Producer):
    """Four values, which are there once a task has ended; until then they are zeros."""

    def __init__(self, value: int, task: Task | None = None) -> None:
        self.memory = np.zeros(4, np.int32)
        self.value = value
        self.task = task

    def end(self, error: BaseException | None = None) -> None:
        """Let the task write the values and end."""
        assert self.task is not None
        self.memory[:] = self.value
        self.task.end(error)

    def __dlexchange__(self) -> dx.Description:
        return dx.Description(
            self.memory.ctypes.data,
            (4,),
            "int32",
            device=(DEVICE_TYPE, 0),
            stream=-1 if self.task is None else self.task.promise,
        )


class Scheduler(PromiseBackend):
    """Its memory can be copied from, at once, by whoever has waited for it."""

    def copy_to_host(self, stream: Promise, address: int, destination: memoryview) -> None:
        destination[:] = ctypes.string_at(address, len(destination))


def register() -> None:
    backends.register(Scheduler(DEVICE_TYPE, "scheduler"))


@pytest.fixture
def scheduler() -> Iterator[None]:
    register()
    yield
    gc.collect()
    drain()
    assert dx.stats().events_in_use == 0
    backends.unregister(DEVICE_TYPE)
