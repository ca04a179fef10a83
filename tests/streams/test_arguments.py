"""What may be given as a stream, and what dx.Stream and dx.Event do."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import pytest

import dlexchange as dx
from dlexchange.testing import Simulation, drain, simulated_hip

from .conftest import other


class Speaker:
    """A stream of some framework, by what it offers."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Protocol:
    def __init__(self, handle: int) -> None:
        self.handle_ = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return (0, self.handle_)


class Device:
    def __init__(self, index: int) -> None:
        self.index = index


@pytest.fixture
def x(sim: Simulation) -> Any:
    p = sim.stream()
    return sim.array(4, stream=p, fill=3)


def made_with(x: Any, stream: Any) -> dx.Stream | None:
    with dx.from_dlpack(x, stream=stream) as t:
        event = t.ready_event
        return None if event is None else event.stream


def test_none_is_the_frameworks_current_stream(sim: Simulation, x: Any) -> None:
    q = sim.stream()
    with sim.framework().use_stream(q):
        assert made_with(x, None) == dx.Stream.from_handle("cuda:0", q.handle)
    assert made_with(x, None) == dx.Stream.legacy_default("cuda:0")


def test_minus_one_makes_no_driver_call(sim: Simulation, x: Any) -> None:
    sim.reset_calls()
    assert made_with(x, -1) is None
    assert sim.calls == {}


@pytest.mark.parametrize("number", [1, 2])
def test_one_and_two_are_the_default_streams(sim: Simulation, x: Any, number: int) -> None:
    stream = made_with(x, number)
    assert stream is not None
    assert stream.handle == number


def test_zero_is_refused_on_cuda(sim: Simulation, x: Any) -> None:
    with pytest.raises(dx.StreamError, match=r"1 for the legacy .* 2 for the per-thread"):
        dx.from_dlpack(x, stream=0)
    t = dx.from_dlpack(x)
    with pytest.raises(dx.StreamError, match="ambiguous"):
        t.__dlpack__(stream=0)


@pytest.mark.parametrize("number", [-2, -(2**63), -(2**80), 2**64, 2**90])
def test_numbers_out_of_range_are_refused(sim: Simulation, x: Any, number: int) -> None:
    with pytest.raises(dx.StreamError, match="not a stream handle"):
        dx.from_dlpack(x, stream=number)


@pytest.mark.parametrize("number", [3, 2**31, 2**63 - 1, 2**63, 2**64 - 1])
def test_handles_up_to_64_bits_reach_the_driver(sim: Simulation, x: Any, number: int) -> None:
    assert dx.Stream.from_handle("cuda:0", number).handle == number
    with pytest.raises((dx.StreamError, dx.DriverError), match=r"cuStream|cuEvent"):
        dx.from_dlpack(x, stream=number)  # the simulated driver knows no such stream


@pytest.mark.parametrize("value", [True, False, "1", b"1", 1.0, object(), [1], {}])
def test_what_is_no_stream_is_a_type_error(sim: Simulation, x: Any, value: Any) -> None:
    with pytest.raises(TypeError, match="is not a stream"):
        dx.from_dlpack(x, stream=value)


def test_objects_of_frameworks_are_read_by_what_they_offer(sim: Simulation, x: Any) -> None:
    q = sim.stream()
    wanted = dx.Stream.from_handle("cuda:0", q.handle)
    for stream in (
        q,
        Protocol(q.handle),
        Speaker(cuda_stream=q.handle),
        Speaker(cuda_stream=q.handle, device=Device(0)),
        Speaker(ptr=q.handle, device_id=-1),
        Speaker(handle=Speaker(value=q.handle)),
        wanted,
        q.handle,
    ):
        assert made_with(x, stream) == wanted, stream


def test_a_stream_object_is_kept_until_the_memory_is_released(sim: Simulation, x: Any) -> None:
    q = sim.stream()
    stream = Protocol(q.handle)
    before = sys.getrefcount(stream)
    t = dx.from_dlpack(x)
    t.record_stream(stream)
    assert sys.getrefcount(stream) > before
    t.close()
    drain()
    assert sys.getrefcount(stream) == before


