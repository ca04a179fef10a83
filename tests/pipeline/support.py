"""What the tests of pipelines share: loops, gates instead of sleeps, and a full accounting."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from support.live import settle

import dlexchange as dx
from dlexchange.pipeline import Pipeline

PATIENCE = 60.0
"""Seconds after which a hang is a failure."""

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "trio"])
MODES = pytest.mark.parametrize("parallel", [True, False], ids=["parallel", "inline"])


def run(loop: str, function: Callable[[], Awaitable[Any]]) -> Any:
    """Run a coroutine function; a hang fails, nothing is timed."""

    async def limited() -> Any:
        with anyio.fail_after(PATIENCE):
            return await function()

    return anyio.run(limited, backend=loop)


class Gate:
    """Holds a stage until the test opens it; both sides see that the other arrived."""

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self._open = threading.Event()

    def wait(self) -> None:
        """Stop here until it is open; in a stage."""
        self.arrived.release()
        assert self._open.wait(PATIENCE), "nobody opens the gate"

    def open(self) -> None:
        """Let everyone through, for good."""
        self._open.set()

    async def reached(self) -> None:
        """Wait until a stage has stopped here."""
        while not self.arrived.acquire(blocking=False):
            await anyio.sleep(0.001)


def held(gate: Gate, **options: Any) -> Pipeline:
    """Make a pipeline of one stage that stops at a gate."""
    pipe = Pipeline(**options)
    pipe.stage(lambda ctx, x: (gate.wait(), x)[1], name="held")
    return pipe


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop run until a condition is met."""
    while not condition():
        await anyio.sleep(0.001)


def spin(condition: Callable[[], Any]) -> None:
    """Let other threads run until a condition is met."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0)


def threads() -> int:
    return threading.active_count()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def nothing_left(pipe: Pipeline | None = None) -> Iterator[None]:
    """Demand that tickets, threads, descriptors and live objects are back afterwards."""
    gc.collect()
    before = threads(), descriptors(), dx.stats().live
    yield
    gc.collect()
    if pipe is not None:
        all_tickets_are_back(pipe)
    settle(lambda: (threads(), descriptors(), dx.stats().live) == before)
    after = threads(), descriptors(), dx.stats().live
    assert after == before, f"threads, descriptors, live objects: {before} before, {after} after"


def all_tickets_are_back(pipe: Pipeline) -> None:
    """Demand that nobody holds a ticket of an open pipeline."""
    flow = pipe._engine.flow
    assert flow.tickets == pipe._inflight
    assert flow.unfinished == set()
    assert not any(inbox.items for inbox in flow.inboxes.values())


def outcomes(pipe: Pipeline) -> dict[str, int]:
    """Return how many requests ended how."""
    return dict(pipe._engine.flow.counts)
