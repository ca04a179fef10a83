"""Awaiting a device, on asyncio and on trio: nothing blocks, nothing hangs, nothing is lost."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import resource
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import dlexchange as dx
from dlexchange.ready import _HostCompletion
from dlexchange.testing import Simulation, drain

from .conftest import other, warm

anyio = pytest.importorskip("anyio")
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "trio"])


def run(loop: str, function: Callable[[], Any]) -> Any:
    async def limited() -> Any:
        with anyio.fail_after(60):  # a hang fails; nothing is timed
            return await function()

    result = anyio.run(limited, backend=loop)
    gc.collect()
    return result


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def owned(stream: Any) -> dx.Stream:
    return dx.Stream.from_handle("cuda:0", stream.handle, owner=stream)


@LOOPS
@pytest.mark.parametrize("what", ["tensor", "event", "stream", "array", "dlpack", "cai"])
def test_ready_completes_only_after_the_latch_opens(
    any_sim: Simulation, loop: str, what: str
) -> None:
    sim = any_sim
    p = sim.stream()
    speaks = what if what in ("dlpack", "cai") else "exchange_api"
    x = sim.framework(speaks).array(16, "int32", stream=p, fill=1)
    p.synchronize()
    latch = sim.latch(p)
    x.fill(7, stream=p)
    done: list[bool] = []

    async def main() -> None:
        with sim.framework(speaks).use_stream(p):
            subject = {
                "tensor": lambda: dx.from_dlpack(x),
                "event": lambda: owned(p).record(),
                "stream": lambda: owned(p),
            }.get(what, lambda: x)()
            ready = dx.ready(subject)

        async def wait() -> None:
            await ready
            done.append(latch.is_open)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            for _ in range(200):  # the loop runs on while the latch is closed
                await anyio.sleep(0)
            assert not done
            assert not ready.done()
            latch.open()
        assert ready.done()

    run(loop, main)
    assert done == [True]


@LOOPS
def test_event_loop_keeps_running_while_many_await_and_none_delays_another(
    sim: Simulation, loop: str
) -> None:
    streams = [sim.stream() for _ in range(20)]
    latches = [sim.latch(stream) for stream in streams]
    before = descriptors()
    finished: list[int] = []

    async def main() -> None:
        async def wait(i: int) -> None:
            await dx.ready(owned(streams[i]))
            finished.append(i)

        async with anyio.create_task_group() as group:
            for i in range(20):
                group.start_soon(wait, i)
            await anyio.sleep(0)
            for i in reversed(range(20)):
                assert i not in finished
                latches[i].open()
                while i not in finished:
                    await anyio.sleep(0.001)
                assert finished == list(reversed(range(i, 20)))

    run(loop, main)
    drain()
    gc.collect()
    assert descriptors() == before
    assert dx.stats().notifications == 0


@LOOPS
def test_one_ready_is_awaited_by_many_tasks(sim: Simulation, loop: str) -> None:
    p = sim.stream()
    latch = sim.latch(p)
    woken: list[int] = []

    async def main() -> None:
        ready = dx.ready(owned(p))

        async def wait(i: int) -> None:
            await ready
            woken.append(i)

        async with anyio.create_task_group() as group:
            for i in range(5):
                group.start_soon(wait, i)
            for _ in range(50):
                sim.run()  # whatever can, also callbacks
                await anyio.sleep(0)
            assert woken == []
            latch.open()

    run(loop, main)
    assert sorted(woken) == list(range(5))


@LOOPS
def test_cancelled_await_frees_nothing_early(sim: Simulation, loop: str) -> None:
    p = sim.stream()
    x = sim.array(16, "int32", stream=p, fill=1, speaks="dlpack")
    latch = sim.latch(p)
    x.fill(7, stream=p)
    before = descriptors()

    async def main() -> None:
        with anyio.move_on_after(0.01) as scope:
            await dx.ready(dx.from_dlpack(x))  # noqa: F821
        assert scope.cancelled_caught
        with anyio.move_on_after(0.01) as scope:
            await dx.host(x)  # noqa: F821
        assert scope.cancelled_caught

    run(loop, main)
    memory = sim.live["block"]
    del x
    gc.collect()
    assert sim.live["block"] == memory, "the copy in flight lost its source"
    assert dx.stats().notifications == 2
    latch.open()
    drain()
    gc.collect()
    assert sim.live["block"] < memory
    assert dx.stats().notifications == 0
    assert descriptors() == before
    assert dx._core._stats()["pinned_bytes"] == 0


@LOOPS
@pytest.mark.parametrize("what", ["ready", "host"])
def test_death_of_the_context_raises_instead_of_hanging(
    sim: Simulation, loop: str, what: str
) -> None:
    warm(sim)  # the reaper has a descriptor of its own
    p = sim.stream()
    t = dx.from_dlpack(sim.array(4, stream=p, fill=1), stream=p)
    latch = sim.latch(p)
    before = descriptors()

    async def main() -> None:
        ready = dx.ready(owned(p))

        async def wait() -> None:
            with pytest.raises(dx.DeviceLost):
                await (ready if what == "ready" else dx.host(t))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            for _ in range(5):
                await anyio.sleep(0)
            sim.kill_context()
        with pytest.raises(dx.DeviceLost):
            await ready
        with pytest.raises(dx.DeviceLost):
            ready.done()

    run(loop, main)
    latch.open()
    drain()
    assert dx.stats().notifications == 0
    assert descriptors() == before


@LOOPS
def test_death_is_noticed_where_the_driver_calls_nobody_back(sim: Simulation, loop: str) -> None:
    p = sim.stream()
    latch = sim.latch(p)

    async def main() -> None:
        sim.fail("cuStreamAddCallback", 1, 801)  # then a host function must do
        ready = dx.ready(owned(p))
        sim.kill_context()
        with anyio.fail_after(20), pytest.raises(dx.DeviceLost):
            await ready

    run(loop, main)
    latch.open()


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass
class Box:
    value: Any
    name: str


@LOOPS
def test_host_asks_for_the_current_stream_when_it_is_called(sim: Simulation, loop: str) -> None:
    p = sim.stream()
    framework = sim.framework("exchange_api")
    with framework.use_stream(p):
        x = framework.array(4, "int32", fill=7)
        copied = dx.host(x)

    async def wait() -> list[int]:
        values: list[int] = (await copied).tolist()
        return values

    assert run(loop, wait) == [7] * 4


@LOOPS
def test_host_copies_trees(any_sim: Simulation, loop: str) -> None:
    np = pytest.importorskip("numpy")
    sim = any_sim
    p = sim.stream()
    x = sim.array((2, 3), "int32", stream=p, fill=1)
    p.synchronize()
    latch = sim.latch(p)
    x.fill(7, stream=p)
    y = sim.array(4, "float64", stream=p, fill=2.5, speaks="dlpack")
    z = sim.array(3, "uint8", stream=p, fill=9, speaks="cai")
    t = dx.from_dlpack(x, stream=p)
    waits = dx.stats().host_waits
    results: list[Any] = []

    async def main() -> None:
        async def wait() -> None:
            results.append(await dx.host(tree))

        tree = {"a": [t, (y, z)], "b": Pair(np.arange(3), "text"), "c": Box(t, "box"), "d": None}
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            for _ in range(50):
                await anyio.sleep(0)
            assert results == []
            latch.open()

    run(loop, main)
    got = results[0]
    assert got["a"][0].tolist() == [[7] * 3] * 2
    assert got["a"][1][0].tolist() == [2.5] * 4
    assert got["a"][1][1].tolist() == [9] * 3
    assert isinstance(got["b"], Pair)
    assert got["b"].left.tolist() == [0, 1, 2]
    assert got["b"].right == "text"
    assert isinstance(got["c"], Box)
    assert got["c"].value.tolist() == [[7] * 3] * 2
    assert got["d"] is None
    assert dx.stats().host_waits == waits, "the host waited"
    results.clear()
    del got
    drain()


@LOOPS
def test_host_array_is_ready_and_jax_is_waited_for_in_its_thread(loop: str) -> None:
    jax = pytest.importorskip("jax")
    np = pytest.importorskip("numpy")

    async def main() -> None:
        assert dx.ready(np.zeros(3)).done()
        await dx.ready(np.zeros(3))
        x = jax.numpy.ones((300, 300))
        for _ in range(5):
            x = x @ x / 300
        values = await dx.host({"x": x})
        assert values["x"].shape == (300, 300)
        assert np.allclose(values["x"], 1.0)
        await dx.ready(x)

    run(loop, main)


class Computing:
    """A host array that is still computed, as jax's may be."""

    def __init__(self) -> None:
        import threading

        self.done = threading.Event()
        self.fails = False

    def is_ready(self) -> bool:
        return self.done.is_set()

    def block_until_ready(self) -> None:
        assert self.done.wait(60)
        if self.fails:
            raise ValueError("the computation failed")


