"""Contexts and devices: what is current, what crosses, what dies together."""

from __future__ import annotations

import ctypes
import os
import threading
from ctypes import c_int32, c_uint32, c_void_p

from dlexchange.testing import Simulation, simulated_cuda

NOT_INITIALIZED, INVALID_DEVICE, INVALID_CONTEXT, INVALID_HANDLE = 3, 101, 201, 400
CONTEXT_IS_DESTROYED, NO_DEVICE = 709, 100


def current(sim: Simulation) -> int:
    out = c_void_p(1)
    sim.driver("cuCtxGetCurrent", ctypes.byref(out))
    return out.value or 0


def state(sim: Simulation, device: int = 0) -> tuple[int, int]:
    flags, active = c_uint32(), c_int32()
    sim.driver("cuDevicePrimaryCtxGetState", device, ctypes.byref(flags), ctypes.byref(active))
    return flags.value, active.value


def test_nothing_works_before_init(sim: Simulation) -> None:
    assert sim.driver.status("cuCtxGetCurrent", c_void_p()) == NOT_INITIALIZED
    assert sim.driver.status("cuInit", 0) == 0


def test_driver_without_devices_has_none() -> None:
    with simulated_cuda(devices=0) as sim:
        assert sim.driver.status("cuInit", 0) == NO_DEVICE


def test_asking_about_devices_makes_no_context(sim: Simulation) -> None:
    sim.driver("cuInit", 0)
    count = c_int32()
    sim.driver("cuDeviceGetCount", ctypes.byref(count))
    assert count.value == 1
    assert state(sim) == (0, 0)
    assert current(sim) == 0


def test_primary_context_is_one_object_until_its_last_release(sim: Simulation) -> None:
    sim.driver("cuInit", 0)
    one, two = c_void_p(), c_void_p()
    sim.driver("cuDevicePrimaryCtxRetain", ctypes.byref(one), 0)
    sim.driver("cuDevicePrimaryCtxRetain", ctypes.byref(two), 0)
    assert one.value == two.value
    sim.driver("cuDevicePrimaryCtxRelease_v2", 0)
    assert state(sim)[1] == 1
    sim.driver("cuDevicePrimaryCtxRelease_v2", 0)
    assert state(sim)[1] == 0
    assert sim.driver.status("cuCtxSetCurrent", one) == INVALID_CONTEXT
    assert sim.driver.status("cuDevicePrimaryCtxRelease_v2", 0) == INVALID_CONTEXT


def test_current_context_is_per_thread(sim: Simulation) -> None:
    sim.set_device()
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(current(sim)))
    thread.start()
    thread.join()
    assert seen == [0]
    assert current(sim) == sim.context()


def test_push_and_pop_restore_what_was_current() -> None:
    with simulated_cuda(devices=2) as sim:
        sim.set_device(0)
        with sim.on_device(1):
            assert current(sim) == sim.context(1)
            with sim.on_device(0):
                assert current(sim) == sim.context(0)
            assert current(sim) == sim.context(1)
        assert current(sim) == sim.context(0)


def test_stream_calls_need_a_current_context(sim: Simulation) -> None:
    p, event = sim.stream(), sim.event()
    assert current(sim) == 0
    for call, *arguments in (
        ("cuStreamQuery", p.handle),
        ("cuEventRecord", event.handle, p.handle),
        ("cuStreamWaitEvent", p.handle, event.handle, 0),
        ("cuStreamSynchronize", 1),
    ):
        assert sim.driver.status(call, *arguments) == INVALID_CONTEXT


def test_event_is_recorded_only_on_streams_of_its_own_context() -> None:
    with simulated_cuda(devices=2) as sim:
        sim.set_device(0)
        p, event = sim.stream(1), sim.event(0)
        assert sim.driver.status("cuEventRecord", event.handle, p.handle) == INVALID_HANDLE
        assert sim.driver.status("cuStreamWaitEvent", p.handle, event.handle, 0) == 0


