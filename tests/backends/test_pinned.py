"""Pinned and managed memory, on the simulated driver: who waits for what, and on which side."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import dlexchange as dx
from dlexchange.testing import SimLatch, Simulation, drain, simulated_cuda, simulated_hip

KINDS = {
    "pinned": dx.DeviceType.CUDA_HOST,
    "managed": dx.DeviceType.CUDA_MANAGED,
    "rocm_pinned": dx.DeviceType.ROCM_HOST,
}
N = 16


class Shared(dx.Producer):
    """Memory that host and device can read, written by a stream."""

    def __init__(self, sim: Simulation, kind: str, stream: Any) -> None:
        self.sim, self.stream, self.device = sim, stream, (int(KINDS[kind]), 0)
        self.address = ctypes.c_uint64()
        with sim.on_device(0):
            if kind == "managed":
                sim.driver("cuMemAllocManaged", ctypes.byref(self.address), N, 1)
            else:
                sim.driver("cuMemHostAlloc", ctypes.byref(self.address), N, 0)
        self.write(1)
        stream.synchronize()

    def write(self, value: int) -> None:
        with self.sim.on_device(0):
            self.sim.driver("cuMemsetD8Async", self.address, value, N, self.stream.handle)

    def __dlexchange__(self) -> dx.Description:
        number = self.sim.number_of(self.stream)
        named = dx.Stream.from_handle(
            ("rocm" if self.sim.is_hip else "cuda") + ":0", number, self.stream
        )
        return dx.Description(self.address.value, (N,), "uint8", device=self.device, stream=named)


@pytest.fixture(params=KINDS)
def shared(request: pytest.FixtureRequest) -> Iterator[tuple[Simulation, Shared]]:
    simulation = simulated_hip if request.param.startswith("rocm") else simulated_cuda
    with simulation() as sim:
        memory = Shared(sim, request.param, sim.stream())
        yield sim, memory
        gc.collect()
        drain()
        assert [str(f) for f in sim.findings] == []
        assert dx.stats().events_in_use == 0


def held(sim: Simulation, x: Shared) -> SimLatch:
    """Hold the stream, and queue a write of sevens behind."""
    latch = sim.latch(x.stream)
    x.write(7)
    return latch


def opened_soon(latch: SimLatch) -> threading.Thread:
    thread = threading.Thread(target=latch.open)
    thread.start()
    return thread


@pytest.mark.parametrize("to", ["numpy", "torch", "jax", "array_api_strict"])
@pytest.mark.parametrize("through", ["array", "tensor"])
def test_host_consumer_waits_for_the_producers_event(
    shared: tuple[Simulation, Shared], to: str, through: str
) -> None:
    pytest.importorskip(to, reason=f"absent: {to} is not installed")
    sim, x = shared
    latch = held(sim, x)
    given = dx.from_dlpack(x) if through == "tensor" else x
    other = sim.latch(later := sim.stream())  # work that is none of ours
    waits, copies = dx.stats().host_waits, dx.stats().copies
    thread = opened_soon(latch)
    y = dx.convert(given, to)
    thread.join()
    assert [int(v) for v in y] == [7] * N
    assert (dx.stats().host_waits, dx.stats().copies) == (waits + 1, copies)
    assert not later.query()
    other.open()
    del y, given


def test_host_consumer_waits_for_nothing_queued_later(shared: tuple[Simulation, Shared]) -> None:
    sim, x = shared
    x.write(7)
    with dx.from_dlpack(x) as t:
        latch = sim.latch(x.stream)  # behind the ready event
        y = dx.to_numpy(t)
        assert not latch.is_open
        assert y.tolist() == [7] * N
        latch.open()
        del y


def test_none_means_that_the_host_may_read_at_once(shared: tuple[Simulation, Shared]) -> None:
    sim, x = shared
    latch = held(sim, x)
    with dx.from_dlpack(x) as t:
        waits = dx.stats().host_waits
        thread = opened_soon(latch)
        capsule = t.__dlpack__(max_version=(1, 3))
        thread.join()
        assert dx.stats().host_waits == waits + 1
        assert ctypes.string_at(x.address.value, N) == b"\7" * N
        del capsule


def test_device_consumer_does_not_wait_on_the_host(shared: tuple[Simulation, Shared]) -> None:
    sim, x = shared
    latch = held(sim, x)
    c = sim.stream()
    waits = dx.stats().host_waits
    with dx.from_dlpack(x) as t:
        capsule = t.__dlpack__(stream=c.handle, max_version=(1, 3))
        assert not c.query()  # it waits behind the latch
        assert dx.stats().host_waits == waits
        del capsule
        latch.open()
        c.synchronize()


def test_memory_a_device_has_used_is_parked_never_an_edge(
    shared: tuple[Simulation, Shared],
) -> None:
    sim, x = shared
    c = sim.stream()
    t = dx.from_dlpack(x)
    latch = sim.latch(c)
    edges = dx.stats().edges
    t.record_stream(c)
    t.close()
    assert (dx.stats().parked, dx.stats().edges) == (1, edges)
    latch.open()
    drain()
    assert dx.stats().parked == 0