@pytest.mark.parametrize("fails", [False, True])
def test_a_consumers_stream_object_is_not_kept(sim: Simulation, x: Any, fails: bool) -> None:
    q = sim.stream()
    stream = Protocol(q.handle)
    for t in (dx.from_dlpack(x), dx.from_dlpack(x, stream=-1)):
        mine = dx.Stream.from_handle("cuda:0", q.handle, owner=stream)
        before = sys.getrefcount(stream), sys.getrefcount(mine)
        if fails:
            sim.fail("cuStreamWaitEvent")
        try:
            t.__dlpack__(stream=stream, max_version=(1, 3))
            t.__dlpack__(stream=mine, max_version=(1, 3))
        except dx.DriverError:
            assert fails
        sim.fail("cuStreamWaitEvent", 0)
        assert (sys.getrefcount(stream), sys.getrefcount(mine)) == before


def test_stream_of_another_device_is_refused(two_devices: Simulation) -> None:
    sim = two_devices
    x = sim.array(4, stream=sim.stream(), fill=3)
    there = sim.stream(1)
    for stream in (
        there,
        dx.Stream.from_handle("cuda:1", there.handle),
        Speaker(cuda_stream=there.handle, device=Device(1)),
        Speaker(ptr=there.handle, device_id=1),
    ):
        with pytest.raises(dx.StreamError, match="device"):
            dx.from_dlpack(x, stream=stream)


def test_host_memory_has_no_stream() -> None:
    import numpy as np

    for number in (1, 2, 0, 77):
        with pytest.raises(dx.StreamError, match="host memory"):
            dx.from_dlpack(np.zeros(3), stream=number)
    dx.from_dlpack(np.zeros(3), stream=-1).close()


def test_rocm_numbers() -> None:
    with simulated_hip() as sim:
        x = sim.array(4, stream=sim.stream(), fill=3, speaks="dlpack")
        for number in (1, 2):
            with pytest.raises(dx.StreamError):
                dx.from_dlpack(x, stream=number)
        for number, handle in ((0, 0), (None, None)):
            stream = made_with(x, number)
            assert stream is not None
            assert stream.device.type == dx.DeviceType.ROCM
            assert handle is None or stream.handle == handle
        assert made_with(x, -1) is None
        with pytest.raises(dx.StreamError, match="not a CUDA stream"):
            dx.Stream.legacy_default("rocm:0").__cuda_stream__()
        del x
        drain()
        assert sim.findings == []


def test_streams_that_tell_no_device_are_rocms_where_that_is_driven() -> None:
    with simulated_hip() as sim:
        consumer, p, c = sim.framework("exchange_api", "other"), sim.stream(), sim.stream()
        t = dx.from_dlpack(sim.array(4, stream=p, fill=3, speaks="dlpack"))
        latch = sim.latch(p)
        dx.push(p, c)
        assert not c.query()
        dx.record_stream(t, c)
        t.close()
        assert dx.stats().parked == 1
        for subject in (consumer.array_type, consumer.array(4)):
            assert dx.current_stream(subject) == dx.Stream.legacy_default("rocm:0")
        assert not dx._core._driver_info(dx.DeviceType.CUDA)["is_loaded"]
        latch.open()
        del subject
        drain()
        assert sim.findings == []


def test_strict_mode_refuses_a_stream_nobody_owns(sim: Simulation, x: Any) -> None:
    consumer, q = other(sim), sim.stream()
    unowned = dx.Stream.from_handle("cuda:0", q.handle)
    t = dx.from_dlpack(x)
    for enabled in (False, True):  # asked for by name, so refused in any case
        with dx.strict(enabled):
            with pytest.raises(dx.StreamError, match="no owner"):
                t.record_stream(q.handle)
            with pytest.raises(dx.StreamError, match="no owner"):
                t.record_stream(unowned)
    with dx.strict():
        t.record_stream(1)
        t.record_stream(2)
        t.record_stream(q)
        t.record_stream(dx.Stream.create("cuda:0"))
        y = consumer.from_dlpack(t)
    del y


def test_stream_that_keeps_the_view_of_itself_is_collected() -> None:
    class Owner:
        def __init__(self) -> None:
            self.view = dx.Stream.from_handle("cuda:0", 4096, owner=self)

    gone = weakref.ref(Owner())
    gc.collect()
    assert gone() is None


