"""SYCL alone: a real long computation of dpnp, the way to and from the host, memory."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import dpctl
import dpnp
import numpy as np
import pytest

import dlexchange as dx
from dlexchange.conformance.sycl import Sycl
from dlexchange.testing import drain

KINDS = ("in_order", "out_of_order")
PAIRS = [(p, c) for p in KINDS for c in KINDS]
SIZE = 1 << 20
LONG = 0.05  # seconds that the producer's work takes at least


def queue(kind: str) -> Any:
    return dpctl.SyclQueue(property="in_order" if kind == "in_order" else 0)


@pytest.fixture(scope="module")
def rounds() -> int:
    """How many sines make at least 50 ms here."""
    q = queue("in_order")
    x = dpnp.full(SIZE, 1.0, dtype="float32", sycl_queue=q)
    dpnp.sin(x, out=x)  # compiles
    q.wait()
    n = 1
    while True:
        begin = time.perf_counter()
        for _ in range(n):
            dpnp.sin(x, out=x)
        q.wait()
        if time.perf_counter() - begin > 2 * LONG:
            return n
        n *= 2


def begin(q: Any, rounds: int) -> Any:
    """Queue a long computation that ends in sevens; return the array."""
    x = dpnp.full(SIZE, 1.0, dtype="float32", sycl_queue=q)
    q.wait()
    for _ in range(rounds):
        dpnp.sin(x, out=x)
    x.fill(7)
    return x


def right(y: Any) -> bool:
    return bool((dpnp.asnumpy(y) == 7).all())


def in_thread(function: Callable[[], Any]) -> Any:
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join()
    return result[0]


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("run", [lambda f: f(), in_thread], ids=["one_thread", "two_threads"])
def test_hand_off_returns_while_the_producer_computes(
    rounds: int, pair: tuple[str, str], run: Any
) -> None:
    p, c = queue(pair[0]), queue(pair[1])
    waits = dx.stats().host_waits
    returned_early = 0
    for _ in range(5):
        x = begin(p, rounds)
        t = dx.from_dlpack(x)
        y = run(lambda t=t: dx.convert(t, "dpnp", stream=c))
        assert t.ready_event is not None
        returned_early += not t.ready_event.query()
        assert y.sycl_queue == c
        assert right(y)
        t.close()
    assert returned_early > 0
    assert dx.stats().host_waits == waits


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_without_the_push_it_is_wrong_at_least_once_in_100(
    rounds: int, pair: tuple[str, str]
) -> None:
    p, c = queue(pair[0]), queue(pair[1])
    for _ in range(100):
        x = begin(p, rounds)
        with dx.from_dlpack(x, stream=-1) as t:  # the caller vouches, wrongly
            wrong = not right(dx.convert(t, "dpnp", stream=c))
        p.wait()
        if wrong:
            return
    pytest.fail("100 unordered hand-offs were all right")


WORK: dict[str, Callable[[Any], Any]] = {
    "kernel": lambda y: y + 0,
    "memcpy": lambda y: y.copy(),
    "cast": lambda y: y.astype("int32"),
    "view": lambda y: y[::-1],
}


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("work", WORK)
def test_kernels_and_copies_of_dpnp_come_behind(
    rounds: int, work: str, pair: tuple[str, str]
) -> None:
    x = begin(queue(pair[0]), rounds)
    with dx.from_dlpack(x) as t:
        assert right(WORK[work](dx.convert(t, "dpnp", stream=queue(pair[1]))))


@pytest.mark.parametrize("usm_type", ["shared", "host"])
@pytest.mark.parametrize("to", ["numpy", "torch"])
def test_host_reads_what_is_complete(rounds: int, usm_type: str, to: str) -> None:
    pytest.importorskip(to, reason=f"absent: {to} is not installed")
    p = queue("out_of_order")
    x = dpnp.full(SIZE, 1.0, dtype="float32", sycl_queue=p, usm_type=usm_type)
    p.wait()
    for _ in range(rounds):
        dpnp.sin(x, out=x)
    x.fill(7)
    waits, copies = dx.stats().host_waits, dx.stats().copies
    y = dx.convert(x, to)
    assert (np.asarray(y) == 7).all()
    assert (dx.stats().host_waits, dx.stats().copies) == (waits + 1, copies)
    assert np.asarray(y).ctypes.data == x.get_array()._pointer
    del x
    gc.collect()
    assert (np.asarray(y) == 7).all()


@pytest.mark.parametrize("to", ["numpy", "torch"])
def test_device_memory_comes_to_the_host_by_an_ordered_copy(rounds: int, to: str) -> None:
    pytest.importorskip(to, reason=f"absent: {to} is not installed")
    x = begin(queue("out_of_order"), rounds)
    with pytest.raises(dx.CopyError, match="copy=True"):
        dx.convert(x, to)
    waits = dx.stats().host_waits
    assert (np.asarray(dx.convert(x, to, copy=True)) == 7).all()
    assert dx.stats().host_waits == waits + 1
    x = begin(queue("out_of_order"), rounds)
    assert (np.asarray(dx.convert(x, to, device="cpu")) == 7).all()


def test_awaits_and_copies_do_not_block_the_loop(rounds: int) -> None:
    async def main() -> tuple[Any, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.ensure_future(tick())
        await dx.ready(begin(p, rounds))
        values = await dx.host({"a": [begin(p, rounds)]})
        ticking.cancel()
        return values, ticks

    p = queue("in_order")
    waits = dx.stats().host_waits
    values, ticks = asyncio.run(main())
    assert (values["a"][0] == 7).all()
    assert ticks > 10
    assert dx.stats().host_waits == waits
    drain()


def test_views_keep_their_layout_on_the_other_queue() -> None:
    p, c = queue("out_of_order"), queue("out_of_order")
    base = dpnp.arange(24, dtype="int32", sycl_queue=p).reshape(4, 6)
    seen = 0
    for x in (base, base[::-1, 1:], base.T, base[1:3, ::2], base[2, 3], base[1:1]):
        y = dx.convert(x, "dpnp", stream=c)
        assert (y.sycl_queue == c) or x.size == 0
        assert (y.shape, dpnp.asnumpy(y).tolist()) == (x.shape, dpnp.asnumpy(x).tolist())
        if x.size:
            assert y.strides == x.strides
            assert dx.from_dlpack(y).data_ptr == dx.from_dlpack(x).data_ptr
        seen += 1
    assert seen == 6


def test_memory_of_another_context_is_not_read() -> None:
    memory = Sycl().foreign_memory(64)
    said = dx.Description(memory.address, (4,), "int32", device=(14, 0), stream=-1)
    with dx.from_dlpack(dx.wrap(memory, lambda _: said)) as t:
        for copy in (None, True):
            with pytest.raises(dx.StreamError, match="not of the default context"):
                dx.to_numpy(t, copy=copy)


def test_host_memory_goes_over_by_a_copy() -> None:
    x = np.arange(6, dtype=np.float32)
    y = dx.convert(x, "dpnp", copy=True)
    x[:] = 0
    assert dpnp.asnumpy(y).tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(dx.CopyError, match="copy=True"):
        dx.convert(x, "dpnp")


def test_current_stream_of_dpnp_is_its_default_queue() -> None:
    q = queue("in_order")
    default = dpctl.get_device_cached_queue(dpctl.SyclDevice("0"))
    for to in ("dpnp", dpnp, dpnp.ndarray):
        assert dx.backends.native(dx.current_stream(to)) == default
    assert dx.backends.native(dx.current_stream(dpnp.zeros(3, sycl_queue=q))) == q


def test_further_queues_are_recorded_behind_a_native_array() -> None:
    p, c, further = (queue("in_order") for _ in range(3))
    x = dpnp.full(4, 1, dtype="int32", sycl_queue=p)
    y = dx.convert(x, "dpnp", stream=c)
    dx.record_stream(y, further)
    with pytest.raises(dx.ExchangeError, match="not in device memory that came through"):
        dx.record_stream(dpnp.zeros(3, sycl_queue=p), further)
    del y
    drain()


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_hand_offs_leave_memory_flat(kind: str) -> None:
    p, c = queue(kind), queue(kind)
    x = dpnp.full(1 << 12, 1.0, dtype="float32", sycl_queue=p)

    def some(n: int) -> int:
        for i in range(n):
            dx.convert(x, "dpnp", stream=c)
            if i % 100 == 0:
                drain()
        p.wait()
        c.wait()
        drain()
        gc.collect()
        return resident()

    before = some(2000)
    grown = some(10_000) - before
    stats = dx.stats()
    assert (stats.live, stats.events_in_use, stats.parked, stats.leaked) == (0, 0, 0, 0)
    assert grown < 4 << 20, f"{grown} bytes for 10^4 hand-offs"
