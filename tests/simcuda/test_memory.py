"""Simulated memory: who may touch it, what is in it, and what freeing means."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Callable
from ctypes import c_uint64, c_void_p
from typing import Any

import pytest

from dlexchange.testing import Simulation, simulated_cuda

INVALID_VALUE, OUT_OF_MEMORY = 1, 2


def alloc(sim: Simulation, nbytes: int = 64) -> int:
    out = c_uint64()
    sim.set_device()
    sim.driver("cuMemAlloc_v2", ctypes.byref(out), nbytes)
    return out.value


def pinned(sim: Simulation, nbytes: int = 64) -> int:
    out = c_void_p()
    sim.set_device()
    sim.driver("cuMemHostAlloc", ctypes.byref(out), nbytes, 0)
    return out.value or 0


def peek(sim: Simulation, address: int) -> int:
    return ctypes.c_uint8.from_address(sim.host_pointer(address)).value


def kinds(sim: Simulation) -> list[str]:
    return [finding.kind for finding in sim.findings]


def test_fresh_memory_is_full_of_cb_and_freed_memory_of_dd(sim: Simulation) -> None:
    address = alloc(sim)
    assert peek(sim, address) == 0xCB
    sim.driver("cuMemFree_v2", address)
    assert peek(sim, address) == 0xDD


@pytest.mark.parametrize("how", ["read", "write"])
def test_host_dereference_of_device_memory_is_a_segmentation_fault(
    child: Callable[..., Any], how: str
) -> None:
    access = "word.value" if how == "read" else "word.value = 1"
    done = child(
        f"""
        import ctypes
        from dlexchange.testing import simulated_cuda
        with simulated_cuda() as sim:
            array = sim.array(16, stream=sim.stream(), fill=1)
            sim.run()
            word = ctypes.c_int.from_address(array.data_ptr)
            print("before", flush=True)
            {access}
            print("after", flush=True)
        """
    )
    assert done.returncode == -signal.SIGSEGV, done
    assert "before" in done.output
    assert "after" not in done.output


def test_freed_addresses_are_not_given_out_again(sim: Simulation) -> None:
    seen = set()
    for _ in range(100):
        address = alloc(sim)
        assert address not in seen
        seen.add(address)
        sim.driver("cuMemFree_v2", address)


def test_quarantine_is_bounded(sim: Simulation) -> None:
    addresses = set()
    for _ in range(300):
        address = alloc(sim, 1 << 20)
        addresses.add(address)
        sim.driver("cuMemFree_v2", address)
    assert 32 < len(addresses) < 100


def test_reuse_gives_a_freed_address_back_at_once_where_the_order_allows() -> None:
    with simulated_cuda(reuse=True) as sim:
        p, c = sim.stream(), sim.stream()
        array = sim.array(16, stream=p, fill=1)
        address = array.data_ptr
        del array
        unordered = sim.array(16, stream=c)
        assert unordered.data_ptr != address
        again = sim.array(16, stream=p, fill=2)
        assert again.data_ptr == address
        assert again.tolist(stream=p)[0] == 2
        assert sim.findings == []


def test_stream_ordered_free_before_an_unordered_reader_shows_dd_and_a_race(
    sim: Simulation,
) -> None:
    p, c = sim.stream(), sim.stream()
    array = sim.array(16, "uint8", stream=p, fill=1)
    p.synchronize()
    out = sim.array(16, "uint8", stream=c)
    sim.set_device()
    sim.driver("cuMemcpyDtoDAsync_v2", out.data_ptr, array.data_ptr, 16, c.handle)
    address = array.data_ptr
    array._release = None
    sim.driver("cuMemFreeAsync", address, p.handle)
    assert out.tolist(stream=c)[0] == 0xDD
    assert kinds(sim) == ["race"]
    assert "cuMemFreeAsync" in sim.findings[0].second


def test_free_with_return_edge_is_clean_under_every_policy(any_sim: Simulation) -> None:
    p, c = any_sim.stream(), any_sim.stream()
    array = any_sim.array(16, "uint8", stream=p, fill=1)
    c.wait(p)
    copy = array.copy(stream=c)
    p.wait(c)
    del array
    assert copy.tolist(stream=c)[0] == 1
    assert any_sim.findings == []


def test_use_before_a_stream_ordered_allocation_is_a_race(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    array = sim.array(16, stream=p)
    array.fill(1, stream=c)
    assert "race" in kinds(sim)
    assert "cuMemAllocAsync" in sim.findings[0].first


def test_use_after_free_is_refused_and_names_the_free(sim: Simulation) -> None:
    address = alloc(sim)
    with sim.label("the free"):
        sim.driver("cuMemFree_v2", address)
    stream = sim.stream()
    assert sim.driver.status("cuMemsetD8Async", address, 0, 64, stream.handle) == INVALID_VALUE
    assert kinds(sim) == ["use-after-free"]
    assert sim.findings[0].first == "cuMemFree at the free"


def test_double_free_is_found(sim: Simulation) -> None:
    address = alloc(sim)
    sim.driver("cuMemFree_v2", address)
    assert sim.driver.status("cuMemFree_v2", address) == INVALID_VALUE
    assert kinds(sim) == ["double-free"]


def test_overrun_is_found(sim: Simulation) -> None:
    address = alloc(sim, 64)
    stream = sim.stream()
    assert sim.driver.status("cuMemsetD8Async", address, 0, 64, stream.handle) == 0
    assert sim.driver.status("cuMemsetD8Async", address + 1, 0, 64, stream.handle) == 1
    assert kinds(sim) == ["out-of-bounds"]


def test_wild_pointer_is_found(sim: Simulation) -> None:
    alloc(sim)
    stream = sim.stream()
    assert sim.driver.status("cuMemsetD8Async", 0x1234, 0, 4, stream.handle) == INVALID_VALUE
    assert kinds(sim) == ["wild-pointer"]


def test_free_of_an_inner_pointer_is_refused(sim: Simulation) -> None:
    address = alloc(sim)
    assert sim.driver.status("cuMemFree_v2", address + 16) == INVALID_VALUE
    assert kinds(sim) == ["wild-pointer"]


def test_free_with_pending_work_waits_and_is_found(sim: Simulation) -> None:
    p = sim.stream()
    address, host = alloc(sim), pinned(sim)
    sim.driver("cuMemsetD8Async", address, 7, 64, p.handle)
    sim.driver("cuMemcpyDtoHAsync_v2", host, address, 64, p.handle)
    sim.driver("cuMemFree_v2", address)
    assert peek(sim, host) == 7
    assert kinds(sim) == ["free-with-pending-work"]


def test_free_after_the_host_has_waited_is_clean(sim: Simulation) -> None:
    p = sim.stream()
    address = alloc(sim)
    sim.driver("cuMemsetD8Async", address, 7, 64, p.handle)
    p.synchronize()
    sim.driver("cuMemFree_v2", address)
    assert sim.findings == []


def test_device_memory_runs_out() -> None:
    with simulated_cuda(device_memory=1 << 20) as sim:
        out = c_uint64()
        sim.set_device()
        assert sim.driver.status("cuMemAlloc_v2", ctypes.byref(out), 2 << 20) == OUT_OF_MEMORY
        assert sim.driver.status("cuMemAlloc_v2", ctypes.byref(out), 1 << 20) == 0
        assert sim.driver.status("cuMemAlloc_v2", ctypes.byref(out), 1) == OUT_OF_MEMORY


def test_pinned_memory_is_the_hosts_and_the_devices(sim: Simulation) -> None:
    host = pinned(sim)
    ctypes.memset(host, 5, 64)
    device = c_uint64()
    sim.driver("cuMemHostGetDevicePointer_v2", ctypes.byref(device), host, 0)
    assert device.value == host
    address = alloc(sim)
    p = sim.stream()
    sim.driver("cuMemcpyAsync", address, host, 64, p.handle)
    p.synchronize()
    assert peek(sim, address) == 5
    sim.driver("cuMemFreeHost", host)
    assert sim.findings == []


def test_registered_memory_is_tracked_until_unregistered(sim: Simulation) -> None:
    buffer = (ctypes.c_uint8 * 4096)()
    at = ctypes.addressof(buffer)
    p = sim.stream()
    sim.set_device()
    sim.driver("cuMemHostRegister_v2", at, 4096, 0)
    assert sim.driver.status("cuMemHostRegister_v2", at, 4096, 0) == 712
    sim.driver("cuMemsetD8Async", at, 3, 4096, p.handle)
    assert buffer[0] == 0
    p.synchronize()
    assert buffer[0] == 3
    sim.driver("cuMemHostUnregister", at)
    assert sim.driver.status("cuMemHostUnregister", at) == 713
    assert sim.findings == []


@pytest.mark.parametrize(
    ("make", "memory_type", "is_managed"),
    [("device", 2, 0), ("pinned", 1, 0), ("managed", 2, 1), ("unknown", 0, 0)],
)
def test_pointer_attributes_tell_kinds_of_memory_apart(
    sim: Simulation, make: str, memory_type: int, is_managed: int
) -> None:
    managed = c_uint64()
    alloc(sim)
    sim.driver("cuMemAllocManaged", ctypes.byref(managed), 64, 1)
    plain = (ctypes.c_uint8 * 64)()
    address = {
        "device": lambda: alloc(sim),
        "pinned": lambda: pinned(sim),
        "managed": lambda: managed.value,
        "unknown": lambda: ctypes.addressof(plain),
    }[make]()
    values = (ctypes.c_uint32(9), ctypes.c_uint8(9), ctypes.c_int32(9))
    attributes = (ctypes.c_int32 * 3)(2, 8, 9)
    outputs = (c_void_p * 3)(*(ctypes.addressof(v) for v in values))
    sim.driver("cuPointerGetAttributes", 3, attributes, outputs, address)
    assert (values[0].value, values[1].value) == (memory_type, is_managed)
    assert values[2].value == (-2 if make == "unknown" else 0)


def test_two_dimensional_copy_moves_rows_and_tracks_only_them(sim: Simulation) -> None:
    class Copy2D(ctypes.Structure):
        _fields_ = [
            (f"{side}_{name}", c_uint64)
            for side in ("src", "dst")
            for name in ("x", "y", "type", "host", "device", "array", "pitch")
        ] + [("width", c_uint64), ("height", c_uint64)]

    p, c = sim.stream(), sim.stream()
    source, target = alloc(sim, 64), alloc(sim, 64)
    sim.driver("cuMemsetD8Async", source, 7, 64, p.handle)
    sim.driver("cuMemsetD8Async", target, 0, 64, p.handle)
    p.synchronize()
    copy = Copy2D(
        src_type=2,
        src_device=source,
        src_pitch=16,
        dst_type=2,
        dst_device=target,
        dst_pitch=16,
        width=4,
        height=4,
    )
    sim.driver("cuMemcpy2DAsync_v2", ctypes.byref(copy), p.handle)
    sim.driver("cuMemsetD2D8Async", target + 8, 16, 1, 4, 4, c.handle)
    assert sim.findings == []  # the fill lies in the gaps between the rows
    p.synchronize()
    c.synchronize()
    row = [peek(sim, target + 16 + i) for i in range(16)]
    assert row == [7] * 4 + [0] * 4 + [1] * 4 + [0] * 4


@pytest.mark.parametrize(("bits", "value"), [(8, 0x12), (16, 0x1234), (32, 0x12345678)])
def test_fill_writes_the_whole_element(sim: Simulation, bits: int, value: int) -> None:
    p = sim.stream()
    address = alloc(sim)
    sim.driver(f"cuMemsetD{bits}Async", address, value, 2, p.handle)
    p.synchronize()
    size = bits // 8
    raw = bytes(peek(sim, address + i) for i in range(2 * size + 1))
    assert raw == value.to_bytes(size, "little") * 2 + b"\xcb"


def test_pools_count_what_they_hold(sim: Simulation) -> None:
    pool, used = c_void_p(), c_uint64()
    sim.set_device()
    sim.driver("cuDeviceGetDefaultMemPool", ctypes.byref(pool), 0)

    def in_use() -> int:
        sim.driver("cuMemPoolGetAttribute", pool, 7, ctypes.byref(used))
        return used.value

    p = sim.stream()
    array = sim.array(256, stream=p)
    assert in_use() == 1024
    del array
    assert in_use() == 0