def test_tensor_closed_by_the_stream_it_reads_keeps_no_stream(x: Any) -> None:
    class Closing:
        def __init__(self, tensor: dx.Tensor) -> None:
            self.tensor, self.stream = tensor, dx.Stream.create("cuda:0")

        def __cuda_stream__(self) -> tuple[int, int]:
            self.tensor.close()
            return (0, self.stream.handle)

    closing = Closing(dx.from_dlpack(x))
    gone = weakref.ref(closing)
    with pytest.raises(ValueError, match="closed"):
        closing.tensor.record_stream(closing)
    del closing
    gc.collect()
    assert gone() is None


def test_record_stream_finds_the_memory_behind_an_array(sim: Simulation) -> None:
    producer, consumer = sim.framework("dlpack"), other(sim)
    p, c, late = sim.stream(), sim.stream(), sim.stream()
    x = producer.array(16, "int32", stream=p, fill=3)
    with consumer.use_stream(c):
        y = dx.convert(x, consumer.array_type)
    z = y.copy(stream=late)
    with pytest.raises(dx.StreamError, match=r"order|wait|synchron|no owner"):
        dx.record_stream(y, dx.Stream.from_handle("cuda:0", late.handle))
    with pytest.raises(dx.ExchangeError, match=r"did not come|not in device memory"):
        dx.record_stream(producer.array(4, stream=p), late)
    with pytest.raises(dx.StreamError, match="of which device"):
        dx.record_stream(y, late.handle)
    late.wait(c)
    z = y.copy(stream=late)
    dx.record_stream(y, late)
    latch = sim.latch(late)
    del x, y
    gc.collect()
    assert dx.stats().parked == 1
    latch.open()
    drain()
    assert z.tolist(stream=late) == [3] * 16
    sim.clear_findings()  # of the copy made before anybody waited


def test_release_waits_for_more_streams_than_any_fixed_number(sim: Simulation) -> None:
    p = sim.stream()
    x = sim.array(4, stream=p, fill=3, speaks="dlpack")
    streams = [sim.stream() for _ in range(100)]
    t = dx.from_dlpack(x)
    for stream in streams:
        t.record_stream(stream)
        t.record_stream(stream)
    sim.reset_calls()
    latch = sim.latch(streams[99])
    t.close()
    assert sim.calls["cuEventRecord"] == 100
    sim.run()
    assert dx._core._drain(0.1) == 1
    latch.open()


# ---- dx.Stream ------------------------------------------------------------------------------


def test_stream_equality_hash_and_repr(two_devices: Simulation) -> None:
    q = two_devices.stream()
    a, b = dx.Stream.from_handle("cuda:0", q.handle), dx.Stream.from_handle((2, 0), q.handle, q)
    assert a == b
    assert hash(a) == hash(b)
    assert a != dx.Stream.from_handle("cuda:1", q.handle)
    assert a != q.handle
    legacy = dx.Stream.legacy_default("cuda:0")
    assert legacy == dx.Stream.from_handle("cuda:0", 0) == dx.Stream.from_handle("cuda:0", 1)
    assert legacy != dx.Stream.legacy_default("cuda:1")
    assert legacy != dx.Stream.per_thread_default("cuda:0")
    assert len({legacy, dx.Stream.legacy_default("cuda:1"), a, b}) == 3
    assert repr(a) == f"<dlexchange.Stream handle {q.handle:#x} on cuda:0>"
    assert repr(legacy) == "<dlexchange.Stream legacy default 0x1 on cuda:0>"
    assert "per-thread default" in repr(dx.Stream.per_thread_default("cuda:1"))
    assert (a.device, a.handle, a.owner, b.owner) == (dx.Device(2, 0), q.handle, None, q)
    assert a.__cuda_stream__() == (0, q.handle)


def test_stream_of_the_host_or_of_a_number_that_is_none_is_refused(sim: Simulation) -> None:
    with pytest.raises(dx.StreamError, match="has no streams"):
        dx.Stream.legacy_default("cpu")
    for address in (-1, 2**64, 1.5, "1", True):
        with pytest.raises((dx.StreamError, TypeError)):
            dx.Stream.from_handle("cuda:0", address)
    with pytest.raises(TypeError):
        dx.Stream()
    with pytest.raises(dx.ExchangeError):
        dx.Stream.create("cuda:7")


