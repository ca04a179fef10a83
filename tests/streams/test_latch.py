"""Order shown by a latch: nothing runs before it opens, everything is right afterwards.

The producer's stream is held, the hand-off is made, the consumer queues its work. The host
must be back at once, the consumer must wait, and its values must be the producer's last.
Freed memory is poisoned, so an early release that is not ordered shows too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

import dlexchange as dx
from dlexchange.testing import SimStream, Simulation, drain, simulated_cuda

from .conftest import POLICIES, finish, other

KINDS = ("own", "blocking", "legacy", "per_thread")
PAIRS = [(p, c) for p in KINDS for c in KINDS]
#: An edge needs a producer whose allocation's stream is known.
RELEASED = {"exchange_api": ("edge", "park"), "cai": ("edge", "park"), "dlpack": ("park",)}


def ways(speaks: str, thread: str, pair: tuple[str, str]) -> Iterator[str]:
    """Name the ways of a hand-off: a native array is one of the thread and stream that wrote it."""
    yield from RELEASED[speaks]
    if thread == "same" or pair[0] != "per_thread":
        yield "straight"


def stream_of(sim: Simulation, kind: str) -> SimStream:
    if kind == "legacy":
        return sim.legacy()
    return sim.per_thread() if kind == "per_thread" else sim.stream(blocking=kind == "blocking")


class OtherThread:
    """Runs a generator to its yield in a thread of its own, and later to its end."""

    def __init__(self, function: Callable[[], Iterator[None]]) -> None:
        self._reached, self._go_on = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(function,))
        self._thread.start()
        assert self._reached.wait(60), "the host blocks"
        self._raise()

    def _run(self, function: Callable[[], Iterator[None]]) -> None:
        try:
            for _ in function():
                self._reached.set()
                assert self._go_on.wait(60)
        except BaseException as error:
            self._error = error
        self._reached.set()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        self._go_on.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._raise()


class SameThread:
    """The same in the calling thread."""

    def __init__(self, function: Callable[[], Iterator[None]]) -> None:
        self._steps = function()
        next(self._steps)

    def finish(self) -> None:
        assert next(self._steps, "end") == "end"


def hand_off(
    sim: Simulation, speaks: str, pair: tuple[str, str], thread: str, early: bool, released: str
) -> None:
    """Show one cell; `released` "straight": the native array itself is handed over."""
    producer, consumer = sim.framework(speaks), other(sim)
    p = stream_of(sim, pair[0])
    # memory of another stream than the one that wrote it cannot go back by an edge
    a = sim.stream() if released == "park" else p
    x = producer.array(16, "int32", stream=a, fill=1)
    a.synchronize()
    latch = sim.latch(p)
    x.fill(7, stream=p)
    named = p if released == "park" and speaks != "dlpack" else None
    with producer.use_stream(p):
        handed = [x if released == "straight" else dx.from_dlpack(x, stream=named)]
    del x

    def consume() -> Iterator[None]:
        t = handed.pop()
        c = stream_of(sim, pair[1])
        with producer.use_stream(p), consumer.use_stream(c):
            if released == "edge":
                y = consumer.from_dlpack(t)
                t.record_stream(c)
            else:
                y = dx.convert(t, consumer.array_type)
            z = y + y
        if isinstance(t, dx.Tensor):
            t.close()
        del t
        if early:
            del y
        assert not c.query(), "the consumer does not wait"
        yield
        assert z.tolist(stream=c) == [14] * 16

    before = dx.stats()
    side = (OtherThread if thread == "other" else SameThread)(consume)
    assert not latch.is_open
    latch.open()
    side.finish()
    drain()
    if "per_thread" not in pair and pair != ("legacy", "legacy"):
        is_edge = released == "edge" or (released == "straight" and speaks != "dlpack")
        assert (dx.stats().edges > before.edges) == is_edge


@pytest.mark.parametrize("speaks", ["exchange_api", "dlpack", "cai"])
@pytest.mark.parametrize("thread", ["same", "other"])
@pytest.mark.parametrize("release", ["early", "late"])
@pytest.mark.slow
def test_consumer_waits_for_the_latch_and_reads_what_was_written_behind_it(
    speaks: str, thread: str, release: str
) -> None:
    seen = 0
    for policy, seed in POLICIES:
        with simulated_cuda(policy=policy, seed=seed) as sim:
            for pair in PAIRS:
                for released in ways(speaks, thread, pair):
                    hand_off(sim, speaks, pair, thread, release == "early", released)
                    assert [str(finding) for finding in sim.findings] == [], (pair, released)
                    seen += 1
            finish(sim)
    cells = len(PAIRS) * (len(RELEASED[speaks]) + 1)
    assert seen == len(POLICIES) * (cells - (len(KINDS) if thread == "other" else 0))


@pytest.mark.parametrize("speaks", ["exchange_api", "dlpack", "cai"])
def test_without_the_push_the_value_is_stale(speaks: str) -> None:
    with simulated_cuda() as sim:
        producer, consumer = sim.framework(speaks), other(sim)
        p, c = sim.stream(), sim.stream()
        x = producer.array(16, "int32", stream=p, fill=1)
        p.synchronize()
        latch = sim.latch(p)
        x.fill(7, stream=p)
        t = dx.from_dlpack(x, stream=-1)  # the caller vouches, wrongly
        with consumer.use_stream(c):
            y = consumer.from_dlpack(t)
            assert y.tolist() == [1] * 16
        assert {finding.kind for finding in sim.findings} == {"race"}
        latch.open()
        del y, t, x
        drain()


def test_without_the_return_edge_the_release_is_found() -> None:
    with simulated_cuda() as sim:
        producer, consumer = sim.framework(), other(sim)
        p, c = sim.stream(), sim.stream()
        x = producer.array(16, "int32", stream=p, fill=1)
        with producer.use_stream(p):
            t = dx.from_dlpack(x)
        with consumer.use_stream(c):
            y = consumer.from_dlpack(t)
            z = y + y
        del x, y, t  # nobody said that c uses the memory: t.record_stream(c)
        p.synchronize()
        z.tolist(stream=c)
        assert sim.findings
        del z
        drain()
