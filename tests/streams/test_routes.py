"""Every route of a hand-off, counted: what it asks of the driver, and what it never does."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
from support.dlpack import Fake

import dlexchange as dx
from dlexchange.testing import SimStream, Simulation, drain, simulated_cuda

from .conftest import finish, other
from .test_counts import current_context

RECORD, WAIT, ASK = "cuEventRecord", "cuStreamWaitEvent", "cuStreamGetCaptureInfo"


class Routes:
    """Makes what a route needs, and returns the route itself: what is to be counted."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.consumer = other(sim)
        self.p, self.c = sim.stream(), sim.stream()

    def array(self, speaks: str = "exchange_api") -> Any:
        return self.sim.framework(speaks).array(8, "int32", stream=self.p, fill=3)

    def tensor(self, speaks: str = "exchange_api") -> dx.Tensor:
        return dx.from_dlpack(self.array(speaks), stream=self.p)

    def make_a_tensor(self) -> Callable[[], Any]:
        x = self.array()
        return lambda: dx.from_dlpack(x, stream=self.p)

    def export(self) -> Callable[[], Any]:
        t = self.tensor()
        return lambda: t.__dlpack__(stream=self.c.handle, max_version=(1, 3))

    def export_by_wrap(self) -> Callable[[], Any]:
        wrapped = dx.wrap(self.array("cai"), stream=self.p)
        return lambda: wrapped.__dlpack__(stream=self.c.handle, max_version=(1, 3))

    def convert(self, speaks: str = "exchange_api") -> Callable[[], Any]:
        x = self.array(speaks)

        def run() -> Any:
            with self.sim.framework(speaks).use_stream(self.p), self.consumer.use_stream(self.c):
                return dx.convert(x, self.consumer.array_type)

        return run

    def convert_interface(self) -> Callable[[], Any]:
        return self.convert("cai")

    def convert_on_one_stream(self) -> Callable[[], Any]:
        self.c = self.p
        return self.convert()

    def convert_vouched(self) -> Callable[[], Any]:
        x = self.array()
        return lambda: dx.convert(x, self.consumer.array_type, stream=-1)

    def push(self) -> Callable[[], Any]:
        return lambda: dx.push(self.p, self.c)

    def wait_for_an_event(self) -> Callable[[], Any]:
        event, c = self.tensor().ready_event, dx.Stream.from_handle("cuda:0", self.c.handle)
        return lambda: c.wait(event)

    def interface(self) -> Callable[[], Any]:
        t = self.tensor()
        return lambda: t.__cuda_array_interface__

    def record_stream(self) -> Callable[[], Any]:
        t = self.tensor()
        return lambda: t.record_stream(self.c)

    def edge(self) -> Callable[[], Any]:
        t = self.tensor()
        t.record_stream(self.c)
        return t.close

    def park(self) -> Callable[[], Any]:
        t = self.tensor("dlpack")
        t.record_stream(self.c)
        self.latch = self.sim.latch(self.c)
        return t.close

    def ready(self) -> Callable[[], Any]:
        t = self.tensor()

        async def main() -> None:
            await dx.ready(t)

        return lambda: asyncio.run(main())

    def host(self) -> Callable[[], Any]:
        t = self.tensor()

        async def main() -> None:
            assert (await dx.host(t)).tolist() == [3] * 8

        return lambda: asyncio.run(main())


#: Records and waits of each route.
COSTS = {
    "make_a_tensor": (1, 0),
    "export": (0, 1),
    "export_by_wrap": (1, 1),
    "convert": (1, 1),
    "convert_interface": (1, 1),
    "convert_on_one_stream": (0, 0),
    "convert_vouched": (0, 0),
    "push": (1, 1),
    "wait_for_an_event": (0, 1),
    "interface": (0, 1),
    "record_stream": (0, 0),
    "edge": (1, 1),
    "park": (1, 0),
    "ready": (0, 1),
    "host": (1, 2),  # the copy behind the data, and what calls back behind the copy
}


def test_every_route_has_its_costs() -> None:
    names = {name for name in vars(Routes) if not name.startswith("_")}
    assert set(COSTS) == names - {"array", "tensor"}


@pytest.mark.parametrize("current", [None, 0, 1])
@pytest.mark.parametrize("route", COSTS)
def test_route_costs_what_it_must_and_disturbs_nothing(route: str, current: int | None) -> None:
    with simulated_cuda(devices=2) as sim:
        for is_steady in (False, True, True):
            routes = Routes(sim)
            run = getattr(routes, route)()
            if current is not None:
                sim.set_device(current)
            before, context = dx.stats(), current_context(sim)
            legacy = [sim.legacy(device).submitted for device in (0, 1)]
            sim.reset_calls()
            result = run()
            calls = sim.calls
            assert current_context(sim) == context
            assert (calls[RECORD], calls[WAIT]) == COSTS[route]
            assert [name for name in calls if "Synchronize" in name] == []
            assert [sim.legacy(device).submitted for device in (0, 1)] == legacy
            assert dx.stats().host_waits == before.host_waits
            if is_steady:
                assert calls[ASK] <= calls[RECORD] + calls[WAIT]
                assert dx.stats().events_created == before.events_created
                assert [name for name in calls if "Create" in name or "Destroy" in name] == []
            if hasattr(routes, "latch"):
                routes.latch.open()
            sim.driver("cuCtxSetCurrent", None)
            del result, run, routes
            gc.collect()
            drain()
        finish(sim)


def straight(x: Any, p: SimStream, consumer: Any) -> Any:
    with x.framework.use_stream(p):
        return dx.convert(x, consumer.array_type)


def described(x: Any, p: SimStream, consumer: Any) -> Any:
    return consumer.from_dlpack(dx.wrap(x, stream=p))


@pytest.mark.parametrize(
    ("hand_over", "speaks"), [(straight, "exchange_api"), (straight, "cai"), (described, "cai")]
)
def test_hand_off_between_two_known_streams_waits(
    any_sim: Simulation, hand_over: Callable[..., Any], speaks: str
) -> None:
    sim = any_sim
    producer, consumer = sim.framework(speaks), other(sim)
    p, c = sim.stream(), sim.stream()
    x = producer.array(8, "int32", stream=p, fill=1)
    p.synchronize()
    latch = sim.latch(p)
    x.fill(7, stream=p)
    with consumer.use_stream(c):
        y = hand_over(x, p, consumer)
        z = y + y
    assert not c.query()
    latch.open()
    assert z.tolist(stream=c) == [14] * 8


def test_host_memory_of_a_producer_that_says_device_takes_no_stream(sim: Simulation) -> None:
    before = dx._core._stats()["streams_created"]
    for _ in range(20):
        assert dx.from_dlpack(Fake(says_device=(3, 0))).device == dx.Device(1, 0)
    created = dx._core._stats()["streams_created"] - before
    assert created <= sim.calls["cuStreamCreate"] <= 2


def test_memory_of_another_stream_is_parked(sim: Simulation) -> None:
    p, q, c = sim.stream(), sim.stream(), sim.stream()
    x = sim.array(8, "int32", stream=q, fill=3)
    p.wait(q)
    t = dx.from_dlpack(x, stream=p)  # p wrote it, but it goes back to q
    t.record_stream(c)
    latch = sim.latch(c)
    edges = dx.stats().edges
    t.close()
    assert (dx.stats().edges, dx.stats().parked) == (edges, 1)
    latch.open()
