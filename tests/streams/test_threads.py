"""A Tensor goes to any thread; a native array does not. And many threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from support import child, memory

import dlexchange as dx
from dlexchange.testing import Simulation, drain, simulated_cuda

from .conftest import finish, other
from .soak import soak


def in_thread(function: Callable[[], Any]) -> Any:
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join(60)
    assert result, "the thread failed or blocks"
    return result.pop()


@pytest.mark.parametrize("hand_over", ["tensor", "native"])
def test_tensor_goes_to_another_thread_and_a_native_array_does_not(hand_over: str) -> None:
    with simulated_cuda() as sim:
        producer, consumer = sim.framework(), other(sim)
        a, b = sim.stream(), sim.stream()
        x = producer.array(16, "int32", stream=a, fill=1)
        a.synchronize()
        latch = sim.latch(a)
        x.fill(7, stream=a)
        with producer.use_stream(a):
            given = dx.from_dlpack(x) if hand_over == "tensor" else x

        def consume() -> tuple[Any, bool]:
            with producer.use_stream(b), consumer.use_stream(b):
                y = dx.convert(given, consumer.array_type)  # noqa: F821
                return y, b.query() or b.query()  # the lazy policy's first answer is no

        y, is_ready = in_thread(consume)
        if hand_over == "tensor":
            assert not is_ready
            latch.open()
            assert y.tolist(stream=b) == [7] * 16
            assert sim.findings == []
        else:  # its producer's current stream in that thread is b: no push, stale data
            assert is_ready
            assert y.tolist(stream=b) == [1] * 16
            assert {finding.kind for finding in sim.findings} == {"race"}
            latch.open()
        del y, x, given
        drain()


def test_per_thread_streams_of_two_threads_are_both_waited_for(sim: Simulation) -> None:
    t = dx.from_dlpack(sim.array(16, stream=sim.stream(), fill=3, speaks="dlpack"))
    mine = sim.latch(sim.per_thread())
    t.record_stream(2)

    def other_thread() -> Any:
        latch = sim.latch(sim.per_thread())
        t.record_stream(2)
        return latch

    theirs = in_thread(other_thread)
    t.close()
    mine.open()
    sim.run()
    assert dx._core._drain(0.1) == 1, "released before the other thread's stream"
    theirs.open()
    drain()
    assert dx.stats().parked == 0


def test_per_thread_consumer_is_released_in_another_thread(sim: Simulation) -> None:
    t = dx.from_dlpack(sim.array(16, stream=sim.stream(), fill=3, speaks="dlpack"))

    def other_thread() -> Any:
        latch = sim.latch(sim.per_thread())
        t.record_stream(2)
        return latch

    theirs = in_thread(other_thread)
    t.close()
    sim.run()
    assert dx._core._drain(0.1) == 1, "released before the other thread's stream"
    theirs.open()


def test_per_thread_streams_of_two_threads_are_two_streams(sim: Simulation) -> None:
    two = sim.per_thread()
    latch = sim.latch(two)
    event = dx.Stream.per_thread_default("cuda:0").record()

    def other_thread() -> bool:
        dx.Stream.per_thread_default("cuda:0").wait(event)
        return two.query() or two.query()

    assert not in_thread(other_thread), "handle 2 was taken for the same stream"
    latch.open()


@pytest.mark.slow
def test_eight_threads_hand_over_without_a_race_and_without_growing() -> None:
    done = child.run(  # its memory is its own
        """
        from streams.test_threads import hand_over_in_eight_threads
        hand_over_in_eight_threads()
        """,
        timeout=500,
        env=memory.EVERYTHING,
    )
    assert "Traceback" not in done


def hand_over_in_eight_threads() -> None:
    before, leaked = dx.stats().events_created, dx.stats().leaked
    with simulated_cuda(policy="random", seed=11, window=256, reuse=True) as sim:
        rounds = [soak(sim, 2_500) for _ in range(4)]
        finish(sim)
    allowed = max(one.events_allowed for one in rounds)
    assert rounds[-1].events - before <= allowed
    assert dx.stats().leaked == leaked
    of_an_event = 1024  # ours, and the simulated driver's
    growth = min(
        b.bytes_in_use - a.bytes_in_use - of_an_event * (b.events - a.events)
        for a, b in pairwise(rounds)  # an arena more counts once, what is lost in each
    )
    assert growth < 4 * rounds[0].hand_offs, "memory grows with the number of hand-offs"
