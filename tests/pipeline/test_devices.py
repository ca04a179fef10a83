"""Stages on simulated devices: results, releases, bounds, cancellation and death."""

from __future__ import annotations

import gc
import random
from typing import Any

import anyio
import numpy as np
import pytest
from support.live import settle

import dlexchange as dx
from dlexchange.pipeline import Pipeline
from dlexchange.testing import Simulation, drain

from .support import LOOPS, MODES, Gate, all_tickets_are_back, nothing_left, run, until


def random_pipe(sim: Simulation, rng: random.Random, **options: Any) -> Pipeline:
    """Stages of random frameworks in a random graph; each adds its inputs, and doubles."""
    pipe = Pipeline("random", **options)
    speaks = ("exchange_api", "dlpack", "cai")
    stages: list[Any] = []
    for i in range(rng.randint(2, 6)):
        framework = sim.framework(rng.choice(speaks), f"f{rng.randint(0, 3)}")

        def work(ctx: Any, *xs: Any) -> Any:
            total = xs[0] + xs[0]
            for x in xs[1:]:
                total = total + x
            return total

        def steps(ctx: Any, *xs: Any) -> Any:
            total = xs[0] + xs[0]
            for j, x in enumerate(xs[1:]):
                yield ctx.partial(total, step=j)
                total = total + x
            yield
            return total

        stage = pipe.stage(
            rng.choice((work, steps)),
            name=f"s{i}",
            device="cuda:0",
            lookahead=rng.randint(1, 4),
            framework=framework.array_type,
        )
        for before in rng.sample(stages, min(len(stages), rng.randint(1, 2))):
            before >> stage
        stages.append(stage)
    return pipe


def expected(pipe: Pipeline, x: Any) -> Any:
    """The same graph, one stage after another, with numpy."""
    graph = pipe._graph
    made: dict[Any, Any] = {}
    for stage in graph.stages:
        xs = [made[before] for before in graph.before[stage]] or [x]
        made[stage] = sum(xs[1:], xs[0] + xs[0])
    if len(graph.sinks) == 1:
        return made[graph.sinks[0]]
    return {stage.name: made[stage] for stage in graph.sinks}


@pytest.mark.parametrize("seed", range(8))
@MODES
def test_any_graph_gives_what_numpy_gives(any_sim: Simulation, seed: int, parallel: bool) -> None:
    rng = random.Random(seed)
    pipe = random_pipe(any_sim, rng, parallel=parallel, inflight=rng.randint(1, 4))
    framework = any_sim.framework("exchange_api", "mine")
    stream = any_sim.stream()

    async def main() -> None:
        async with pipe:
            for i in range(5):
                with framework.use_stream(stream):
                    x = framework.array(6, "int32", fill=i)
                    values = await dx.host(await pipe(x))
                wanted = expected(pipe, np.full(6, i, np.int32))
                for name in wanted if isinstance(wanted, dict) else [None]:
                    got = values if name is None else values[name]
                    assert np.array_equal(got, wanted if name is None else wanted[name])
            all_tickets_are_back(pipe)

    with nothing_left():
        run("asyncio", main)
        drain()


@LOOPS
def test_the_storm_everything_is_released_whenever_it_is_cancelled(
    any_sim: Simulation, loop: str
) -> None:
    rng = random.Random(3)
    pipe = random_pipe(any_sim, rng, inflight=3)
    framework = any_sim.framework("exchange_api", "mine")
    streams = [any_sim.stream() for _ in range(3)]
    finished: list[int] = []

    async def ask(i: int) -> None:
        with anyio.move_on_after(rng.random() * 0.02 if i % 3 == 0 else None):
            x = framework.array(6, "int32", stream=streams[i % 3], fill=i)
            tensor = dx.from_dlpack(x, stream=streams[i % 3])
            made = await pipe(tensor)
            for y in made.values() if isinstance(made, dict) else [made]:
                await dx.ready(y)
            wanted = expected(pipe, np.full(6, i, np.int32))
            first = next(iter(wanted)) if isinstance(wanted, dict) else None
            got = (made if first is None else made[first]).numpy()
            assert np.array_equal(got, wanted if first is None else wanted[first])
            finished.append(i)

    async def main() -> None:
        async with pipe:
            async with anyio.create_task_group() as group:
                for i in range(60):
                    group.start_soon(ask, i)
                    await anyio.sleep(0)
            all_tickets_are_back(pipe)

    blocks = any_sim.live["block"]
    with nothing_left():
        run(loop, main)
    assert len(finished) >= 40
    assert settle(lambda: any_sim.live["block"] == blocks), "device memory is left"


