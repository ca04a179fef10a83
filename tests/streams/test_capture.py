"""Graph capture, line by line of what is promised; every refusal leaves the capture whole."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

import dlexchange as dx
from dlexchange.testing import SimStream, SimulatedDriverError, Simulation, drain

from .conftest import driver_calls, other, warm


def owned(stream: SimStream) -> dx.Stream:
    return dx.Stream.from_handle(f"cuda:{stream.device}", stream.handle, owner=stream)


def double(sim: Simulation, x: Any, out: Any, stream: SimStream) -> None:
    with sim.on_device(0):
        other(sim).launch_add(out, x, x, stream)


def survives(*streams: SimStream) -> None:
    """Demand that the captures are valid, and end them."""
    for stream in streams:
        assert stream.capture_status == "active"
        stream.end_capture().destroy()


def refused(sim: Simulation, push: Any, *names: SimStream) -> None:
    """Demand CaptureError that names the streams, before any record or wait."""
    sim.reset_calls()
    before = dx.stats().events_in_use
    with pytest.raises(dx.CaptureError) as error:
        push()
    for stream in names:
        assert f"{stream.handle:#x} of cuda:{stream.device}" in str(error.value)
    calls = driver_calls(sim)
    calls.pop("cuEventQuery", None)
    assert set(calls) <= {"cuStreamGetCaptureInfo"}, calls
    assert dx.stats().events_in_use == before


def test_both_sides_in_one_capture_push(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    x = sim.array(16, "int32", stream=p, fill=1)
    y = sim.array(16, "int32", stream=p, fill=1)
    c.wait(p)
    p.begin_capture()
    dx.push(p, c)  # forks c, which the caller names
    x.fill(5, stream=p)
    with sim.framework().use_stream(p), other(sim).use_stream(c):
        view = dx.convert(x, other(sim).array_type)
    double(sim, view, y, c)
    del view  # an edge inside the capture
    dx.push(c, p)
    graph = p.end_capture()
    assert x.tolist(stream=p) == [1] * 16
    graph.launch(p)
    assert y.tolist(stream=p) == [10] * 16
    graph.destroy()


def test_producer_captures_and_the_consumer_was_not_named(sim: Simulation) -> None:
    warm(sim)
    p, c = sim.stream(), sim.stream()
    x = sim.array(4, stream=p, fill=1, speaks="exchange_api")
    p.begin_capture()
    with sim.framework().use_stream(p), other(sim).use_stream(c):
        t = dx.from_dlpack(x)
        refused(sim, lambda: other(sim).from_dlpack(t), p, c)
    survives(p)


def test_producer_captures_and_a_named_consumer_forks(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    p.begin_capture()
    dx.push(p, c)
    assert c.is_capturing
    dx.push(c, p)
    survives(p)


def test_stream_named_in_a_conversion_forks(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    x = sim.array(16, "int32", stream=p, fill=1)
    y = sim.array(16, "int32", stream=p, fill=1)
    p.begin_capture()
    x.fill(5, stream=p)
    with sim.framework().use_stream(p):
        view = dx.convert(x, other(sim).array_type, stream=owned(c))
    double(sim, view, y, c)
    dx.push(c, p)
    graph = p.end_capture()
    graph.launch(p)
    assert y.tolist(stream=p) == [10] * 16
    graph.destroy()


def test_producer_captures_and_the_legacy_stream_is_refused_even_when_named(
    sim: Simulation,
) -> None:
    warm(sim)
    p = sim.stream()
    p.begin_capture()
    refused(sim, lambda: dx.push(p, dx.Stream.legacy_default("cuda:0")), p, sim.legacy())
    survives(p)


def test_consumer_captures_and_the_work_is_outside(sim: Simulation) -> None:
    warm(sim)
    p, c = sim.stream(), sim.stream()
    latch = sim.latch(p)
    x = sim.array(4, stream=p, fill=1)
    t = dx.from_dlpack(x, stream=p)
    c.begin_capture()
    refused(sim, lambda: dx.push(p, c), p, c)
    refused(sim, lambda: t.__dlpack__(stream=c.handle), p, c)
    with other(sim).use_stream(c):
        refused(sim, lambda: dx.convert(t, other(sim).array_type), p, c)
    refused(sim, lambda: owned(c).wait(t.ready_event), p, c)
    survives(c)
    latch.open()


def test_two_captures_are_not_merged(sim: Simulation) -> None:
    warm(sim)
    p, c = sim.stream(), sim.stream()
    p.begin_capture()
    c.begin_capture()
    refused(sim, lambda: dx.push(p, c), p, c)
    event = owned(p).record()
    refused(sim, lambda: owned(c).wait(event), p, c)
    survives(p, c)


def test_legacy_push_that_would_break_a_third_streams_capture(sim: Simulation) -> None:
    warm(sim)
    third, s = sim.stream(blocking=True), sim.stream()
    legacy = dx.Stream.legacy_default("cuda:0")
    third.begin_capture()
    refused(sim, lambda: dx.push(legacy, s), sim.legacy(), s)
    refused(sim, lambda: dx.push(s, legacy), sim.legacy(), s)
    refused(sim, legacy.record, sim.legacy())
    survives(third)


def test_static_inputs_enter_a_capture_once_they_are_seen_complete(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    x = sim.array(16, "int32", stream=p, fill=4)
    out = sim.array(16, "int32", stream=c)
    t = dx.from_dlpack(x, stream=p)
    t.ready_event.synchronize()
    c.begin_capture()
    with other(sim).use_stream(c):
        y = other(sim).from_dlpack(t)
        double(sim, y, out, c)
    graph = c.end_capture()
    graph.launch(c)
    assert out.tolist(stream=c) == [8] * 16
    del y
    graph.destroy()


@pytest.mark.parametrize("vouch", [True, False])
def test_minus_one_and_the_same_stream_make_no_call_in_a_capture(
    sim: Simulation, vouch: bool
) -> None:
    p = sim.stream()
    x = sim.array(4, stream=p, fill=1)
    if vouch:
        p.begin_capture()
    t = dx.from_dlpack(x, stream=-1 if vouch else p)
    if not vouch:
        p.begin_capture()
    sim.reset_calls()
    capsule = t.__dlpack__(stream=p.handle, max_version=(1, 3))
    dx.push(p, p)
    assert sim.calls == {}
    del capsule
    survives(p)


def test_ready_event_of_a_capture_serves_that_capture_only(sim: Simulation) -> None:
    warm(sim)
    p, c, out = sim.stream(), sim.stream(), sim.stream()
    p.begin_capture()
    event = owned(p).record()
    dx.push(p, c)
    owned(c).wait(event)  # equal ids
    refused(sim, lambda: owned(out).wait(event), p, out)
    for ask in (event.query, event.synchronize):
        with pytest.raises(dx.CaptureError, match="capture"):
            ask()
    with pytest.raises(dx.CaptureError):
        dx.ready(event)
    dx.push(c, p)
    survives(p)
    assert dx.stats().notifications == 0


@pytest.mark.parametrize("kind", ["edge", "park"])
def test_view_of_older_memory_collected_while_an_unrelated_capture_runs(
    sim: Simulation, kind: str
) -> None:
    p, c, unrelated = sim.stream(), sim.stream(), sim.stream()
    speaks = "exchange_api" if kind == "edge" else "dlpack"
    for mode in ("global", "thread_local", "relaxed"):
        x = sim.framework(speaks).array(16, "int32", stream=p, fill=1)
        with sim.framework(speaks).use_stream(p), other(sim).use_stream(c):
            y = dx.convert(x, other(sim).array_type)
        cycle = [y]
        cycle.append(cycle)
        before = dx.stats()
        unrelated.begin_capture(mode)
        sim.reset_calls()
        del cycle, y
        gc.collect()
        assert sim.calls["cuEventRecord"] == 1
        after = dx.stats()
        assert (after.edges > before.edges) == (kind == "edge")
        dx._core._drain(2.0)  # the reaper asks while the capture runs
        survives(unrelated)
        del x
        assert dx.stats().leaked == before.leaked


@pytest.mark.parametrize("side", ["consumer", "producer", "both"])
def test_release_is_held_until_a_capture_of_its_streams_ends(sim: Simulation, side: str) -> None:
    warm(sim)
    p, c = sim.stream(), sim.stream()
    x = sim.array(16, "int32", stream=p, fill=1)
    t = dx.from_dlpack(x, stream=p)
    t.record_stream(c)
    capturing = [s for s, name in ((c, "consumer"), (p, "producer")) if side in (name, "both")]
    for stream in capturing:
        stream.begin_capture()
    sim.reset_calls()
    t.close()
    calls = driver_calls(sim)
    assert set(calls) == {"cuStreamGetCaptureInfo"}
    assert dx.stats().held == 1
    del x, t
    survives(*capturing)
    drain()
    assert dx.stats().held == 0


def test_release_inside_one_capture_is_an_edge_of_the_graph(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    x = sim.array(16, "int32", stream=p, fill=1)
    t = dx.from_dlpack(x, stream=p)
    t.record_stream(c)
    p.begin_capture()
    dx.push(p, c)
    before = dx.stats().edges
    t.close()  # it joins c, as dx.push(c, p) would
    assert dx.stats().edges == before + 1
    survives(p)
    p.synchronize()


def test_pools_and_pinned_memory_can_be_filled_during_a_capture(sim: Simulation) -> None:
    unrelated = sim.stream()
    p = sim.stream()
    x = sim.array(16, "int32", stream=p, fill=6)
    t = dx.from_dlpack(x, stream=p)
    unrelated.begin_capture()
    streams = [dx.Stream.create("cuda:0") for _ in range(8)]
    events = [owned(p).record() for _ in range(50)]
    assert dx.to_numpy(t, copy=True).tolist() == [6] * 16
    survives(unrelated)
    assert len(streams) + len(events) == 58


def test_interface_of_a_tensor_is_refused_in_a_foreign_capture(sim: Simulation) -> None:
    p = sim.stream()
    x = sim.array(16, "int32", stream=p, fill=6)
    p.begin_capture()
    t = dx.from_dlpack(x, stream=p)
    with pytest.raises(dx.CaptureError):
        t.__cuda_array_interface__  # noqa: B018
    survives(p)


@pytest.mark.parametrize("mode", ["global", "thread_local", "relaxed"])
def test_everything_of_ours_goes_on_beside_an_unrelated_capture(sim: Simulation, mode: str) -> None:
    p, c, unrelated = sim.stream(), sim.stream(), sim.stream()
    x = sim.array(4, "int32", stream=p, fill=6)

    async def wait() -> Any:
        await dx.ready(owned(p))
        return await dx.host(t)

    unrelated.begin_capture(mode)
    t = dx.from_dlpack(x, stream=p)
    assert asyncio.run(wait()).tolist() == [6] * 4
    assert t.__cuda_array_interface__["stream"] > 2
    dx.push(p, c)
    owned(c).wait(owned(p).record())
    owned(c).synchronize()
    assert owned(c).query()
    t.record_stream(dx.Stream.create("cuda:0"))
    t.close()
    drain()
    survives(unrelated)


@pytest.mark.parametrize("mode", ["global", "thread_local", "relaxed"])
def test_nothing_can_be_asked_or_awaited_of_a_stream_that_captures(
    sim: Simulation, mode: str
) -> None:
    warm(sim)
    p = sim.stream()
    x = sim.array(4, stream=p, fill=6)
    stream = owned(p)
    p.begin_capture(mode)
    t = dx.from_dlpack(x, stream=p)
    for ask in (
        stream.query,
        stream.synchronize,
        lambda: dx.ready(stream),
        lambda: dx.ready(t),
        lambda: dx.to_numpy(t, copy=True),
        lambda: asyncio.run(dx.host(t)),
        lambda: t.__cuda_array_interface__,
    ):
        with pytest.raises(dx.CaptureError, match=f"{p.handle:#x} of cuda:0"):
            ask()
    survives(p)
    assert dx.stats().notifications == 0


def test_parked_release_is_held_while_its_consumer_captures(sim: Simulation) -> None:
    warm(sim)
    p, c = sim.stream(), sim.stream()
    t = dx.from_dlpack(sim.array(4, stream=p, fill=1, speaks="dlpack"))
    t.record_stream(c)
    c.begin_capture()
    sim.reset_calls()
    t.close()
    assert set(driver_calls(sim)) == {"cuStreamGetCaptureInfo"}
    assert (dx.stats().held, dx.stats().parked) == (1, 0)
    survives(c)
    drain()


@pytest.mark.parametrize("consumer", ["legacy", "another thread's"])
def test_release_behind_a_default_stream_is_held_while_a_third_captures(
    sim: Simulation, consumer: str
) -> None:
    warm(sim)
    third = sim.stream(blocking=True)
    t = dx.from_dlpack(sim.array(4, stream=sim.stream(), fill=1))
    if consumer == "legacy":
        t.record_stream(1)
    else:  # released here, where the legacy stream stands for that thread's
        thread = threading.Thread(target=t.record_stream, args=(2,))
        thread.start()
        thread.join()
    third.begin_capture()
    sim.reset_calls()
    t.close()
    assert set(driver_calls(sim)) == {"cuStreamGetCaptureInfo"}
    assert dx.stats().held == 1
    survives(third)
    drain()


def test_push_out_of_a_broken_capture_is_refused(sim: Simulation) -> None:
    warm(sim)
    p, c = sim.stream(), sim.stream()
    p.begin_capture()
    with pytest.raises(SimulatedDriverError):
        p.synchronize()  # breaks it
    assert p.capture_status == "invalidated"
    refused(sim, lambda: dx.push(p, c), p, c)
    refused(sim, lambda: dx.push(c, p), p, c)
    refused(sim, owned(p).record, p)
    with pytest.raises(SimulatedDriverError):
        p.end_capture()
    dx.push(p, c)
