"""What a hand-off costs in driver calls, on the simulated driver."""

from __future__ import annotations

import pytest

import dlexchange as dx
from dlexchange.testing import Simulation, drain

from .conftest import driver_calls, other, warm

RECORD, WAIT, ASK = "cuEventRecord", "cuStreamWaitEvent", "cuStreamGetCaptureInfo"


def test_making_a_tensor_is_one_record(any_sim: Simulation) -> None:
    warm(any_sim)
    p = any_sim.stream()
    x = any_sim.array(4, stream=p, fill=1)
    any_sim.reset_calls()
    t = dx.from_dlpack(x, stream=p)
    assert driver_calls(any_sim) == {RECORD: 1, ASK: 1}
    t.close()


def test_consuming_a_tensor_is_one_wait_a_stream(any_sim: Simulation) -> None:
    warm(any_sim)
    p, consumers = any_sim.stream(), [any_sim.stream() for _ in range(3)]
    t = dx.from_dlpack(any_sim.array(4, stream=p, fill=1), stream=p)
    for c in consumers:
        any_sim.reset_calls()
        capsule = t.__dlpack__(stream=c.handle, max_version=(1, 3))
        calls = driver_calls(any_sim)
        assert calls.pop(WAIT) == 1
        assert calls == {ASK: 1}
        del capsule


@pytest.mark.parametrize("speaks", ["exchange_api", "dlpack", "cai"])
def test_hand_off_between_frameworks_is_one_record_and_one_wait(
    any_sim: Simulation, speaks: str
) -> None:
    warm(any_sim)
    p, c = any_sim.stream(), any_sim.stream()
    producer, consumer = any_sim.framework(speaks), other(any_sim)
    x = producer.array(4, stream=p, fill=1)
    with producer.use_stream(p), consumer.use_stream(c):
        any_sim.reset_calls()
        y = dx.convert(x, consumer.array_type)
    calls = driver_calls(any_sim)
    if speaks == "dlpack":  # it is given the consumer's stream: the one hop is its own
        assert (calls.pop("cuEventCreate"), calls.pop("cuEventDestroy")) == (1, 1)
        assert calls == {RECORD: 1, WAIT: 1}
    else:
        assert calls == {RECORD: 1, WAIT: 1, ASK: 2}
    leaked = dx.stats().leaked
    del y
    assert dx.stats().leaked == leaked


@pytest.mark.parametrize("speaks", ["exchange_api", "cai"])
def test_hand_off_on_one_stream_makes_no_call_either_way(any_sim: Simulation, speaks: str) -> None:
    warm(any_sim)
    p = any_sim.stream()
    producer, consumer = any_sim.framework(speaks), other(any_sim)
    x = producer.array(4, stream=p, fill=1)
    with producer.use_stream(p), consumer.use_stream(p):
        any_sim.reset_calls()
        y = dx.convert(x, consumer.array_type)
        del y
    assert driver_calls(any_sim) == {}


def test_push_is_one_record_one_wait_and_two_queries(any_sim: Simulation) -> None:
    warm(any_sim)
    p, c = any_sim.stream(), any_sim.stream()
    any_sim.reset_calls()
    dx.push(p, c)
    assert any_sim.calls == {RECORD: 1, WAIT: 1, ASK: 2} | context_calls(any_sim)


def context_calls(sim: Simulation) -> dict[str, int]:
    return {n: k for n, k in sim.calls.items() if n.startswith("cuCtx")}


def test_current_context_saves_the_calls_that_enter_it(sim: Simulation) -> None:
    warm(sim)
    sim.set_device(0)
    p, c = sim.stream(), sim.stream()
    dx.push(p, c)  # notices that a context is current
    sim.reset_calls()
    dx.push(p, c)
    assert sim.calls == {RECORD: 1, WAIT: 1, ASK: 2}
    sim.driver("cuCtxSetCurrent", None)


def test_same_stream_makes_no_call(any_sim: Simulation) -> None:
    warm(any_sim)
    p = any_sim.stream()
    producer, consumer = any_sim.framework(), other(any_sim)
    x = producer.array(4, stream=p, fill=1)
    any_sim.reset_calls()
    dx.push(p, dx.Stream.from_handle("cuda:0", p.handle))
    assert driver_calls(any_sim) == {}
    t = dx.from_dlpack(x, stream=p)
    with consumer.use_stream(p):
        any_sim.reset_calls()
        y = consumer.from_dlpack(t)
        t.record_stream(p)
        assert driver_calls(any_sim) == {}
    del x
    t.close()
    any_sim.reset_calls()
    del y, t  # an edge from P to P is none; the memory itself goes back
    calls = driver_calls(any_sim)
    assert calls.pop("cuMemFreeAsync") == 1
    assert calls == {}


