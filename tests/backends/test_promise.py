"""Producers that offer "ready?" and "wait", and nothing else."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from support.promises import Task, Values, scheduler

import dlexchange as dx
from dlexchange.testing import drain, simulated_cuda

__all__ = ["scheduler"]

pytestmark = pytest.mark.usefixtures("scheduler")


@pytest.mark.parametrize("notifies", [True, False])
def test_ready_is_told_by_the_notifier_and_nobody_waits(notifies: bool) -> None:
    task = Task(notifies=notifies)
    waits = dx.stats().host_waits

    async def main() -> None:
        with dx.from_dlpack(Values(7), stream=task.promise) as t:
            ready = dx.ready(t)
            assert not ready.done()
            asyncio.get_running_loop().call_soon(task.end)
            await ready
            assert t.ready_event is not None
            assert t.ready_event.query()

    asyncio.run(main())
    assert dx.stats().host_waits == waits
    # Without a notifier one thread of ours waits, never the caller's.
    assert set(task.waiters) <= (set() if notifies else {"dlexchange-waiter"})


def test_a_consumer_that_takes_dependencies_is_not_blocked() -> None:
    producer, consumer = Task(notifies=True), Task(notifies=True)
    with dx.from_dlpack(Values(7), stream=producer.promise) as t:
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
    with dx.from_dlpack(Values(7), stream=producer.promise) as t:
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
    values = Values(7)
    t = dx.from_dlpack(values, stream=producer.promise)
    t.record_stream(consumer.promise)
    t.close()
    raw = dx._core._stats()
    assert raw["parked"] + raw["deferred"] == 1
    consumer.end()
    drain()
    raw = dx._core._stats()
    assert raw["parked"] + raw["deferred"] == 0


@pytest.mark.parametrize("notifies", [True, False])
def test_an_error_of_the_producer_reaches_who_awaits(notifies: bool) -> None:
    task = Task(notifies=notifies)

    async def main(t: Any) -> None:
        asyncio.get_running_loop().call_soon(task.end, RuntimeError("the scheduler died"))
        await dx.ready(t)

    with dx.from_dlpack(Values(7), stream=task.promise) as t, pytest.raises(dx.DriverError):
        asyncio.run(main(t))


def test_an_error_of_before_reaches_who_consumes() -> None:
    task = Task()
    task.end(RuntimeError("the scheduler died"))
    with dx.from_dlpack(Values(7), stream=task.promise) as t:
        with pytest.raises(dx.DriverError, match="the scheduler died"):
            t.__dlpack__(stream=Task().promise, max_version=(1, 3))
        with pytest.raises(dx.DriverError):
            asyncio.run(awaited(t))


def test_a_kept_promise_is_not_behind_those_that_are_not() -> None:
    first, second = Task(), Task()
    with dx.from_dlpack(Values(7), stream=first.promise) as t:
        pending = dx.ready(t)
        second.end()
        with dx.from_dlpack(Values(7), stream=second.promise) as other:
            asyncio.run(awaited(other))
        assert not pending.done()
        first.end()
        asyncio.run(awaited(t))


async def awaited(x: Any) -> None:
    await dx.ready(x)


@pytest.mark.parametrize("early", [True, False])
def test_a_promise_that_fails_hands_over_no_cuda_memory(early: bool) -> None:
    with simulated_cuda() as sim:
        p = sim.stream()
        x = sim.array(4, "int32", stream=p, fill=1)
        task = Task()
        thread = threading.Timer(0, task.end, [RuntimeError("the scheduler died")])
        thread.start()
        if early:
            thread.join()
        with pytest.raises(RuntimeError, match="the scheduler died"):
            dx.from_dlpack(x, stream=task.promise)
        thread.join()
        del x
        drain()
        assert sim.findings == []


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