def test_created_streams_are_pooled_and_never_destroyed(sim: Simulation) -> None:
    a, b = dx.Stream.create("cuda:0"), dx.Stream.create("cuda:0")
    assert a != b
    handles = {a.handle, b.handle}
    sim.reset_calls()
    del a, b
    again = [dx.Stream.create("cuda:0") for _ in range(2)]
    assert {stream.handle for stream in again} == handles
    assert not any("Stream" in name for name in sim.calls)


def test_stream_records_waits_queries_and_synchronizes(any_sim: Simulation) -> None:
    sim = any_sim
    a, b = dx.Stream.create("cuda:0"), dx.Stream.create("cuda:0")
    assert a.query()
    latch = sim.latch(a.handle)
    event = a.record()
    assert isinstance(event, dx.Event)
    assert event.stream == a
    assert not event.query()
    b.wait(event)
    assert not b.query()
    c = dx.Stream.create("cuda:0")
    c.wait(b)
    assert not c.query()
    d = sim.stream()
    dx.Stream.from_handle("cuda:0", d.handle, owner=d).wait(c)
    assert not d.query()
    latch.open()
    dx.Stream.from_handle("cuda:0", d.handle, owner=d).synchronize()
    event.synchronize()
    assert event.query()
    assert a.query()
    with pytest.raises(dx.StreamError, match="-1"):
        a.wait(-1)
    with pytest.raises(dx.StreamError, match="ambiguous"):
        a.wait(0)
    with pytest.raises(TypeError):
        a.wait("b")


def test_events_are_asked_where_no_context_is_current(sim: Simulation) -> None:
    from .test_counts import current_context

    p = sim.stream()
    event = dx.Stream.from_handle("cuda:0", p.handle, owner=p).record()
    assert current_context(sim) is None
    assert event.query() in (True, False)
    event.synchronize()
    assert event.query()


