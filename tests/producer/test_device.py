"""dx.Producer with memory on a simulated CUDA device: order, release, copies, refusals."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator

import pytest
from authors.simulated import Chart
from support import dlpack
from support.dlpack import call_from_object

import dlexchange as dx
from dlexchange.testing import Simulation, drain, simulated_cuda


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with simulated_cuda(devices=2) as sim:
        sim.set_device(0)
        yield sim
        gc.collect()
        drain()
        assert sim.findings == []


def written_on(sim, n):
    """A chart that is written half by half: each stream after the one before."""
    streams = [sim.stream() for _ in range(n)]
    chart = Chart(sim, (6,), 1, streams=streams)
    for before, after in itertools.pairwise(streams):
        after.wait(before.record())
        chart.memory.fill(len(streams), stream=after)
    return chart


@pytest.mark.parametrize("n", [1, 2, 3])
def test_each_pending_stream_is_pushed_once_and_the_host_does_not_wait(sim, n):
    chart = written_on(sim, n)
    consumer = sim.stream()
    sim.reset_calls()
    chart.__dlpack__(stream=consumer.handle, max_version=(1, 3))
    calls = sim.calls
    assert (calls["cuEventRecord"], calls["cuStreamWaitEvent"]) == (n, n)
    assert not [name for name in calls if name.endswith("Synchronize")]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_consumer_reads_what_all_streams_have_written(sim, n):
    chart = written_on(sim, n)
    latch = sim.latch(chart.streams[-1])
    chart.memory.fill(9, stream=chart.streams[-1])
    framework = sim.framework("dlpack")
    consumer = sim.stream()
    with framework.use_stream(consumer):
        got = framework.from_dlpack(chart)
    latch.open()
    assert got.tolist(stream=consumer) == [9.0] * 6


def test_export_to_its_own_stream_or_with_minus_one_makes_no_driver_call(sim):
    chart = written_on(sim, 1)
    other = sim.stream()
    chart.__dlpack__(stream=other.handle)
    sim.reset_calls()
    chart.__dlpack__(stream=chart.streams[0].handle)
    chart.__dlpack__(stream=-1)
    assert sim.calls == {}


def test_consumers_stream_is_left_alone_after_the_call(sim):
    chart = written_on(sim, 1)
    consumer = sim.stream()
    capsule = chart.__dlpack__(stream=consumer.handle, max_version=(1, 3))
    sim.reset_calls()
    del capsule
    gc.collect()
    assert sim.calls == {}


@pytest.mark.parametrize("n", [1, 2])
def test_copy_to_the_host_waits_for_all_streams(sim, n):
    chart = written_on(sim, n)
    capsule = chart.__dlpack__(dl_device=(1, 0), max_version=(1, 3))
    copied = dx.from_dlpack(capsule)
    assert (copied.device, copied.is_copied) == (dx.Device(1, 0), True)
    assert dx.to_numpy(copied).tolist() == [n] * 6


@pytest.mark.parametrize("device", [(3, 0), (13, 0)], ids=["pinned", "managed"])
def test_memory_the_host_can_read_is_waited_for_where_no_stream_is_named(sim, device):
    chart = written_on(sim, 1)

    class Shared(dx.Producer):
        def __dlexchange__(self):
            pointer = chart.memory.data_ptr
            return dx.Description(
                pointer, (6,), "float32", device=device, stream=chart.streams, owner=chart
            )

    consumer, before = sim.stream(), dx.stats().host_waits
    Shared().__dlpack__(stream=consumer.handle)
    assert dx.stats().host_waits == before
    Shared().__dlpack__()
    assert dx.stats().host_waits == before + 1
    assert sim.calls["cuStreamSynchronize"] == 1


def test_what_cannot_be_done_is_refused_as_the_standard_says(sim):
    chart = written_on(sim, 1)
    with pytest.raises(BufferError):
        chart.__dlpack__(dl_device=(2, 1))
    with pytest.raises(dx.CopyError):
        chart.__dlpack__(dl_device=(1, 0), copy=False)
    with pytest.raises(dx.CopyError, match="let the consumer copy"):
        chart.__dlpack__(copy=True)
    with pytest.raises(dx.StreamError, match="ambiguous"):
        chart.__dlpack__(stream=0)
    for interface in ("__array_interface__", "nothing"):
        assert not hasattr(chart, interface)
    with pytest.raises(BufferError):
        memoryview(chart)


def test_cuda_array_interface_names_a_stream_that_carries_all_work(sim):
    chart = written_on(sim, 2)
    framework = sim.framework("cai")
    consumer = sim.stream()
    chart.memory.fill(5, stream=chart.streams[1])
    interface = chart.__cuda_array_interface__
    assert interface["stream"] == chart.streams[0].handle
    assert interface["version"] == 3
    with framework.use_stream(consumer):
        got = framework.from_cai(chart)
        assert got.tolist() == [5.0] * 6


def test_cuda_array_interface_of_complete_memory_names_none(sim):
    chart = written_on(sim, 1)
    chart.streams[0].synchronize()
    chart.streams = -1
    assert chart.__cuda_array_interface__["stream"] is None


def test_exchange_table_refuses_pending_work(sim):
    chart = written_on(sim, 1)
    with pytest.raises(BufferError, match="cannot order pending device work"):
        call_from_object(chart)
    chart.streams = -1
    sim.reset_calls()
    dlpack.delete(call_from_object(chart))
    assert sim.calls == {}


def test_stream_of_another_device_is_refused_at_export(sim):
    chart = written_on(sim, 1)
    chart.streams = [dx.Stream.legacy_default("cuda:1")]
    with pytest.raises(dx.StreamError, match=r"Description\.stream"):
        chart.__dlpack__(stream=-1)


def test_failed_push_takes_nothing(sim):
    chart = written_on(sim, 2)
    consumer = sim.stream()
    chart.__dlpack__(stream=consumer.handle)
    for nth in (1, 2):
        sim.fail("cuStreamWaitEvent", nth)
        with pytest.raises(dx.DriverError, match="cuStreamWaitEvent"):
            chart.__dlpack__(stream=consumer.handle)
    assert dx.stats().live == 0


def test_cython_author_is_ordered_as_any_other(sim):
    pytest.importorskip("Cython")
    from authors import cython_extension

    streams, consumer = [sim.stream(), sim.stream()], sim.stream()
    memory = sim.array((6,), stream=streams[0], fill=1)
    streams[1].wait(streams[0].record())
    latch = sim.latch(streams[1])
    memory.fill(6, stream=streams[1])
    strip = cython_extension.module.Strip(
        memory.data_ptr, (6,), None, memory, device="cuda:0", stream=streams
    )
    framework = sim.framework("dlpack")
    with framework.use_stream(consumer):
        got = framework.from_dlpack(strip)
    latch.open()
    assert got.tolist(stream=consumer) == [6.0] * 6


# ---- dx.consume ---------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2])
def test_consume_orders_the_memory_into_the_authors_stream(sim, n):
    chart = written_on(sim, n)
    mine = sim.stream()
    latch = sim.latch(chart.streams[-1])
    chart.memory.fill(8, stream=chart.streams[-1])
    with dx.consume(chart, stream=mine) as tensor:
        assert tensor.data_ptr == chart.memory.data_ptr
        latch.open()
        assert chart.memory.tolist(stream=mine) == [8.0] * 6


def test_consumed_memory_is_released_behind_the_authors_stream(sim):
    chart = written_on(sim, 1)
    producer, mine = chart.streams[0], sim.stream()
    tensor = dx.consume(chart, stream=mine)
    sim.reset_calls()
    tensor.close()
    assert (sim.calls["cuEventRecord"], sim.calls["cuStreamWaitEvent"]) == (1, 1)  # an edge
    assert dx.stats().parked == 0
    chart.memory.fill(0, stream=producer)


def test_managed_capsule_is_versioned_and_orders_nothing(sim):
    chart = written_on(sim, 1)
    tensor = dx.consume(chart, stream=sim.stream())
    sim.reset_calls()
    capsule = tensor.to_managed_capsule()
    assert "dltensor_versioned" in repr(capsule)
    assert sim.calls == {}
