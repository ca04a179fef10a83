"""Host functions, callbacks, errors of a context, gates, queries: when things happen."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dlexchange.testing import SimulatedDriverError, Simulation, simulated_cuda

NOT_PERMITTED, ILLEGAL_ADDRESS, LAUNCH_TIMEOUT = 800, 700, 702
CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p)


def kinds(sim: Simulation) -> list[str]:
    return [finding.kind for finding in sim.findings]


def test_host_function_runs_in_stream_order_on_the_drivers_thread(sim: Simulation) -> None:
    p = sim.stream()
    seen: list[Any] = []
    array = sim.array(4, stream=p, fill=3)
    address = sim.host_pointer(array.data_ptr)

    def look() -> None:
        seen.append(ctypes.c_float.from_address(address).value)
        seen.append(threading.get_ident())

    p.host_function(look)
    array.fill(9, stream=p)
    p.synchronize()
    assert seen[0] == 3
    assert seen[1] != threading.get_ident()


def test_host_function_nobody_forces_runs_once_the_driver_is_idle(sim: Simulation) -> None:
    p = sim.stream()
    ran = threading.Event()
    sim.array(4, stream=p, fill=3)
    p.host_function(ran.set)
    assert ran.wait(30)


def test_host_function_waits_for_a_closed_gate_and_runs_when_it_opens(sim: Simulation) -> None:
    p, other = sim.stream(), sim.stream()
    held, free = threading.Event(), threading.Event()
    latch = sim.latch(p)
    p.host_function(held.set)
    other.host_function(free.set)
    assert free.wait(30)
    assert not held.is_set()
    latch.open()
    assert held.wait(30)


def test_idle_time_zero_leaves_host_functions_to_those_who_force_them() -> None:
    with simulated_cuda(idle_ms=0) as sim:
        p = sim.stream()
        ran = threading.Event()
        p.host_function(ran.set)
        assert not ran.wait(0.05)
        p.synchronize()
        assert ran.is_set()


def test_driver_call_in_a_host_function_is_not_permitted(sim: Simulation) -> None:
    p = sim.stream()
    statuses: list[int] = []
    p.host_function(lambda: statuses.append(sim.driver.status("cuStreamQuery", p.handle)))
    p.synchronize()
    assert statuses == [NOT_PERMITTED]
    assert kinds(sim) == ["call-in-host-function"]


def test_names_of_errors_may_be_asked_for_in_a_host_function(sim: Simulation) -> None:
    p = sim.stream()
    names: list[str] = []
    p.host_function(lambda: names.append(sim.driver.error_name(800)))
    p.synchronize()
    assert names == ["CUDA_ERROR_NOT_PERMITTED"]
    assert sim.findings == []


DEADLOCK = """
    import ctypes, sys, threading
    from dlexchange.testing import simulated_cuda
    with simulated_cuda(idle_ms=0) as sim:
        p = sim.stream()
        p.host_function(lambda: print("called", flush=True))
        sim.set_device()
        library = ctypes.{loader}(sim.library._name)
        library.cuStreamSynchronize.argtypes = [ctypes.c_uint64]
        print("synchronizing", flush=True)
        library.cuStreamSynchronize(p.handle)
        print([finding.kind for finding in sim.findings], flush=True)
