"""The same tests for every device with streams: order, release, completion, refusals.

Collected by `test_backends.py` in a process of its own for each; DLX_GROUND names it.
Order is shown by a latch that holds the producer's stream, never by time.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import dlexchange as dx
from dlexchange.testing import drain

from .grounds import Ground, N

GROUND: Ground = importlib.import_module(
    f"backends.grounds.{os.environ['DLX_GROUND']}", __package__
).Ground()
#: A kind of which there is only one is not paired with itself.
PAIRS = [
    (p, c) for p, c in itertools.product(GROUND.kinds, repeat=2) if p != c or p not in GROUND.single
]


@pytest.fixture
def ground(request: pytest.FixtureRequest) -> Iterator[Any]:
    why = GROUND.limits.get(request.function.__name__)
    if why is not None:
        pytest.skip(f"limit: {why}")
    GROUND.open()
    yield GROUND
    gc.collect()
    drain()
    stats = dx.stats()
    assert (stats.parked, stats.held, stats.leaked) == (0, 0, 0), stats
    assert (stats.live, stats.events_in_use, stats.notifications) == (0, 0, 0), stats
    GROUND.close()


def in_thread(function: Callable[[], Any]) -> Any:
    """Run a function in a thread of its own; it must come back."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "the host blocks"
    return result[0]


def here(function: Callable[[], Any]) -> Any:
    return function()


def waiting() -> int:
    """Count the releases that wait for something."""
    raw = dx._core._stats()
    return int(raw["parked"] + raw["deferred"])


def held(ground: Any, stream: Any) -> tuple[Any, Any]:
    """Make an array of ones, and a write of sevens that waits for the latch."""
    x = ground.array(stream, 1)
    latch = ground.latch(stream)
    ground.fill(x, 7, stream)
    return x, latch


def test_limits_name_tests() -> None:
    assert set(GROUND.limits) <= {name for name in globals() if name.startswith("test_")}


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("run", [here, in_thread], ids=["one_thread", "two_threads"])
@pytest.mark.parametrize("through", ["array", "tensor"])
@pytest.mark.parametrize("release", ["early", "late"])
def test_consumer_waits_and_host_does_not(
    ground: Any, pair: tuple[str, str], run: Any, through: str, release: str
) -> None:
    p, c = ground.stream(pair[0]), ground.stream(pair[1])
    x, latch = held(ground, p)
    given = [dx.from_dlpack(x, stream=p) if through == "tensor" or run is in_thread else x]
    del x
    waits = dx.stats().host_waits

    def consume() -> Any:
        with ground.current(p):  # where an array alone has to tell
            y = ground.take(given.pop(), c)
        z = ground.double(y, c)
        return z, None if release == "early" else y

    z, y = run(consume)
    assert dx.stats().host_waits == waits
    latch.open()
    assert ground.read(z, c) == [14] * N
    del y, z


@pytest.mark.parametrize("pair", set(PAIRS) - GROUND.implicit, ids="-".join)
def test_without_the_push_the_value_is_stale(ground: Any, pair: tuple[str, str]) -> None:
    p, c = ground.stream(pair[0]), ground.stream(pair[1])
    ground.races_expected = True
    x, latch = held(ground, p)
    t = dx.from_dlpack(x, stream=-1)  # the caller vouches, wrongly
    y = ground.take(t, c)
    assert ground.read(y, c) == [1] * N
    latch.open()
    drain()
    ground.read(x, p)
    del x, y, t


def test_release_waits_for_the_consumer(ground: Any) -> None:
    p, c = ground.stream(GROUND.kinds[0]), ground.stream(GROUND.kinds[0])
    x = ground.array(p, 3)
    t = dx.from_dlpack(x, stream=p)
    y = ground.take(t, c)
    latch = ground.latch(c)
    z = ground.double(y, c)
    edges = dx.stats().edges
    del x, y
    t.close()
    del t
    gc.collect()
    # An edge, a release that waits, or a framework that itself keeps what its kernels use.
    assert waiting() > 0 or dx.stats().edges > edges or dx.stats().live > 0
    latch.open()
    assert ground.read(z, c) == [6] * N
    drain()
    assert waiting() == 0