@LOOPS
@pytest.mark.parametrize("fails", [False, True])
def test_asynchronous_host_work_is_awaited_without_blocking_the_loop(
    sim: Simulation, loop: str, fails: bool
) -> None:
    x = Computing()
    x.fails = fails
    before = descriptors()

    async def main() -> None:
        ready = dx.ready(x)
        assert not ready.done()
        with pytest.raises(dx.StreamError, match="on the host"):
            ready.wait_on(dx.Stream.legacy_default("cuda:0"))
        ended: list[bool] = []

        async def wait() -> None:
            if fails:
                with pytest.raises(ValueError, match="failed"):
                    await ready
            else:
                await ready
            ended.append(True)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            for _ in range(50):
                await anyio.sleep(0)
            assert not ended
            x.done.set()
        assert ended

    run(loop, main)
    for _ in range(10_000):  # the waiter's thread lets go a moment later
        if descriptors() == before:
            break
        gc.collect()
    assert descriptors() == before


def test_stream_waits_on_a_ready(any_sim: Simulation) -> None:
    sim = any_sim
    p, c, d = sim.stream(), sim.stream(), sim.stream()
    latch = sim.latch(p)
    dx.ready(owned(p)).wait_on(owned(c))
    dx.ready(owned(p)).wait_on(d)  # any framework's stream
    assert not c.query()
    assert not d.query()
    latch.open()
    c.synchronize()


def test_ready_needs_no_running_loop_and_no_thread(sim: Simulation) -> None:
    import threading

    p = sim.stream()
    latch = sim.latch(p)
    before = threading.active_count()
    ready = [dx.ready(owned(p)) for _ in range(10)]
    assert threading.active_count() == before
    assert sim.framework is not None
    latch.open()
    p.synchronize()

    async def main() -> None:
        for one in ready:
            await one

    asyncio.run(main())
    assert other(sim) is other(sim)


@pytest.mark.filterwarnings("error")
def test_a_process_without_descriptors_left_is_told_so(
    sim: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = sim.stream()
    tensor = dx.from_dlpack(sim.array(4, stream=stream, fill=3), stream=stream)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = os.open("/dev/null", os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken, hard))  # none above those in use
    try:
        for ask in (lambda: dx.ready(tensor), _HostCompletion):
            with pytest.raises(OSError, match="Too many open files"):
                ask()
        gc.collect()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(taken)
    asyncio.run(dx.ready(tensor)._wait())
