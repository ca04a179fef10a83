"""HIP's names for the simulated driver: the same engine, other streams, no contexts."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from ctypes import c_int32, c_uint32, c_uint64, c_void_p
from typing import Any

import pytest

from dlexchange.testing import Simulation, simulated_hip
from dlexchange.testing import dlpack_structs as dl
from dlexchange.testing.driver import load_hip

INVALID_DEVICE, INVALID_HANDLE, NOT_SUPPORTED, CAPTURE_IMPLICIT = 101, 400, 801, 906


class Hip:
    """Calls HIP by name and returns the status; integers are passed as 64 bits."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._library, f"hip{name}")

        def call(*arguments: Any) -> int:
            return int(function(*(c_uint64(a) if isinstance(a, int) else a for a in arguments)))

        return call


@pytest.fixture
def sim() -> Iterator[Simulation]:
    with simulated_hip(devices=2) as sim:
        yield sim


@pytest.fixture
def hip(sim: Simulation) -> Hip:
    return Hip(load_hip())


def out(kind: Any = c_void_p) -> tuple[Any, Any]:
    value = kind()
    return value, ctypes.byref(value)


def test_library_is_found_by_name(sim: Simulation) -> None:
    load_hip()
    found = ctypes.CDLL("libamdhip64.so.7")
    count = c_int32()
    assert found.hipGetDeviceCount(ctypes.byref(count)) == 0
    assert count.value == 2


def test_events_order_two_streams(sim: Simulation, hip: Hip) -> None:
    (p, at_p), (c, at_c), (event, at_event), (memory, at_memory) = out(), out(), out(), out()
    assert hip.StreamCreateWithFlags(at_p, 1) == hip.StreamCreateWithFlags(at_c, 1) == 0
    assert hip.EventCreateWithFlags(at_event, 0x80000002) == 0
    assert hip.MallocAsync(at_memory, 64, p) == 0
    host = (c_uint32 * 16)()
    for edge, expected in ((False, "race"), (True, None)):
        sim.clear_findings()
        assert hip.MemsetD32Async(memory, 7 + edge, 16, p) == 0
        if edge:
            assert hip.EventRecord(event, p) == hip.StreamWaitEvent(c, event, 0) == 0
        assert hip.MemcpyDtoHAsync(host, memory, 64, c) == 0
        assert [f.kind for f in sim.findings] == ([expected] if expected else [])
        assert (host[3] == 8) is edge
        assert hip.DeviceSynchronize() == 0
    assert hip.EventDestroy(event) == hip.FreeAsync(memory, p) == hip.StreamDestroy(p) == 0


def test_stream_zero_is_the_default_stream_and_one_and_two_are_none(
    sim: Simulation, hip: Hip
) -> None:
    event, at_event = out()
    assert hip.EventCreate(at_event) == 0
    before = sim.legacy().submitted
    assert hip.EventRecord(event, 0) == 0
    assert sim.legacy().submitted == before + 1
    for number in (1, 2):
        assert hip.EventRecord(event, number) == INVALID_HANDLE
        assert hip.StreamQuery(number) == INVALID_HANDLE


def test_current_device_is_per_thread_and_starts_at_zero(sim: Simulation, hip: Hip) -> None:
    device, at_device = out(c_int32)
    assert hip.SetDevice(1) == 0
    assert hip.SetDevice(2) == INVALID_DEVICE
    assert hip.GetDevice(at_device) == 0
    assert device.value == 1
    stream, at_stream = out()
    assert hip.StreamCreate(at_stream) == 0
    assert hip.StreamGetDevice(stream, at_device) == 0
    assert device.value == 1
    seen: list[int] = []

    def ask() -> None:
        value, at_value = out(c_int32)
        hip.GetDevice(at_value)
        seen.append(value.value)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert seen == [0]
    assert hip.SetDevice(0) == 0


def test_capture_is_told_as_on_cuda(sim: Simulation, hip: Hip) -> None:
    p, at_p = out()
    status, at_status = out(c_uint32)
    ident, at_id = out(c_uint64)
    graph, at_graph = out()
    assert hip.StreamCreate(at_p) == 0
    assert hip.StreamBeginCapture(p, 2) == 0
    assert hip.StreamIsCapturing(p, at_status) == 0
    assert status.value == 1
    assert hip.StreamGetCaptureInfo_v2(p, at_status, at_id, None, None, None) == 0
    assert (status.value, ident.value > 0) == (1, True)
    assert hip.StreamIsCapturing(0, at_status) == CAPTURE_IMPLICIT
    assert hip.StreamEndCapture(p, at_graph) == 0
    assert hip.GraphDestroy(graph) == 0


def test_masked_wait_is_not_simulated_and_says_so(sim: Simulation, hip: Hip) -> None:
    word, at_word = out()
    assert hip.HostMalloc(at_word, 8, 0) == 0
    c_uint32.from_address(word.value).value = 0
    full, half = c_uint32(0xFFFFFFFF), c_uint32(0xFFFF)
    assert hip.StreamWaitValue32(0, word, c_uint32(0), 0, half) == NOT_SUPPORTED
    assert hip.StreamWaitValue32(0, word, c_uint32(0), 0, full) == 0
    assert hip.StreamSynchronize(0) == 0


def test_library_outlives_a_simulation(hip: Hip, sim: Simulation) -> None:
    stream, at_stream = out()
    assert hip.StreamCreate(at_stream) == 0
    sim._end()
    assert hip.StreamQuery(stream) != 0
    sim._begin()
    assert hip.StreamCreate(at_stream) == 0
    assert hip.StreamQuery(stream) == 0


def test_arrays_say_they_are_on_rocm_and_take_its_stream_numbers(sim: Simulation) -> None:
    array: Any = sim.array(16, stream=sim.stream(), speaks="dlpack", fill=7)
    assert array.__dlpack_device__() == (dl.ROCM, 0)
    legacy = sim.legacy().submitted
    array.__dlpack__(stream=0)
    array.__dlpack__()
    assert sim.legacy().submitted == legacy + 2
    for number in (1, 2):
        with pytest.raises(ValueError, match="no stream of ROCm"):
            array.__dlpack__(stream=number)
    consumer = sim.framework("dlpack", name="consumer")
    assert consumer.from_dlpack(array).tolist() == [7] * 16
    with pytest.raises(ValueError, match="CUDA Array Interface"):
        sim.array(4, speaks="cai")