def test_record_stream_adds_a_consumer(ground: Any) -> None:
    p, c = ground.stream(GROUND.kinds[0]), ground.stream(GROUND.kinds[0])
    x = ground.array(p, 3)
    t = dx.from_dlpack(x, stream=p)
    latch = ground.latch(c)
    t.record_stream(c)
    edges = dx.stats().edges
    del x
    t.close()
    gc.collect()
    assert waiting() > 0 or dx.stats().edges > edges
    latch.open()
    drain()
    assert waiting() == 0


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_push_orders_two_streams(ground: Any, pair: tuple[str, str]) -> None:
    p, c = ground.stream(pair[0]), ground.stream(pair[1])
    x, latch = held(ground, p)
    dx.push(ground.named(p), ground.named(c))
    y = ground.take(dx.from_dlpack(x, stream=-1), c)
    z = ground.double(y, c)
    latch.open()
    assert ground.read(z, c) == [14] * N
    del x, y, z


def test_stream_objects(ground: Any) -> None:
    p, c = ground.stream(GROUND.kinds[0]), ground.stream(GROUND.kinds[0])
    x, latch = held(ground, p)
    mine = ground.named(p)
    with dx.from_dlpack(x, stream=p) as t:
        event = t.ready_event
        assert event is not None
        stream = event.stream
        assert stream.device == t.device
    assert mine == stream
    assert mine != ground.named(c)
    assert hash(mine) == hash(stream)
    assert not event.query()
    assert not mine.query()
    ground.named(c).wait(mine)
    latch.open()
    waits = dx.stats().host_waits
    mine.synchronize()
    event.synchronize()
    assert dx.stats().host_waits - waits in (1, 2)  # an event seen complete is not waited for
    assert event.query()
    assert mine.query()
    del x


def test_current_stream_is_that_of_the_array(ground: Any) -> None:
    p = ground.stream(GROUND.kinds[0])
    x = ground.array(p, 1)
    with ground.current(p):
        assert dx.current_stream(x) == ground.named(p)


def test_ready_completes_with_the_work(ground: Any) -> None:
    p = ground.stream(GROUND.kinds[0])
    x, latch = held(ground, p)
    t = dx.from_dlpack(x, stream=p)

    async def main() -> list[bool]:
        ready = dx.ready(t)
        seen = [ready.done()]
        latch.open()
        await ready
        return [*seen, ready.done()]

    assert asyncio.run(main()) == [False, True]
    t.close()
    assert ground.read(x, p) == [7] * N


def test_cancelled_ready_leaves_nothing(ground: Any) -> None:
    p = ground.stream(GROUND.kinds[0])
    x, latch = held(ground, p)
    t = dx.from_dlpack(x, stream=p)

    async def main() -> None:
        task = asyncio.ensure_future(asyncio.wait_for(asyncio.shield(wait()), None))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def wait() -> None:
        await dx.ready(t)

    async def both() -> None:
        await main()
        latch.open()

    asyncio.run(both())
    t.close()
    assert ground.read(x, p) == [7] * N


def test_values_reach_the_host(ground: Any) -> None:
    p = ground.stream(GROUND.kinds[0])
    x = ground.array(p, 1)
    ground.fill(x, 7, p)
    with dx.from_dlpack(x, stream=p) as t:
        waits = dx.stats().host_waits
        assert dx.to_numpy(t, copy=True).tolist() == [7] * N
        assert dx.stats().host_waits == waits + 1
        assert asyncio.run(dx.host(t)).tolist() == [7] * N
        assert dx.stats().host_waits == waits + 1
        with pytest.raises(dx.CopyError, match="copy=True"):
            dx.to_numpy(t)


def test_what_is_no_stream_is_refused(ground: Any) -> None:
    p = ground.stream(GROUND.kinds[0])
    x = ground.array(p, 1)
    t = dx.from_dlpack(x, stream=p)
    for bad in ("1", 1.5, object(), True):
        with pytest.raises(TypeError, match="stream"):
            dx.from_dlpack(x, stream=bad)
        with pytest.raises(TypeError, match="stream"):
            t.record_stream(bad)


def test_bad_streams_are_refused_with_a_reason(ground: Any) -> None:
    p = ground.stream(GROUND.kinds[0])
    x = ground.array(p, 1)
    bad = ground.bad_streams()
    assert bad
    for stream, why in bad:
        with pytest.raises(dx.StreamError, match=why):
            dx.from_dlpack(x, stream=stream)


def test_many_hand_offs_leave_memory_flat(ground: Any) -> None:
    p, c = ground.stream(GROUND.kinds[0]), ground.stream(GROUND.kinds[0])
    x = ground.array(p, 2)

    def some(n: int) -> int:
        for _ in range(n):
            y = ground.take(dx.from_dlpack(x, stream=p), c)
            del y
            if waiting() > 50:
                drain()
        gc.collect()
        drain()
        return dx.stats().events_created

    before = dx.stats().events_created
    assert some(1000) - before < 200  # two events each for those that wait, and some in advance
