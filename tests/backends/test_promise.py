"""Producers that offer "ready?" and "wait", and nothing else."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import dlexchange as dx
from dlexchange import backends
from dlexchange.backends import Promise, PromiseBackend
from dlexchange.testing import drain, simulated_cuda

DEVICE_TYPE = 17


class Task:
    """A scheduler's task that ends when the test says so."""

    def __init__(self, *, notifies: bool = False) -> None:
        self.ended = threading.Event()
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
        self.waiters.append(threading.current_thread().name)
        assert self.ended.wait(60)

    def end(self) -> None:
        self.ended.set()
        for callback in self.callbacks:
            callback()


class Values(dx.Producer):
    """Memory of the device type, of which only the promise knows the state."""

    def __init__(self) -> None:
        self.memory = np.zeros(4, np.int32)

    def __dlexchange__(self) -> dx.Description:
        return dx.Description(
            self.memory.ctypes.data, (4,), "int32", device=(DEVICE_TYPE, 0), stream=-1
        )


@pytest.fixture(autouse=True)
def scheduler() -> Iterator[None]:
    backends.register(PromiseBackend(DEVICE_TYPE, "scheduler"))
    yield
    gc.collect()
    drain()
    assert dx.stats().events_in_use == 0
    backends.unregister(DEVICE_TYPE)


@pytest.mark.parametrize("notifies", [True, False])
def test_ready_is_told_by_the_notifier_and_nobody_waits(notifies: bool) -> None:
    task = Task(notifies=notifies)
    waits = dx.stats().host_waits

    async def main() -> None:
        with dx.from_dlpack(Values(), stream=task.promise) as t:
            ready = dx.ready(t)
            assert not ready.done()
            asyncio.get_running_loop().call_soon(task.end)
            await ready
            assert t.ready_event is not None
            assert t.ready_event.query()

    asyncio.run(main())
    assert dx.stats().host_waits == waits
    # Without a notifier one thread of ours waits, never the caller's.
    assert task.waiters == ([] if notifies else ["dlexchange-waiter"])


def test_a_consumer_that_takes_dependencies_is_not_blocked() -> None:
    producer, consumer = Task(notifies=True), Task(notifies=True)
    with dx.from_dlpack(Values(), stream=producer.promise) as t:
        waits = dx.stats().host_waits
        t.__dlpack__(stream=consumer.promise, max_version=(1, 3))
        assert consumer.dependencies == [producer.promise]
        producer.end()
        t.__dlpack__(stream=consumer.promise, max_version=(1, 3))
        assert len(consumer.dependencies) == 1
        assert dx.stats().host_waits == waits
    assert producer.waiters == []


def test_a_consumer_that_takes_none_waits_on_the_host_and_that_is_counted() -> None:
    producer, consumer = Task(), Task()
    with dx.from_dlpack(Values(), stream=producer.promise) as t:
        waits = dx.stats().host_waits
        thread = threading.Timer(0, producer.end)
        thread.start()
        t.__dlpack__(stream=consumer.promise, max_version=(1, 3))
        thread.join()
        assert producer.ended.is_set()
        assert dx.stats().host_waits - waits == len(producer.waiters)


def test_release_waits_for_the_consumers_promise() -> None:
    producer, consumer = Task(), Task()
    producer.end()
    values = Values()
    t = dx.from_dlpack(values, stream=producer.promise)
    t.record_stream(consumer.promise)
    t.close()
    raw = dx._core._stats()
    assert raw["parked"] + raw["deferred"] == 1
    consumer.end()
    drain()
    raw = dx._core._stats()
    assert raw["parked"] + raw["deferred"] == 0


def test_an_error_of_the_producer_reaches_who_awaits() -> None:
    def fail() -> None:
        raise RuntimeError("the scheduler died")

    promise = Promise(lambda: False, fail)

    async def main(t: Any) -> None:
        await dx.ready(t)

    with dx.from_dlpack(Values(), stream=promise) as t, pytest.raises(dx.DriverError):
        asyncio.run(main(t))


def test_a_promise_orders_cuda_memory_by_a_wait_of_the_host() -> None:
    with simulated_cuda() as sim:
        p, c = sim.stream(), sim.stream()
        x = sim.array(4, "int32", stream=p, fill=1)
        p.synchronize()
        task = Task()
        thread = threading.Timer(0, task.end)
        thread.start()
        with dx.from_dlpack(x, stream=task.promise) as t:
            assert task.ended.is_set()
            t.__dlpack__(stream=c.handle, max_version=(1, 3))
        thread.join()
        del x
        drain()
        assert sim.findings == []