"""


def test_python_host_function_deadlocks_with_a_caller_that_holds_the_gil(
    child: Callable[..., Any],
) -> None:
    done = child(DEADLOCK.format(loader="PyDLL"), timeout=4)
    assert done.returncode is None
    assert "synchronizing" in done.output
    assert "called" not in done.output


def test_python_host_function_runs_where_the_caller_releases_the_gil(
    child: Callable[..., Any],
) -> None:
    done = child(DEADLOCK.format(loader="CDLL"))
    assert done.returncode == 0
    assert "called\n[]" in done.output


def test_blocking_call_with_the_gil_held_is_found_even_if_it_need_not_wait(
    sim: Simulation,
) -> None:
    p = sim.stream()
    sim.set_device()
    holding = ctypes.PyDLL(sim.library._name)
    for call in ("cuStreamSynchronize", "cuStreamQuery"):
        function = getattr(holding, call)
        function.argtypes = [ctypes.c_uint64]
        assert function(p.handle) == 0
    assert kinds(sim) == ["gil-held"]
    assert sim.findings[0].first.startswith("cuStreamSynchronize")


# --- errors of a context ---


def test_dead_context_fails_every_later_call_with_its_error(sim: Simulation) -> None:
    p = sim.stream()
    event = sim.event()
    array = sim.array(4, stream=p, fill=1)
    sim.kill_context()
    for call in (
        p.synchronize,
        p.query,
        event.query,
        lambda: p.record(event),
        lambda: p.wait(event),
        lambda: sim.stream(),
        lambda: array.tolist(stream=p),
        event.destroy,
    ):
        with pytest.raises(SimulatedDriverError) as raised:
            call()
        assert raised.value.status == ILLEGAL_ADDRESS


def test_dead_context_calls_no_host_function(sim: Simulation) -> None:
    p = sim.stream()
    ran: list[int] = []
    latch = sim.latch(p)
    p.host_function(lambda: ran.append(1))
    sim.kill_context()
    latch.open()
    assert sim.run() == 0
    assert ran == []


def test_dead_context_calls_stream_callbacks_with_its_error(sim: Simulation) -> None:
    p = sim.stream()
    called = threading.Event()
    statuses: list[int] = []

    @CALLBACK
    def callback(_stream: int, status: int, _user: int) -> None:
        statuses.append(status)
        called.set()

    latch = sim.latch(p)
    sim.set_device()
    sim.driver("cuStreamAddCallback", p.handle, callback, None, 0)
    sim.kill_context(status=719)
    assert called.wait(30)
    assert statuses == [719]
    latch.open()


def test_callback_is_called_with_success_in_stream_order(sim: Simulation) -> None:
    p = sim.stream()
    statuses: list[int] = []
    callback = CALLBACK(lambda _stream, status, _user: statuses.append(status))
    sim.set_device()
    sim.driver("cuStreamAddCallback", p.handle, callback, None, 0)
    p.synchronize()
    assert statuses == [0]


def test_death_wakes_a_thread_that_waits_for_a_gate(sim: Simulation) -> None:
    p = sim.stream()
    sim.latch(p)
    statuses: list[int] = []
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        sim.set_device()
        statuses.append(sim.driver.status("cuStreamSynchronize", p.handle))

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait(30)
    sim.kill_context()
    thread.join(30)
    assert statuses == [ILLEGAL_ADDRESS]


def test_death_of_one_device_leaves_the_other_alone() -> None:
    with simulated_cuda(devices=2) as sim:
        healthy = sim.array(4, stream=sim.stream(1), fill=5)
        sim.stream(0)
        sim.kill_context(0)
        assert healthy.tolist(stream=healthy.stream) == [5] * 4


# --- gates ---


def test_latch_holds_its_stream_and_nothing_else(any_sim: Simulation) -> None:
    p, c, other = (any_sim.stream() for _ in range(3))
    latch = any_sim.latch(p)
    array = any_sim.array(16, stream=p, fill=7)
    c.wait(p)
    copy = array.copy(stream=c)
    assert [c.query() for _ in range(5)] == [False] * 5
    unrelated = any_sim.array(4, stream=other, fill=2)
    assert unrelated.tolist(stream=other) == [2] * 4
    latch.open()
    assert copy.tolist(stream=c)[0] == 7
    p.wait(c)
    assert any_sim.findings == []


def test_synchronize_waits_for_a_gate_that_another_thread_opens(any_sim: Simulation) -> None:
    p = any_sim.stream()
    latch = any_sim.latch(p)
    array = any_sim.array(4, stream=p, fill=7)
    opener = threading.Thread(target=latch.open)
    opener.start()
    assert array.tolist(stream=p) == [7] * 4
    opener.join()


def test_gate_opens_by_a_store_without_any_call(sim: Simulation) -> None:
    p = sim.stream()
    latch = sim.latch(p)
    done = threading.Event()

    def store() -> None:
        done.wait(30)
        latch._word.value = 1

    thread = threading.Thread(target=store)
    thread.start()
    done.set()
    p.synchronize()
    thread.join()


@pytest.mark.parametrize("bits", [32, 64])
def test_gate_opened_by_a_write_of_another_stream_orders_what_follows(
    any_sim: Simulation, bits: int
) -> None:
    sim = any_sim
    p, c = sim.stream(), sim.stream()
    word = ctypes.c_uint64()
    sim.set_device()
    sim.driver("cuMemAlloc_v2", ctypes.byref(word), 8)
    sim.driver("cuMemsetD8_v2", word.value, 0, 8)
    sim.driver("cuCtxSynchronize")
    array = sim.array(16, stream=p, fill=7)
    sim.driver(f"cuStreamWriteValue{bits}_v2", p.handle, word.value, 5, 0)
    sim.driver(f"cuStreamWaitValue{bits}_v2", c.handle, word.value, 5, 0)
    assert array.tolist(stream=c)[0] == 7
    assert sim.findings == []


@pytest.mark.parametrize(
    ("flags", "opens", "stays"), [(0, 5, 4), (1, 5, 6), (2, 6, 8), (3, 0, 0xFFFFFFFF)]
)
def test_gate_conditions(sim: Simulation, flags: int, opens: int, stays: int) -> None:
    word = ctypes.c_void_p()
    sim.set_device()
    sim.driver("cuMemHostAlloc", ctypes.byref(word), 8, 0)
    value = ctypes.c_uint32.from_address(word.value or 0)
    for content, is_open in ((stays, False), (opens, True)):
        p = sim.stream()
        value.value = content
        sim.driver("cuStreamWaitValue32_v2", p.handle, word.value, 5 if flags != 2 else 6, flags)
        assert [p.query(), p.query()][1] is is_open
        value.value = opens


def test_gate_nobody_opens_is_an_error_that_lists_what_it_blocks() -> None:
    with simulated_cuda(timeout=0.1) as sim:
        p, c = sim.stream(), sim.stream()
        latch = sim.latch(p)
        array = sim.array(4, stream=p, fill=7)
        c.wait(p)
        with pytest.raises(SimulatedDriverError) as raised:
            array.tolist(stream=c)
        assert raised.value.status == LAUNCH_TIMEOUT
        (finding,) = sim.findings
        assert finding.kind == "stalled"
        for name in ("cuStreamWaitValue32", "cuLaunchKernel", "cuEventRecord"):
            assert name in finding.message
        latch.open()
        assert array.tolist(stream=c) == [7] * 4


# --- queries ---


@pytest.mark.parametrize("lazy_queries", [0, 1, 3])
def test_pending_work_is_not_ready_for_as_many_queries_as_told(lazy_queries: int) -> None:
    with simulated_cuda(lazy_queries=lazy_queries) as sim:
        p = sim.stream()
        sim.array(4, stream=p, fill=1)
        event = p.record()
        answers = [event.query() for _ in range(5)]
        assert answers == [False] * lazy_queries + [True] * (5 - lazy_queries)


def test_eager_policy_runs_work_at_once() -> None:
    with simulated_cuda(policy="eager") as sim:
        p = sim.stream()
        sim.array(4, stream=p, fill=1)
        assert p.query()


def test_lazy_policy_runs_only_what_is_needed(sim: Simulation) -> None:
    p, other = sim.stream(), sim.stream()
    array = sim.array(4, stream=p, fill=1)
    kept = sim.array(4, stream=other, fill=2)
    array.tolist(stream=p)
    at = ctypes.c_float.from_address(sim.host_pointer(kept.data_ptr))
    assert at.value != 2
    sim.run()
    assert at.value == 2


def test_pending_work_is_bounded_by_the_window() -> None:
    with simulated_cuda(window=50) as sim:
        p = sim.stream()
        array = sim.array(4, stream=p)
        for i in range(500):
            array.fill(i, stream=p)
        assert sim.peak["op"] <= 52
        assert array.tolist(stream=p) == [499] * 4