def test_device_named_with_a_stream_leaves_the_producers_stream_alone(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    x = sim.array(4, "int32", stream=p, fill=7)
    with sim.framework().use_stream(p):
        y = dx.convert(x, other(sim).array_type, device="cuda:0", stream=c)
        z = dx.convert(y, other(sim).array_type, device="cuda:0", stream=-1)
    assert y.tolist(stream=c) == [7] * 4
    assert z.data_ptr == x.data_ptr


def test_push_across_devices(two_devices: Simulation) -> None:
    sim = two_devices
    p, c = sim.stream(1), sim.stream(0)
    latch = sim.latch(p)
    dx.push(p, c)
    assert not c.query()
    latch.open()
    c.synchronize()
    for stream in (1, 2, c.handle, -1):
        with pytest.raises(dx.StreamError, match="which device"):
            dx.push(stream, p)


def test_legacy_streams_of_two_devices_are_two_streams(two_devices: Simulation) -> None:
    sim = two_devices
    latch = sim.latch(sim.legacy(1), 1)
    dx.push(dx.Stream.legacy_default("cuda:1"), dx.Stream.legacy_default("cuda:0"))
    assert not sim.legacy(0).query()
    latch.open()


def test_current_stream_is_one_that_a_release_can_wait_for(sim: Simulation) -> None:
    consumer, q = other(sim), sim.stream()
    t = dx.from_dlpack(sim.array(4, stream=sim.stream(), fill=1, speaks="dlpack"))
    latch = sim.latch(q)
    with consumer.use_stream(q):
        t.record_stream(dx.current_stream(consumer.array_type))
    t.close()
    assert dx.stats().parked == 1
    latch.open()


def test_current_stream_of_torch_is_owned() -> None:
    torch = pytest.importorskip("torch")
    for subject in ("torch", torch, torch.Tensor):
        assert dx.current_stream(subject).owner is torch


def test_current_stream(sim: Simulation) -> None:
    framework, q = sim.framework(), sim.stream()
    x = framework.array(4, stream=q)
    with framework.use_stream(q):
        for subject in (x, type(x)):
            assert dx.current_stream(subject) == dx.Stream.from_handle("cuda:0", q.handle)
            assert dx.current_stream(subject).owner is not None
    assert dx.current_stream(x) == dx.Stream.legacy_default("cuda:0")
    with pytest.raises(dx.StreamError, match="cannot tell"):
        dx.current_stream("jax")
    with pytest.raises(dx.StreamError, match="host memory"):
        dx.current_stream("numpy", "cpu")


# ---- what stream= means ---------------------------------------------------------------------


def test_stream_of_convert_is_the_consumers(any_sim: Simulation) -> None:
    sim = any_sim
    producer, consumer = sim.framework(), other(sim)
    p, c = sim.stream(), sim.stream()
    x = producer.array(16, "int32", stream=p, fill=1)
    p.synchronize()
    latch = sim.latch(p)
    x.fill(7, stream=p)
    with producer.use_stream(p):
        y = dx.convert(x, consumer.array_type, stream=c)
    assert not c.query()
    latch.open()
    assert y.tolist(stream=c) == [7] * 16


@pytest.mark.parametrize("speaks", ["exchange_api", "dlpack", "cai"])
def test_stream_of_convert_is_anything_that_is_a_stream(any_sim: Simulation, speaks: str) -> None:
    sim = any_sim
    consumer = other(sim)
    p, c = sim.stream(), sim.stream()
    x = sim.framework(speaks).array(16, "int32", stream=p, fill=7)
    given = {"cai": x}.get(speaks) or dx.from_dlpack(x, stream=p)
    unowned = dx.Stream.from_handle("cuda:0", c.handle)
    for stream, handle in (
        (c, c.handle),
        (unowned, c.handle),
        (c.handle, c.handle),
        (1, 1),
        (2, 2),
        (dx.Stream.per_thread_default("cuda:0"), 2),
    ):
        y = dx.convert(given, consumer.array_type, stream=stream)
        assert y.stream.handle == handle
        assert y.tolist(stream=y.stream) == [7] * 16
        c.synchronize()
    with dx.strict():
        for stream in (c.handle, unowned):
            with pytest.raises(dx.StreamError, match="no owner"):
                dx.convert(given, consumer.array_type, stream=stream)
    for stream in (0, -2, 2**64):
        with pytest.raises(dx.StreamError, match=r"ambiguous|not a stream handle"):
            dx.convert(given, consumer.array_type, stream=stream)
    with pytest.raises(TypeError, match="is not a stream"):
        dx.convert(given, consumer.array_type, stream="c")


def test_consumer_whose_stream_we_cannot_set_is_given_none(sim: Simulation) -> None:
    x = sim.array(4, stream=sim.stream(), fill=1)
    with pytest.raises(dx.StreamError, match="make it current there"):
        dx.convert(x, "array_api_strict", stream=sim.stream())


def test_tensor_of_a_tensor_is_behind_the_stream_named_for_it(any_sim: Simulation) -> None:
    sim = any_sim
    consumer = other(sim)
    p, q, c = sim.stream(), sim.stream(), sim.stream()
    x = sim.array(16, "int32", stream=p, fill=1)
    t = dx.from_dlpack(x, stream=p)
    with consumer.use_stream(q):
        y = consumer.from_dlpack(t)
        t.record_stream(q)
        q.synchronize()
        latch = sim.latch(q)
        y.fill(9)
        u = dx.from_dlpack(t, stream=q)
    with consumer.use_stream(c):
        z = consumer.from_dlpack(u)
        u.record_stream(c)
    assert not c.query()
    latch.open()
    assert z.tolist(stream=c) == [9] * 16


def test_copying_memory_of_which_nobody_knows_the_stream_is_refused(sim: Simulation) -> None:
    x = sim.array(4, stream=sim.stream(), fill=1, speaks="dlpack")
    capsule = x.__dlpack__(stream=-1, max_version=(1, 3))
    with pytest.raises(dx.StreamError, match="nobody knows"):
        dx.to_numpy(capsule, copy=True)
    capsule = x.__dlpack__(stream=-1, max_version=(1, 3))
    with pytest.raises(dx.StreamError, match="nobody knows"):
        dx.from_dlpack(capsule)