def test_what_comes_out_is_released_in_order_after_the_pipeline_has_ended(
    any_sim: Simulation,
) -> None:
    framework = any_sim.framework()
    stream = any_sim.stream()
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: x + x, name="double", device="cuda:0")
    with pipe.sync() as p, framework.use_stream(stream):
        y = p(framework.array(8, "int32", fill=3))
    latch = any_sim.latch(stream)
    with framework.use_stream(stream):
        z = y + y
    del y
    gc.collect()
    assert dx.stats().parked >= 1, "freed while the consumer is held"
    latch.open()
    assert z.tolist(stream=stream) == [12] * 8


@LOOPS
def test_host_awaits_without_blocking_while_the_stage_is_held(sim: Simulation, loop: str) -> None:
    framework = sim.framework()
    stream, latches = sim.stream(), []
    pipe = Pipeline()

    @pipe.stage(device="cuda:0")
    def hold(ctx: Any, x: Any) -> Any:
        latches.append(sim.latch(ctx.stream.handle, 0))
        return x + x

    values: list[Any] = []

    async def main() -> None:
        async with pipe:
            with framework.use_stream(stream):
                y = await pipe(framework.array(4, "int32", fill=2))

                async def fetch() -> None:
                    values.append(await dx.host(y))

                async with anyio.create_task_group() as group:
                    group.start_soon(fetch)
                    for _ in range(100):
                        await anyio.sleep(0)
                    assert not values
                    latches[0].open()

    run(loop, main)
    assert values[0].tolist() == [4] * 4


@pytest.mark.parametrize("generator", [True, False])
def test_the_host_runs_at_most_lookahead_steps_ahead_of_the_device(
    sim: Simulation, generator: bool
) -> None:
    framework = sim.framework()
    stream = sim.stream()
    ran: list[int] = []
    latches: list[Any] = []
    pipe = Pipeline(inflight=8)

    def hold(ctx: Any) -> None:
        if not latches:
            latches.append(sim.latch(ctx.stream.handle, 0))

    def steps(ctx: Any, x: Any) -> Any:
        hold(ctx)
        for i in range(10):
            ran.append(i)
            x = x + x
            yield
        return x

    def once(ctx: Any, x: Any) -> Any:
        hold(ctx)
        ran.append(1)
        return x + x

    pipe.stage(steps if generator else once, name="work", device="cuda:0", lookahead=3)
    with pipe.sync() as p, framework.use_stream(stream):
        x = framework.array(4, "int32", fill=1)
        futures = [p.submit(x) for _ in range(1 if generator else 8)]
        waiting = pipe._engine._workers[0]
        for _ in range(2000):
            if len(ran) >= 3:
                break
            futures[-1]._condition.acquire()
            futures[-1]._condition.wait(0.001)
            futures[-1]._condition.release()
        for _ in range(50):  # it gets every chance to run further
            sim.run()
        assert waiting.thread.is_alive()
        assert len(ran) == 3
        latches[0].open()
        assert futures[-1].result().tolist() == [1024 if generator else 2] * 4
        del futures, x


