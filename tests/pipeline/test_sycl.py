"""Stages of dpnp on SYCL queues of their own; R-004.16. Absent where there is no SYCL device."""

from __future__ import annotations

import random
from typing import Any

import anyio
import numpy as np
import pytest
from support.live import settle

import dlexchange as dx
from dlexchange.pipeline import Pipeline

from .support import LOOPS, MODES, Gate, all_tickets_are_back, run, until

pytest.importorskip("dpctl", reason="absent: dpctl is not installed")
pytestmark = pytest.mark.slow


def sycl() -> Any:
    from dlexchange.backends.sycl import show_cpu

    show_cpu()
    import dpctl
    import dpnp

    if not dpctl.get_devices():
        pytest.skip("absent: no SYCL device")
    return dpnp


@LOOPS
@MODES
@pytest.mark.parametrize("seed", range(3))
def test_r004_16_any_graph_on_queues_gives_what_numpy_gives(
    loop: str, parallel: bool, seed: int
) -> None:
    dpnp = sycl()
    rng = random.Random(seed)
    pipe = Pipeline(parallel=parallel, inflight=3)
    queues: dict[str, set[Any]] = {}
    stages: list[Any] = []

    def work(ctx: Any, *xs: Any) -> Any:
        for x in xs:
            queues.setdefault(ctx.stage, set()).add(x.sycl_queue)
        total = xs[0] + xs[0]
        for step, x in enumerate(xs[1:]):
            yield ctx.partial(total, step=step)
            total = total + x
        return total

    for i in range(5):
        stage = pipe.stage(work, name=f"s{i}", device="oneapi:0", framework="dpnp")
        for before in rng.sample(stages, min(len(stages), rng.randint(1, 2))):
            before >> stage
        stages.append(stage)
    graph = pipe._graph

    async def main() -> None:
        waits = dx.stats().host_waits
        async with pipe:
            for i in range(4):
                made = await pipe(dpnp.full(1000, i, dtype="int32"))
                values: dict[Any, Any] = {}
                x = np.full(1000, i, np.int32)
                for stage in graph.stages:
                    xs = [values[before] for before in graph.before[stage]] or [x]
                    values[stage] = sum(xs[1:], xs[0] + xs[0])
                got = await dx.host(made)
                for sink in graph.sinks:
                    one = got[sink.name] if len(graph.sinks) > 1 else got
                    assert np.array_equal(one, values[sink])
            all_tickets_are_back(pipe)
        assert dx.stats().host_waits - waits <= 4 * 5, "only for lookahead"

    run(loop, main)
    assert all(len(own) == 1 for own in queues.values())
    distinct = {queue for own in queues.values() for queue in own}
    assert len(distinct) == (5 if parallel else 1), "each stage has a queue of its own"
    assert settle(lambda: dx.stats().live == 0)


@LOOPS
def test_r000_1_cancelled_on_a_queue_the_stage_goes_on_with_the_next(loop: str) -> None:
    dpnp = sycl()
    gate = Gate()
    ran: list[int] = []
    pipe = Pipeline()

    @pipe.stage(device="oneapi:0")
    def work(ctx: Any, x: Any) -> Any:
        for i in range(20):
            ran.append(i)
            x = x + 1
            if i == 5:
                gate.wait()
            yield ctx.partial(x, step=i)
        return x

    async def main() -> None:
        async with pipe:
            async with anyio.create_task_group() as group:
                group.start_soon(pipe.__call__, dpnp.zeros(100))
                await gate.reached()
                group.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await until(lambda: all(one.is_ended for one in pipe._engine.flow.unfinished))
                gate.open()
            assert ran == list(range(6))
            made = await dx.host(await pipe(dpnp.zeros(100)))
            assert made.tolist() == [20.0] * 100
            all_tickets_are_back(pipe)

    run(loop, main)
    assert settle(lambda: dx.stats().live == 0)