def test_event_of_another_context_on_the_same_device_is_refused(sim: Simulation) -> None:
    event = sim.event()
    other = c_void_p()
    sim.driver("cuCtxCreate_v2", ctypes.byref(other), 0, 0)
    assert current(sim) == other.value
    stream = c_void_p()
    sim.driver("cuStreamCreate", ctypes.byref(stream), 1)
    assert sim.driver.status("cuEventRecord", event.handle, stream) == INVALID_HANDLE
    sim.driver("cuCtxDestroy_v2", other)
    assert current(sim) == 0
    sim.set_device()
    assert sim.driver.status("cuStreamQuery", stream) == INVALID_HANDLE


def test_destroyed_context_that_is_current_elsewhere_is_noticed(sim: Simulation) -> None:
    sim.driver("cuInit", 0)
    context = c_void_p()
    sim.driver("cuCtxCreate_v2", ctypes.byref(context), 0, 0)
    thread = threading.Thread(target=lambda: sim.driver("cuCtxDestroy_v2", context))
    thread.start()
    thread.join()
    assert sim.driver.status("cuStreamSynchronize", 1) == CONTEXT_IS_DESTROYED


def test_stale_handles_are_refused_not_dereferenced(sim: Simulation) -> None:
    sim.set_device()
    p, event = sim.stream(), sim.event()
    stream, mark = p.handle, event.handle
    p.destroy()
    event.destroy()
    for call, *arguments in (
        ("cuStreamSynchronize", stream),
        ("cuStreamDestroy_v2", stream),
        ("cuEventRecord", mark, 1),
        ("cuEventDestroy_v2", mark),
        ("cuEventQuery", mark),
        ("cuEventQuery", 0xDEAD),
        ("cuStreamSynchronize", 0xDEAD),
    ):
        assert sim.driver.status(call, *arguments) == INVALID_HANDLE


def test_work_of_a_destroyed_stream_still_runs_and_is_still_waited_for(
    sim: Simulation,
) -> None:
    p = sim.stream()
    array = sim.array(4, stream=p, fill=7)
    p.destroy()
    sim.set_device()
    sim.driver("cuCtxSynchronize")
    at = ctypes.c_float.from_address(sim.host_pointer(array.data_ptr))
    assert at.value == 7
    array._release = None  # its stream is gone: nothing to free it on


def test_reused_handle_names_a_new_stream_with_another_id() -> None:
    with simulated_cuda(reuse=True) as sim:
        sim.set_device()

        def ident(handle: int) -> int:
            out = ctypes.c_uint64()
            sim.driver("cuStreamGetId", handle, ctypes.byref(out))
            return out.value

        p = sim.stream()
        handle, first = p.handle, ident(p.handle)
        p.destroy()
        again = sim.stream()
        assert again.handle == handle
        assert ident(again.handle) != first


def test_stream_tells_its_context_device_flags_and_priority() -> None:
    with simulated_cuda(devices=2) as sim:
        p = sim.stream(1, priority=-3)
        sim.set_device(0)
        context, device, flags, priority = c_void_p(), c_int32(), c_uint32(), c_int32()
        sim.driver("cuStreamGetCtx", p.handle, ctypes.byref(context))
        sim.driver("cuStreamGetDevice", p.handle, ctypes.byref(device))
        sim.driver("cuStreamGetFlags", p.handle, ctypes.byref(flags))
        sim.driver("cuStreamGetPriority", p.handle, ctypes.byref(priority))
        got = (context.value, device.value, flags.value, priority.value)
        assert got == (sim.context(1), 1, 1, -3)


def test_device_that_does_not_exist_is_refused(sim: Simulation) -> None:
    sim.driver("cuInit", 0)
    out = c_void_p()
    assert sim.driver.status("cuDevicePrimaryCtxRetain", ctypes.byref(out), 7) == INVALID_DEVICE


def test_forked_child_gets_not_initialized(sim: Simulation) -> None:
    p = sim.stream()
    sim.set_device()
    pid = os.fork()
    if pid == 0:
        status = sim.driver.status("cuStreamQuery", p.handle)
        os._exit(0 if status == NOT_INITIALIZED else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert p.query()


def test_threads_submit_side_by_side(any_sim: Simulation) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            p, c = any_sim.stream(), any_sim.stream()
            for i in range(30):
                array = any_sim.array(8, stream=p, fill=i)
                c.wait(p)
                assert array.tolist(stream=c) == [i] * 8
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert any_sim.findings == []