@LOOPS
@pytest.mark.parametrize("where", ["in the stage", "while it waits for its device"])
def test_a_dead_device_fails_what_is_in_flight_instead_of_hanging(
    loop: str, where: str, sim: Simulation
) -> None:
    framework = sim.framework()
    gate = Gate()
    latches: list[Any] = []
    pipe = Pipeline(inflight=2, queue=8)

    @pipe.stage(device="cuda:0", lookahead=1)
    def work(ctx: Any, x: Any) -> Any:
        latches.append(sim.latch(ctx.stream.handle, 0))
        gate.wait()
        yield
        return x + x

    ended: list[BaseException] = []

    async def ask(x: Any) -> None:
        try:
            await pipe(x)
        except dx.DeviceLost as error:
            ended.append(error)

    async def main() -> None:
        x = framework.array(4, "int32", stream=sim.stream(), fill=1)
        tensor = dx.from_dlpack(x, stream=x.stream)
        async with pipe, anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask, tensor)
            await gate.reached()
            if where == "in the stage":
                sim.kill_context()
                gate.open()
            else:
                gate.open()
                await until(lambda: sim.calls["cuEventSynchronize"])
                sim.kill_context()
            await until(lambda: len(ended) == 5)
            with pytest.raises(dx.DeviceLost):
                await pipe(1)
            all_tickets_are_back(pipe)

    run(loop, main)
    assert len({id(error) for error in ended}) == 5, "each request has an error of its own"
    ended.clear()
    for latch in latches:
        latch.open()
    sim.clear_findings()


def test_partial_results_are_device_arrays_ordered_into_the_callers_stream(
    any_sim: Simulation,
) -> None:
    sim = any_sim
    framework = sim.framework()
    stream = sim.stream()
    pipe = Pipeline()

    @pipe.stage(device="cuda:0", lookahead=8)
    def work(ctx: Any, x: Any) -> Any:
        for i in range(4):
            x = x + x
            yield ctx.partial(x, step=i)
        return x

    with pipe.sync() as p, framework.use_stream(stream):
        x = framework.array(4, "int32", fill=1)
        values = [part.value.tolist()[0] for part in p.stream(x)]
        assert values == [2, 4, 8, 16, 16]
        del x


def test_producers_that_do_not_say_their_stream_worked_on_the_stages(sim: Simulation) -> None:
    """As cuda.core's buffers: only the stage knows what stream wrote them."""
    framework = sim.framework("dlpack")
    stream = sim.stream()
    pipe = Pipeline()

    class Silent:
        def __init__(self, array: Any) -> None:
            self.array = array

        __dlpack__ = None

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.array.__dlpack_device__()

    named: list[Any] = []

    def from_dlpack(x: Any, stream: Any = None) -> Any:
        if not isinstance(x, Silent):
            return dx.from_dlpack(x) if stream is None else dx.from_dlpack(x, stream=stream)
        if stream is None:
            raise dx.StreamError("name the stream")
        named.append(stream)
        return dx.from_dlpack(x.array, stream=stream)

    @pipe.stage(device="cuda:0")
    def work(ctx: Any, x: Any) -> Any:
        return Silent(x + x)

    @pipe.stage(device="cuda:0", framework=framework.array_type)
    def after(ctx: Any, x: Any) -> Any:
        return x + x

    work >> after
    patch = pytest.MonkeyPatch()
    patch.setattr("dlexchange.pipeline.message.from_dlpack", from_dlpack)
    try:
        with pipe.sync() as p, framework.use_stream(stream):
            x = framework.array(4, "int32", fill=1)
            assert p(x).tolist() == [4] * 4
            del x
    finally:
        patch.undo()
    assert len(named) == 1
    named.clear()


def test_what_is_parked_is_dropped_where_its_context_is_current(sim: Simulation) -> None:
    """Producers such as cuda.core free memory in the context that is current."""
    import ctypes

    seen: list[int] = []

    class Owner:
        def __del__(self) -> None:
            context = ctypes.c_void_p()
            sim.driver("cuCtxGetCurrent", ctypes.byref(context))
            seen.append(context.value or 0)

    stream, mine = sim.stream(), sim.stream()
    x = sim.framework("dlpack").array(4, "int32", stream=stream, fill=1)
    x.owner = Owner()
    tensor = dx.from_dlpack(x)
    tensor.record_stream(mine)
    latch = sim.latch(mine)
    sim.framework("dlpack").array(4, "int32", stream=mine, fill=1)
    del x, tensor
    gc.collect()
    latch.open()
    assert settle(lambda: seen)
    assert seen == [sim.context()]
