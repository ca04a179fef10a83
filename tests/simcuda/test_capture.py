"""The capture state machine: what joins, what is refused, with which code, what survives."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from ctypes import c_uint32, c_uint64, c_void_p
from typing import Any

import pytest

from dlexchange.testing import SimStream, SimulatedDriverError, Simulation, simulated_cuda

ILLEGAL_STATE = 401
UNSUPPORTED, INVALIDATED, MERGE, UNMATCHED = 900, 901, 902, 903
UNJOINED, ISOLATION, IMPLICIT, CAPTURED_EVENT, WRONG_THREAD = 904, 905, 906, 907, 908


def status_of(call: Callable[..., object], *arguments: object) -> int:
    """Return the CUresult of a call through a helper, 0 if it succeeds."""
    try:
        call(*arguments)
    except SimulatedDriverError as error:
        return error.status
    return 0


def end(stream: SimStream) -> int:
    return status_of(stream.end_capture)


def test_fork_and_join_make_a_graph_that_runs_only_when_launched(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    array = sim.array(16, stream=p, fill=1)
    out = sim.array(16, stream=p, fill=0)
    p.synchronize()
    with p.capture() as graphs:
        array.fill(7, stream=p)
        c.wait(p)
        assert c.is_capturing
        sim.driver("cuCtxSetCurrent", sim.context())
        sim.driver("cuMemcpyDtoDAsync_v2", out.data_ptr, array.data_ptr, 64, c.handle)
        p.wait(c)
    assert not p.is_capturing
    assert not c.is_capturing
    sim.run()
    assert out.tolist(stream=p)[0] == 0
    (graph,) = graphs
    assert graph.node_count == 2
    graph.launch(p)
    assert out.tolist(stream=p)[0] == 7
    out.fill(0, stream=p)
    graph.launch(p)
    assert out.tolist(stream=p)[0] == 7
    assert sim.findings == []
    graph.destroy()
    assert sim.live["graph"] == sim.live["graph_exec"] == sim.live["graph_node"] == 0


def test_graph_launch_is_ordered_behind_its_stream_and_before_what_follows(
    any_sim: Simulation,
) -> None:
    p, c = any_sim.stream(), any_sim.stream()
    array = any_sim.array(16, stream=p, fill=1)
    with p.capture() as graphs:
        array.fill(7, stream=p)
    array.fill(3, stream=p)
    graphs[0].launch(p)
    c.wait(p)
    assert array.tolist(stream=c)[0] == 7
    array.fill(9, stream=p)
    assert array.tolist(stream=p)[0] == 9
    assert any_sim.findings == []


def test_missing_edge_inside_a_capture_is_a_race(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    array = sim.array(16, stream=p, fill=1)
    out = sim.array(16, stream=p, fill=0)
    p.synchronize()
    with p.capture():
        c.wait(p)  # joins, but before the write
        array.fill(7, stream=p)
        sim.set_device()
        sim.driver("cuMemcpyDtoDAsync_v2", out.data_ptr, array.data_ptr, 64, c.handle)
        p.wait(c)
    assert [f.kind for f in sim.findings] == ["race"]
    assert "cuLaunchKernel" in sim.findings[0].first
    assert "cuMemcpyDtoDAsync" in sim.findings[0].second


def test_unjoined_work_fails_the_end(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    array = sim.array(16, stream=p, fill=1)
    p.begin_capture()
    c.wait(p)
    array.fill(2, stream=c)
    assert end(p) == UNJOINED
    assert c.capture_status == "none"


def test_wait_for_an_outside_event_breaks_the_capture(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    sim.array(4, stream=p, fill=1)
    event = p.record()
    c.begin_capture()
    assert status_of(c.wait, event) == ISOLATION
    assert c.capture_status == "invalidated"
    assert end(c) == INVALIDATED
    assert c.capture_status == "none"


def test_waiting_across_two_captures_breaks_both(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    p.begin_capture()
    c.begin_capture()
    event = p.record()
    assert status_of(c.wait, event) == MERGE
    assert (p.capture_status, c.capture_status) == ("invalidated", "invalidated")
    assert (end(p), end(c)) == (INVALIDATED, INVALIDATED)


@pytest.mark.parametrize("what", ["synchronize", "query"])
def test_asking_a_capturing_stream_breaks_its_capture(sim: Simulation, what: str) -> None:
    p = sim.stream()
    p.begin_capture("relaxed")
    assert status_of(getattr(p, what)) == UNSUPPORTED
    assert status_of(getattr(p, what)) == INVALIDATED
    assert end(p) == INVALIDATED


def test_synchronizing_the_context_breaks_captures_in_it(sim: Simulation) -> None:
    p = sim.stream()
    p.begin_capture("relaxed")
    sim.set_device()
    assert status_of(sim.driver, "cuCtxSynchronize") == UNSUPPORTED
    assert end(p) == INVALIDATED


@pytest.mark.parametrize("what", ["query", "synchronize"])
def test_asking_a_captured_event_breaks_its_capture(sim: Simulation, what: str) -> None:
    p = sim.stream()
    event = sim.event()
    p.begin_capture("relaxed")
    p.record(event)
    assert status_of(getattr(event, what)) == CAPTURED_EVENT
    assert end(p) == INVALIDATED


def test_legacy_work_while_a_blocking_stream_captures_breaks_the_capture(
    sim: Simulation,
) -> None:
    p = sim.stream(blocking=True)
    event = sim.event()
    p.begin_capture()
    assert status_of(sim.legacy().record, event) == IMPLICIT
    assert end(p) == INVALIDATED


def test_asking_whether_legacy_captures_says_implicit_and_harms_nothing(
    sim: Simulation,
) -> None:
    p = sim.stream(blocking=True)
    for mode in ("global", "thread_local", "relaxed"):
        p.begin_capture(mode)
        assert status_of(lambda: sim.legacy().capture_status) == IMPLICIT
        assert end(p) == 0


def test_legacy_work_does_not_disturb_a_non_blocking_capture(sim: Simulation) -> None:
    p = sim.stream()
    array = sim.array(4, stream=p)
    p.begin_capture()
    assert sim.legacy().capture_status == "none"
    sim.legacy().record(sim.event())
    array.fill(1, stream=p)
    assert end(p) == 0


def test_legacy_stream_cannot_capture(sim: Simulation) -> None:
    assert status_of(sim.legacy().begin_capture) == UNSUPPORTED


def test_capture_cannot_begin_twice_nor_end_where_it_did_not_begin(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    assert end(p) == ILLEGAL_STATE
    p.begin_capture()
    assert status_of(p.begin_capture) == ILLEGAL_STATE
    c.wait(p)
    assert end(c) == UNMATCHED
    assert end(p) == 0


def elsewhere(function: Callable[..., int], *arguments: object) -> int:
    """Call in another thread."""
    result: list[int] = []
    thread = threading.Thread(target=lambda: result.append(function(*arguments)))
    thread.start()
    thread.join()
    return result[0]


@pytest.mark.parametrize("mode", ["global", "thread_local"])
def test_capture_ends_only_in_its_thread(sim: Simulation, mode: str) -> None:
    p = sim.stream()
    p.begin_capture(mode)
    assert elsewhere(end, p) == WRONG_THREAD
    assert end(p) == 0


def test_relaxed_capture_may_end_in_another_thread(sim: Simulation) -> None:
    p = sim.stream()
    p.begin_capture("relaxed")
    assert elsewhere(end, p) == 0


# --- calls that a capture forbids, by mode ---


def allocate(sim: Simulation) -> int:
    out = c_uint64()
    sim.set_device()
    return sim.driver.status("cuMemAlloc_v2", ctypes.byref(out), 64)


@pytest.mark.parametrize(
    ("mode", "here", "there"),
    [
        ("global", UNSUPPORTED, UNSUPPORTED),
        ("thread_local", UNSUPPORTED, 0),
        ("relaxed", 0, 0),
    ],
)
def test_unsafe_call_during_capture(sim: Simulation, mode: str, here: int, there: int) -> None:
    for function, expected in ((allocate, here), (lambda s: elsewhere(allocate, s), there)):
        p = sim.stream()
        p.begin_capture(mode)
        assert function(sim) == expected
        assert end(p) == (INVALIDATED if expected else 0)


def test_relaxed_thread_may_make_unsafe_calls(sim: Simulation) -> None:
    p = sim.stream()
    event = p.record()
    p.begin_capture("global")
    with sim.relaxed():
        assert allocate(sim) == 0
        event.query()
    assert end(p) == 0


def test_query_of_an_outside_event_during_a_global_capture_breaks_it(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    event = c.record()
    p.begin_capture("global")
    assert elsewhere(status_of, event.query) == UNSUPPORTED
    assert end(p) == INVALIDATED


def test_capture_mode_is_exchanged_per_thread(sim: Simulation) -> None:
    mode = c_uint32(2)
    sim.context()
    sim.driver("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))
    assert mode.value == 0

    def exchange() -> int:
        other = c_uint32(1)
        sim.driver("cuThreadExchangeStreamCaptureMode", ctypes.byref(other))
        return other.value

    assert elsewhere(exchange) == 0
    sim.driver("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))
    assert mode.value == 2


def test_destroying_the_origin_ends_the_capture(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    p.begin_capture()
    c.wait(p)
    p.destroy()
    assert c.capture_status == "none"


# --- what can be asked ---


@pytest.mark.parametrize("version", ["", "_v2", "_v3"])
def test_capture_info_names_capture_and_dependencies(sim: Simulation, version: str) -> None:
    p = sim.stream()
    array = sim.array(4, stream=p)
    sim.set_device()
    status, ident, graph = c_uint32(), c_uint64(), c_void_p()
    nodes, edges, count = c_void_p(), c_void_p(), ctypes.c_size_t(99)
    more = {
        "": [],
        "_v2": [ctypes.byref(x) for x in (graph, nodes, count)],
        "_v3": [ctypes.byref(x) for x in (graph, nodes, edges, count)],
    }[version]

    def ask() -> int:
        name = f"cuStreamGetCaptureInfo{version}"
        sim.driver(name, p.handle, ctypes.byref(status), ctypes.byref(ident), *more)
        return status.value

    assert ask() == 0
    p.begin_capture()
    array.fill(1, stream=p)
    assert ask() == 1
    first = ident.value
    if more:
        assert count.value == 1
    assert end(p) == 0
    p.begin_capture()
    assert ask() == 1
    assert ident.value != first
    assert end(p) == 0


def test_external_events_inside_a_graph_order_it_with_other_streams(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    array = sim.array(16, stream=p, fill=1)
    p.synchronize()
    event = sim.event()
    sim.set_device()
    with p.capture() as graphs:
        array.fill(7, stream=p)
        sim.driver("cuEventRecordWithFlags", event.handle, p.handle, 1)
    graphs[0].launch(p)
    c.wait(event)
    assert array.tolist(stream=c)[0] == 7
    assert sim.findings == []


def test_graph_launched_into_a_capture_becomes_part_of_it(sim: Simulation) -> None:
    p = sim.stream()
    array = sim.array(16, stream=p, fill=1)
    p.synchronize()
    with p.capture() as inner:
        array.fill(5, stream=p)
    with p.capture() as outer:
        array.fill(3, stream=p)
        inner[0].launch(p)
    outer[0].launch(p)
    assert array.tolist(stream=p)[0] == 5
    assert sim.findings == []


def test_graph_that_uses_freed_memory_is_found_at_launch(sim: Simulation) -> None:
    p = sim.stream()
    array = sim.array(16, stream=p, fill=1)
    with p.capture() as graphs:
        array.fill(5, stream=p)
    del array
    graphs[0].launch(p)
    p.synchronize()
    assert "use-after-free" in [f.kind for f in sim.findings]


def test_captures_span_devices() -> None:
    with simulated_cuda(devices=2) as sim:
        p, c = sim.stream(0), sim.stream(1)
        array = sim.array(16, stream=p, fill=1)
        p.synchronize()
        with p.capture("relaxed") as graphs:
            array.fill(7, stream=p)
            c.wait(p)
            assert c.is_capturing
            p.wait(c)
        graphs[0].launch(p)
        assert array.tolist(stream=p)[0] == 7


def test_simulation_may_end_while_captures_run(child: Callable[..., Any]) -> None:
    done = child(
        """
        import gc
        from dlexchange.testing import simulated_cuda
        for _ in range(20):
            with simulated_cuda() as sim:
                streams, events = [sim.stream() for _ in range(8)], []
                for stream in streams:
                    stream.begin_capture()
                    events += [stream.record() for _ in range(8)]
                if _ % 2:
                    streams[0].end_capture()
            del streams, events, stream, sim
            gc.collect()
        print("ended")
        """
    )
    assert "ended" in done.output, done.output
