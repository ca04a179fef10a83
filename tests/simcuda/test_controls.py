"""Counting, failing on demand, entering and leaving, finding entry points."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from ctypes import c_int32, c_uint64, c_void_p
from typing import Any

import pytest

from dlexchange.testing import SimulatedDriverError, Simulation, simulated_cuda
from dlexchange.testing.driver import library_path


def test_calls_are_counted_by_name_without_version(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    event = sim.event()
    sim.reset_calls()
    p.record(event)
    c.wait(event)
    event.destroy()
    calls = sim.calls
    assert calls["cuEventRecord"] == calls["cuStreamWaitEvent"] == calls["cuEventDestroy"] == 1
    assert calls["cuStreamSynchronize"] == 0
    assert not [name for name in calls if name.endswith(("_v2", "_ptsz"))]
    sim.reset_calls()
    assert not sim.calls


def test_submissions_are_counted_by_stream(sim: Simulation) -> None:
    p = sim.stream()
    before = (p.submitted, sim.legacy().submitted)
    p.record()
    sim.array(4, stream=p, fill=1)
    assert p.submitted - before[0] >= 3
    assert sim.legacy().submitted == before[1]


def test_nth_call_fails_once_without_doing_anything(sim: Simulation) -> None:
    p = sim.stream()
    event = p.record()
    sim.fail("cuEventRecord", nth=2, status=719)
    submitted = p.submitted
    p.record(event)
    assert p.submitted == submitted + 1
    with pytest.raises(SimulatedDriverError, match="CUDA_ERROR_LAUNCH_FAILED") as raised:
        p.record(event)
    assert (raised.value.call, raised.value.status) == ("cuEventRecord", 719)
    assert p.submitted == submitted + 1
    p.record(event)


def test_failing_a_name_the_driver_does_not_have_is_an_error(sim: Simulation) -> None:
    with pytest.raises(ValueError, match="cuEventRecord_v9"):
        sim.fail("cuEventRecord_v9")


@pytest.mark.parametrize("name", ["cuInit", "cuDriverGetVersion", "cuDeviceGetCount"])
def test_early_calls_can_fail_too(sim: Simulation, name: str) -> None:
    sim.driver("cuInit", 0)
    sim.fail(name, status=999)
    assert sim.driver.status(name, ctypes.byref(c_int32())) == 999


def test_unimplemented_entry_point_is_not_supported_and_a_finding(sim: Simulation) -> None:
    sim.set_device()
    assert sim.driver.status("cuTexRefCreate", None) == 801
    (finding,) = sim.findings
    assert finding.kind == "not-implemented"
    assert "cuTexRefCreate" in finding.message


def test_live_objects_are_counted(sim: Simulation) -> None:
    before = sim.live
    p = sim.stream()
    event = p.record()
    array = sim.array(4, stream=p)
    assert {k: sim.live[k] - before[k] for k in ("stream", "event", "block")} == {
        "stream": 1,
        "event": 1,
        "block": 1,
    }
    del array
    event.destroy()
    assert sim.live["event"] == before["event"]
    assert sim.live["block"] == before["block"]
    assert sim.peak["event"] == before["event"] + 1


def test_latches_do_not_show_in_the_counts(sim: Simulation) -> None:
    p = sim.stream()
    before = sim.live["block"]
    for _ in range(600):
        sim.latch(p).open()
    assert sim.live["block"] == before == 0
    p.synchronize()
    assert sim.findings == []


def test_same_two_sites_are_one_finding_with_a_count(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    array = sim.array(4, stream=p, fill=1)
    for i in range(5):
        array.fill(i, stream=(p, c)[i % 2])
    assert len(sim.findings) <= 3
    assert sum(f.times for f in sim.findings) >= 4
    sim.clear_findings()
    assert sim.findings == []


# --- entering and leaving ---


def test_simulation_can_be_entered_again_and_starts_clean() -> None:
    with simulated_cuda() as first:
        p = first.stream()
        array = first.array(4, stream=p, fill=1)
        stale = p.handle
        first.fail("cuInit")
        first.driver.status("cuTexRefCreate", None)
    with simulated_cuda(devices=2) as second:
        assert second.findings == []
        assert not second.calls
        assert set(second.live.values()) == {0}
        second.set_device()
        assert second.driver.status("cuStreamQuery", stale) == 400
        del array  # of a simulation that is over: nothing happens
        assert second.findings == []


def test_simulation_within_a_simulation_is_refused(sim: Simulation) -> None:
    with pytest.raises(RuntimeError, match="active already"), simulated_cuda():
        pass
    sim.stream()


def test_pending_work_at_the_end_is_dropped() -> None:
    ran: list[int] = []
    with simulated_cuda(idle_ms=0) as sim:
        p = sim.stream()
        sim.latch(p)
        p.host_function(lambda: ran.append(1))
    with simulated_cuda() as sim:
        assert sim.run() == 0
    assert ran == []


def test_latch_left_closed_is_opened_at_the_end_for_whoever_waits() -> None:
    statuses: list[int] = []
    begun = threading.Event()
    with simulated_cuda() as sim:
        p = sim.stream()
        sim.latch(p)

        def wait() -> None:
            sim.set_device()
            begun.set()
            statuses.append(sim.driver.status("cuStreamSynchronize", p.handle))

        thread = threading.Thread(target=wait)
        thread.start()
        begun.wait(30)
    thread.join(30)
    assert not thread.is_alive()
    assert len(statuses) == 1


def test_environment_names_the_library_inside_and_is_restored_after() -> None:
    before = os.environ.get("DLEXCHANGE_CUDA_DRIVER")
    with simulated_cuda():
        assert os.environ["DLEXCHANGE_CUDA_DRIVER"].endswith("libcuda.so.1")
        assert os.path.exists(os.environ["DLEXCHANGE_CUDA_DRIVER"])
    assert os.environ.get("DLEXCHANGE_CUDA_DRIVER") == before


def test_after_the_end_there_is_no_device() -> None:
    with simulated_cuda() as sim:
        sim.stream()
    assert sim.driver.status("cuInit", 0) == 100


@pytest.mark.parametrize("devices", [-1, 17])
def test_more_devices_than_there_can_be_are_refused(devices: int) -> None:
    with pytest.raises(ValueError, match="devices must be from 0 to 16"), simulated_cuda(devices):
        pass


def test_array_of_an_unknown_dtype_or_a_negative_extent_is_refused(sim: Simulation) -> None:
    with pytest.raises(ValueError, match=r"dtype must be one of .*float32"):
        sim.array(4, "floot32")
    with pytest.raises(ValueError, match="negative extent"):
        sim.array((2, -1))


def test_unknown_policy_is_refused() -> None:
    with (
        pytest.raises(ValueError, match="lazy, eager, random, exhaustive"),
        simulated_cuda(policy="fifo"),
    ):
        pass


def test_process_with_a_real_driver_is_refused(child: Callable[..., Any], tmp_path: Any) -> None:
    import shutil
    import subprocess

    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make a stand-in for the real driver")
    source = tmp_path / "real.c"
    source.write_text("int cuInit(unsigned flags) { return (int)flags; }\n")
    real = tmp_path / "libcuda.so.1"
    command = [compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", real, source]
    subprocess.run(command, check=True)
    done = child(
        f"""
        import ctypes
        ctypes.CDLL({str(real)!r})
        from dlexchange.testing import simulated_cuda
        try:
            with simulated_cuda():
                print("entered")
        except RuntimeError as error:
            print("refused:", error)
        """
    )
    assert done.returncode == 0
    assert "refused: a real CUDA driver is loaded" in done.output


@pytest.mark.parametrize("how", ["LD_PRELOAD", "LD_LIBRARY_PATH"])
def test_library_serves_clients_that_know_nothing_of_it(
    child: Callable[..., Any], how: str
) -> None:
    path = library_path()
    value = str(path if how == "LD_PRELOAD" else path.parent)
    done = child(
        """
        import ctypes
        cuda = ctypes.CDLL("libcuda.so.1")
        count = ctypes.c_int()
        name = ctypes.create_string_buffer(64)
        assert cuda.cuInit(0) == 0
        assert cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
        assert cuda.cuDeviceGetName(name, 64, 0) == 0
        print(count.value, name.value.decode())
        """,
        **{how: value, "SIMCUDA_DEVICES": "3"},
    )
    assert done.output.strip() == "3 Simulated CUDA device 0"


def test_every_exported_symbol_is_the_apis_or_a_control(sim: Simulation) -> None:
    import shutil
    import subprocess

    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm to list symbols with")
    listing = subprocess.run(
        [nm, "-D", "--defined-only", library_path()], check=True, capture_output=True, text=True
    ).stdout
    names = [line.split()[-1] for line in listing.splitlines()]
    assert len(names) > 500
    assert [n for n in names if not n.startswith(("cu", "simcuda_"))] == []


# --- cuGetProcAddress ---


def find(sim: Simulation, name: str, version: int, flags: int = 0) -> tuple[int, int]:
    out, result = c_void_p(), c_int32(9)
    sim.driver(
        "cuGetProcAddress_v2",
        name.encode(),
        ctypes.byref(out),
        version,
        flags,
        ctypes.byref(result),
    )
    return out.value or 0, result.value


def address(sim: Simulation, symbol: str) -> int:
    return ctypes.cast(getattr(sim.library, symbol), c_void_p).value or 0


@pytest.mark.parametrize(
    ("name", "version", "symbol"),
    [
        ("cuMemAlloc", 12000, "cuMemAlloc_v2"),
        ("cuMemAlloc", 3010, "cuMemAlloc"),
        ("cuStreamWaitEvent", 3020, "cuStreamWaitEvent"),
        ("cuStreamGetCaptureInfo", 10010, "cuStreamGetCaptureInfo"),
        ("cuStreamGetCaptureInfo", 12000, "cuStreamGetCaptureInfo_v2"),
        ("cuStreamGetCaptureInfo", 12030, "cuStreamGetCaptureInfo_v3"),
        ("cuLaunchHostFunc", 13010, "cuLaunchHostFunc"),
        ("cuLaunchHostFunc", 13020, "cuLaunchHostFunc_v2"),
        ("cuGraphInstantiate", 12000, "cuGraphInstantiateWithFlags"),
        ("cuStreamDestroy", 99999, "cuStreamDestroy_v2"),
    ],
)
def test_lookup_gives_the_newest_signature_not_newer_than_asked(
    sim: Simulation, name: str, version: int, symbol: str
) -> None:
    assert find(sim, name, version) == (address(sim, symbol), 0)


def test_lookup_tells_unknown_names_from_old_versions(sim: Simulation) -> None:
    assert find(sim, "cuNoSuchThing", 13000) == (0, 1)
    assert find(sim, "cuStreamWaitEvent", 3000) == (0, 2)


def test_lookup_with_per_thread_flag_gives_the_variant_where_there_is_one(
    sim: Simulation,
) -> None:
    assert find(sim, "cuEventRecord", 12000, 2)[0] == address(sim, "cuEventRecord_ptsz")
    assert find(sim, "cuMemcpyHtoD", 12000, 2)[0] == address(sim, "cuMemcpyHtoD_v2_ptds")
    assert find(sim, "cuEventCreate", 12000, 2)[0] == address(sim, "cuEventCreate")
    assert find(sim, "cuEventRecord", 12000, 1)[0] == address(sim, "cuEventRecord")


def test_per_thread_variant_takes_stream_zero_as_the_threads_own(sim: Simulation) -> None:
    sim.set_device()
    event = sim.event()
    sim.driver("cuStreamSynchronize", 2)
    legacy, own = sim.legacy().submitted, sim.per_thread().submitted
    sim.driver("cuEventRecord_ptsz", event.handle, 0)
    assert (sim.legacy().submitted - legacy, sim.per_thread().submitted - own) == (0, 1)
    sim.driver("cuEventRecord", event.handle, 0)
    assert (sim.legacy().submitted - legacy, sim.per_thread().submitted - own) == (1, 1)
    out = c_uint64()
    sim.driver("cuMemAllocAsync_ptsz", ctypes.byref(out), 64, 0)
    sim.driver("cuMemsetD8_v2_ptds", out.value, 1, 64)
    assert (sim.legacy().submitted - legacy, sim.per_thread().submitted - own) == (1, 3)


def test_errors_have_names_and_texts(sim: Simulation) -> None:
    text = ctypes.c_char_p()
    sim.driver("cuGetErrorName", 906, ctypes.byref(text))
    assert text.value == b"CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"
    sim.driver("cuGetErrorString", 700, ctypes.byref(text))
    assert text.value == b"an illegal memory access was encountered"
    assert sim.driver.status("cuGetErrorName", 12345, ctypes.byref(text)) == 1


# --- cost ---


def test_cost_of_an_operation_does_not_grow_with_the_history(sim: Simulation) -> None:
    import itertools

    p, c, event = sim.stream(), sim.stream(), sim.event()
    array = sim.array(256, stream=p, fill=1)
    sim.set_device()
    call = sim.driver.status
    effort: list[int] = []
    for _ in range(5):
        before = sim.effort
        for _ in itertools.repeat(None, 4_000):  # five operations each: 10^5 in all
            call("cuMemsetD8Async", array.data_ptr, 1, 64, p.handle)
            call("cuEventRecord", event.handle, p.handle)
            call("cuStreamWaitEvent", c.handle, event.handle, 0)
            call("cuMemsetD8Async", array.data_ptr, 2, 32, c.handle)
            call("cuEventRecord", event.handle, c.handle)
            call("cuStreamWaitEvent", p.handle, event.handle, 0)
        effort.append(sim.effort - before)
    assert effort[-1] <= effort[1] * 1.02
    assert sim.peak["op"] < 5_000
    assert sim.findings == []


def test_streams_and_events_and_memory_come_and_go_without_a_trace() -> None:
    with simulated_cuda(window=64) as sim:
        effort: list[int] = []
        for _ in range(10):
            before = sim.effort
            for _ in range(300):
                p = sim.stream()
                array = sim.array(64, stream=p, fill=1)
                p.record()
                del array
            effort.append(sim.effort - before)
        # Components of clocks are used in turn, so it goes up and down a little.
        assert effort[-1] <= effort[1] * 1.3
        assert sim.live["stream"] <= 1
        assert sim.live["event"] == sim.live["block"] == 0
        assert sim.peak["op"] < 150


def test_two_threads_may_ask_while_a_third_waits(sim: Simulation) -> None:
    p = sim.stream()
    latch = sim.latch(p)
    thread = threading.Thread(target=p.synchronize)
    thread.start()
    other = sim.array(4, stream=sim.stream(), fill=3)
    assert other.tolist(stream=other.stream) == [3] * 4
    latch.open()
    thread.join(30)
    assert not thread.is_alive()