def test_edge_is_one_record_and_one_wait(any_sim: Simulation) -> None:
    warm(any_sim)
    p, c = any_sim.stream(), any_sim.stream()
    x = any_sim.array(4, stream=p, fill=1)
    t = dx.from_dlpack(x, stream=p)
    t.record_stream(c)
    edges = dx.stats().edges
    any_sim.reset_calls()
    t.close()
    assert driver_calls(any_sim) == {RECORD: 1, WAIT: 1, ASK: 2}
    assert dx.stats().edges == edges + 1


def test_park_is_one_record_and_no_wait(sim: Simulation) -> None:
    warm(sim)
    p, c = sim.stream(), sim.stream()
    x = sim.array(4, stream=p, fill=1, speaks="dlpack")
    t = dx.from_dlpack(x)
    t.record_stream(c)
    latch = sim.latch(c)
    sim.reset_calls()
    t.close()
    assert dx.stats().parked == 1
    calls = driver_calls(sim)
    calls.pop("cuEventQuery", 0)  # the reaper looks, on its own thread
    assert calls == {RECORD: 1, ASK: 1}
    latch.open()
    drain()
    assert dx.stats().parked == 0


def test_steady_state_creates_nothing_and_never_blocks(any_sim: Simulation) -> None:
    warm(any_sim)
    p, c = any_sim.stream(), any_sim.stream()
    producer, consumer = any_sim.framework(), other(any_sim)
    created, waits = dx.stats().events_created, dx.stats().host_waits
    legacy = any_sim.legacy().submitted
    x = producer.array(64, stream=p, fill=1)
    with producer.use_stream(p), consumer.use_stream(c):
        for _ in range(100):
            any_sim.reset_calls()
            y = dx.convert(x, consumer.array_type)
            del y
            calls = any_sim.calls
            assert (calls[RECORD], calls[WAIT], calls[ASK]) == (2, 2, 4)  # there and back
            assert not [name for name in calls if "Synchronize" in name or "Create" in name]
    assert dx.stats().events_created == created
    assert any_sim.legacy().submitted == legacy
    assert dx.stats().host_waits == waits


def test_host_waits_are_the_three_that_are_named(sim: Simulation) -> None:
    warm(sim)
    p = sim.stream()
    x = sim.array(4, stream=p, fill=5)
    stream = dx.Stream.from_handle("cuda:0", p.handle, owner=p)
    waits = dx.stats().host_waits

    def synchronizations() -> int:
        return sum(n for name, n in sim.calls.items() if "Synchronize" in name)

    assert dx.to_numpy(dx.from_dlpack(x, stream=p), copy=True).tolist() == [5] * 4
    assert (dx.stats().host_waits, synchronizations()) == (waits + 1, 1)
    stream.synchronize()
    assert (dx.stats().host_waits, synchronizations()) == (waits + 2, 2)
    x.fill(6, stream=p)
    stream.record().synchronize()
    assert (dx.stats().host_waits, synchronizations()) == (waits + 3, 3)


@pytest.mark.parametrize("side", ["producer", "consumer"])
def test_legacy_stream_is_used_where_it_is_a_side(any_sim: Simulation, side: str) -> None:
    warm(any_sim)
    s, legacy = any_sim.stream(), any_sim.legacy()
    before = legacy.submitted
    dx.push(*((legacy, s) if side == "producer" else (s, legacy)))
    assert legacy.submitted > before


def current_context(sim: Simulation) -> int | None:
    import ctypes

    context = ctypes.c_void_p()
    sim.driver("cuCtxGetCurrent", ctypes.byref(context))
    return context.value


@pytest.mark.parametrize("current", [None, 0, 1])
@pytest.mark.parametrize("handle", ["own", "legacy", "per_thread"])
@pytest.mark.parametrize("failing", [None, RECORD, WAIT, ASK, "cuCtxPushCurrent"])
def test_current_context_is_what_it_was(
    two_devices: Simulation, current: int | None, handle: str, failing: str | None
) -> None:
    sim = two_devices
    warm(sim)
    p = {"own": sim.stream(1), "legacy": sim.legacy(1), "per_thread": sim.per_thread(1)}[handle]
    c = sim.stream(0)
    x = sim.array(4, stream=sim.stream(1), fill=1, speaks="dlpack")
    if current is not None:
        sim.set_device(current)
    before = current_context(sim)
    if failing:
        sim.fail(failing)
    try:
        dx.push(dx.Stream.from_handle("cuda:1", p.handle, owner=p), c)
    except (dx.DriverError, dx.ExchangeError):
        assert failing
    assert current_context(sim) == before
    sim.fail(failing or RECORD, 0)
    t = dx.from_dlpack(x)
    t.record_stream(dx.Stream.from_handle("cuda:1", p.handle, owner=p))
    t.close()
    assert current_context(sim) == before
    assert (before is None) == (current is None)
    sim.driver("cuCtxSetCurrent", None)
