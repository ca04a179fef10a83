"""The requirements of thread 004, streams across frameworks, on the simulated driver.

None of this was run on a GPU here. Three simulated frameworks stand for those that speak the
C exchange API, ``__dlpack__`` and the CUDA Array Interface; each has its own current streams.
"""

from __future__ import annotations

import ast
import concurrent.futures
import inspect
import itertools
import re
import threading
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

import dlexchange as dx
import dlexchange.pipeline
from dlexchange.pipeline import Pipeline, SyncPipeline, message
from dlexchange.testing import Simulation, drain, simulated_cuda

from .conftest import finish
from .support import LOOPS, Gate, all_tickets_are_back, nothing_left, run, spin, until

BLOCKING = ("cuCtxSynchronize", "cuStreamSynchronize", "cuEventSynchronize")
DIALECTS = ("exchange_api", "dlpack", "cai")


def frameworks(sim: Simulation) -> list[Any]:
    return [sim.framework(speaks, f"framework_{speaks}") for speaks in DIALECTS]


def three_stages(
    sim: Simulation, lookahead: int = 100, seen: list[Any] | None = None, **options: Any
) -> Pipeline:
    """Each stage in another framework, on its own stream: 2x, then +x of the framework."""
    pipe = Pipeline("three", **options)
    stages = []
    for framework in frameworks(sim):

        def double(ctx: Any, x: Any) -> Any:
            if seen is not None:
                seen.append(type(x))
            return x + x

        stages.append(
            pipe.stage(
                double,
                name=framework.speaks,
                device="cuda:0",
                framework=framework.array_type,
                lookahead=lookahead,
            )
        )
    stages[0] >> stages[1] >> stages[2]
    return pipe


def blocking_calls(sim: Simulation) -> int:
    return sum(sim.calls[name] for name in BLOCKING)


@LOOPS
@pytest.mark.parametrize("parallel", [True, False], ids=["parallel", "inline"])
def test_r004_1_frameworks_go_on_in_stream_order_without_any_synchronisation(
    any_sim: Simulation, loop: str, parallel: bool
) -> None:
    sim = any_sim
    first, _, last = frameworks(sim)
    seen: list[Any] = []
    pipe = three_stages(sim, parallel=parallel, seen=seen)
    stream, mine = sim.stream(), sim.stream()

    async def main() -> None:
        async with pipe:
            waits = dx.stats().host_waits
            before = blocking_calls(sim)
            made = []
            for i in range(10):
                x = first.array(8, "int32", stream=stream, fill=i)
                with first.use_stream(stream), last.use_stream(mine):
                    made.append(await pipe(x))
            assert blocking_calls(sim) == before
            assert dx.stats().host_waits == waits
            for i, y in enumerate(made):
                assert isinstance(y, last.array_type)
                assert seen[3 * i : 3 * i + 3] == [f.array_type for f in frameworks(sim)]
                assert y.tolist(stream=mine) == (np.full(8, i, np.int32) * 8).tolist()
            all_tickets_are_back(pipe)

    with nothing_left():
        run(loop, main)
        drain()


@LOOPS
def test_r004_2_the_host_comes_back_while_the_producer_is_held(sim: Simulation, loop: str) -> None:
    first, _, last = frameworks(sim)
    pipe = three_stages(sim)
    stream, mine = sim.stream(), sim.stream()
    x = first.array(8, "int32", stream=stream, fill=1)
    stream.synchronize()
    latch = sim.latch(stream)
    x.fill(7, stream=stream)

    async def main() -> None:
        async with pipe:
            with first.use_stream(stream), last.use_stream(mine):
                y = await pipe(x)
            assert not latch.is_open, "the host waited"
            assert not mine.query(), "the result is not ordered behind the producer"
            latch.open()
            assert y.tolist(stream=mine) == [56] * 8

    run(loop, main)


def test_r004_3_without_the_wait_the_value_is_stale_and_the_race_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def vouch(x: Any, stream: Any = None) -> Any:
        return dx.from_dlpack(x, stream=-1)

    with simulated_cuda() as sim:
        monkeypatch.setattr(message, "from_dlpack", vouch)
        first, _, last = frameworks(sim)
        stream, mine = sim.stream(), sim.stream()
        x = first.array(8, "int32", stream=stream, fill=1)
        stream.synchronize()
        latch = sim.latch(stream)
        x.fill(7, stream=stream)
        pipe = three_stages(sim)
        with pipe.sync() as p, first.use_stream(stream), last.use_stream(mine):
            y = p(x)
            assert y.tolist(stream=mine) != [56] * 8
        assert "race" in {finding.kind for finding in sim.findings}
        latch.open()
        del x, y
        drain()


def test_r004_4_on_one_stream_no_event_is_recorded_between_stages(sim: Simulation) -> None:
    framework = frameworks(sim)[0]
    records = []
    for length in (1, 5):
        pipe = Pipeline(parallel=False)
        stages = [pipe.stage(lambda ctx, x: x, name=str(i), device="cuda:0") for i in range(length)]
        for a, b in itertools.pairwise(stages):
            a >> b
        stream = sim.stream()
        x = framework.array(8, "int32", stream=stream, fill=1)
        with pipe.sync() as p, framework.use_stream(stream):
            before = sim.calls["cuEventRecord"]
            y = p(x)
            records.append(sim.calls["cuEventRecord"] - before)
        del y
        drain()
    assert records[0] == records[1]


def test_r004_5_later_work_of_the_producer_is_not_waited_for(sim: Simulation) -> None:
    first, second, _ = frameworks(sim)
    gate = Gate()
    streams: list[Any] = []
    pipe = Pipeline()

    @pipe.stage(device="cuda:0")
    def produce(ctx: Any, x: Any) -> Any:
        y = x + x
        streams.append(ctx.stream)
        return y

    @pipe.stage(device="cuda:0", framework=second.array_type)
    def consume(ctx: Any, x: Any) -> Any:
        gate.wait()  # the message lies here while the producer gets more to do
        return x + x

    produce >> consume
    mine = sim.stream()
    x = first.array(8, "int32", stream=mine, fill=3)
    with pipe.sync() as p, first.use_stream(mine), second.use_stream(mine):
        future = p.submit(x)
        assert gate.arrived.acquire(timeout=60)
        latch = sim.latch(streams[0].handle, 0)
        gate.open()
        y = future.result()
        assert y.tolist(stream=mine) == [12] * 8  # hangs, and fails, if it waits for the latch
        assert not latch.is_open
        latch.open()


def test_r004_6_host_arrays_need_no_driver_and_zero_is_no_stream(sim: Simulation) -> None:
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: x + 1, name="add")
    sim.reset_calls()
    with pipe.sync() as p:
        assert p(np.zeros(2)).tolist() == [1, 1]
    assert sim.calls == {}
    stream = sim.stream()
    x = sim.framework("dlpack").array(4, "int32", stream=stream, fill=1)
    with pytest.raises(dx.StreamError):
        dx.from_dlpack(x, stream=0)
    for number in (1, 2, -1, stream.handle):
        dx.from_dlpack(x, stream=number).close()


def test_r004_7_the_callers_stream_may_go_once_the_request_is_made(sim: Simulation) -> None:
    first, _, last = frameworks(sim)
    gate = Gate()
    pipe = three_stages(sim)
    hold = pipe.stage(lambda ctx, x: (gate.wait(), x)[1], name="hold", device="cuda:0")
    hold >> pipe._graph.stages[0]
    mine = sim.stream()
    with pipe.sync() as p, last.use_stream(mine):
        stream = sim.stream()
        x = first.array(8, "int32", stream=mine, fill=1)
        stream.wait(mine)
        x.fill(5, stream=stream)
        mine.wait(stream)
        with first.use_stream(stream):
            future = p.submit(x)
        stream.destroy()
        del stream, x
        gate.open()
        assert future.result().tolist(stream=mine) == [40] * 8
        del future


def test_r004_8_events_are_pooled_none_is_created_in_the_steady_state(sim: Simulation) -> None:
    first, _, last = frameworks(sim)
    pipe = three_stages(sim, lookahead=2)
    stream = sim.stream()
    with pipe.sync() as p, first.use_stream(stream), last.use_stream(stream):
        x = first.array(8, "int32", fill=1)
        created = [0]
        while len(created) < 40 and len(set(created[-5:])) > 1:
            for _ in range(5):
                p(x)
                drain()
            created.append(dx.stats().events_created)
        assert len(set(created[-5:])) == 1, created
        del x


def test_r004_9_nothing_is_submitted_to_the_default_streams(sim: Simulation) -> None:
    first, _, last = frameworks(sim)
    pipe = three_stages(sim)
    stream = sim.stream()
    with pipe.sync() as p, first.use_stream(stream), last.use_stream(stream):
        x = first.array(8, "int32", fill=1)
        y = p(x)
        assert y.tolist() == [8] * 8
        del x, y
    drain()
    assert (sim.legacy().submitted, sim.per_thread().submitted) == (0, 0)


def test_r004_10_a_slow_consumer_does_not_serialise_the_producer(sim: Simulation) -> None:
    """An edge on the producer's stream would: that stream would wait for the consumer's."""
    first = frameworks(sim)[0]
    streams: dict[str, Any] = {}
    pipe = Pipeline(inflight=4)

    @pipe.stage(device="cuda:0", lookahead=8)
    def produce(ctx: Any, x: Any) -> Any:
        streams["produce"] = ctx.stream
        return x + x

    @pipe.stage(device="cuda:0", lookahead=8)
    def consume(ctx: Any, x: Any) -> Any:
        streams["consume"] = ctx.stream
        return x + x

    produce >> consume
    mine = sim.stream()
    with pipe.sync() as p, first.use_stream(mine):
        x = first.array(8, "int32", fill=1)
        edges = dx.stats().edges
        futures = [p.submit(x)]
        concurrent.futures.wait(futures)
        latch = sim.latch(streams["consume"].handle, 0)
        futures += [p.submit(x) for _ in range(3)]
        concurrent.futures.wait(futures)  # the consumer's host is done, its device is held
        streams["produce"].synchronize()  # hangs, and fails, if it waits for the consumer
        assert not latch.is_open
        spin(lambda: dx.stats().parked >= 3)  # what the consumer took waits for its stream
        latch.open()
        assert [future.result().tolist() for future in futures] == [[4] * 8] * 4
        assert dx.stats().edges == edges
        del futures, x


def test_r004_13_users_see_no_capsule_and_no_stream_keyword() -> None:
    seen = 0
    for cls in (Pipeline, SyncPipeline):
        for name, function in inspect.getmembers(cls, inspect.isfunction):
            if name.startswith("_") and name != "__call__":
                continue
            for parameter in inspect.signature(function).parameters:
                seen += 1
                assert parameter not in ("stream", "capsule", "event"), (cls, name)
    assert seen > 20


@LOOPS
def test_r004_14_the_stream_is_one_of_the_tensors_device(
    two_devices: Simulation, loop: str
) -> None:
    sim = two_devices
    first, second, _ = frameworks(sim)
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: x + x, name="a", device="cuda:1") >> pipe.stage(
        lambda ctx, x: x + x, name="b", device="cuda:1", framework=second.array_type
    )
    there, mine = sim.stream(1), sim.stream(1)
    sim.set_device(0)  # current in the caller's thread, not the tensor's

    async def main() -> None:
        async with pipe:
            x = first.array(8, "int32", stream=there, fill=2)
            with first.use_stream(there), second.use_stream(mine):
                y = await pipe(x)
            assert y.device == 1
            assert y.tolist(stream=mine) == [8] * 8

    run(loop, main)
    assert sim.legacy(0).submitted == sim.legacy(1).submitted == 0


def test_r004_15_another_device_is_refused(two_devices: Simulation) -> None:
    sim = two_devices
    framework = frameworks(sim)[0]
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: x, name="there", device="cuda:1")
    stream = sim.stream(0)
    with pipe.sync() as p, framework.use_stream(stream):
        x = framework.array(8, "int32", fill=1)
        with pytest.raises(dx.CopyError, match="copy=True"):
            p(x)
        all_tickets_are_back(pipe)
        del x


def test_r004_18_stages_work_on_streams_that_are_owned(sim: Simulation) -> None:
    with pytest.raises(dx.StreamError, match="from_handle"):
        dx.push(7, 8)
    seen: list[Any] = []
    pipe = Pipeline()

    @pipe.stage(device="cuda:0")
    def work(ctx: Any, x: Any) -> Any:
        seen.append((ctx.stream.handle, threading.get_ident()))
        return x

    before = sim.live["stream"]
    with pipe.sync() as p:
        p(1)
    assert seen[0][0] > 2
    assert sim.live["stream"] == before + 1, "ours are pooled, never destroyed"
    with pipe.sync() as p:
        p(1)
    assert sim.live["stream"] == before + 1
    assert seen[0][0] == seen[1][0], "and used again"


def test_r004_no_synchronisation_is_written_in_the_package() -> None:
    """Events are waited for where the host is too far ahead, or asked for a copy."""
    found = []
    folder = Path(dlexchange.pipeline.__file__).parent
    for path in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and re.search("synchroni", node.attr):
                found.append((path.name, node.attr))
    assert found == [("copies.py", "synchronize"), ("runner.py", "synchronize")]


@LOOPS
@pytest.mark.parametrize("parallel", [True, False], ids=["parallel", "inline"])
@pytest.mark.parametrize("how", ["kept", "broken", "cancelled"])
def test_r004_11_a_future_is_joined_by_nobody_that_blocks(
    loop: str, parallel: bool, how: str
) -> None:
    pipe = Pipeline(parallel=parallel, inflight=1 if how == "kept" else 4)
    promises: list[concurrent.futures.Future[Any]] = []
    passed: list[int] = []

    @pipe.stage
    def ask(ctx: Any, x: Any) -> Any:
        if isinstance(x, str):
            return x
        promises.append(concurrent.futures.Future())
        return {"later": promises[-1], "now": x}

    @pipe.stage
    def use(ctx: Any, x: Any) -> Any:
        passed.append(1)
        return x

    ask >> use
    made: list[Any] = []

    async def main() -> None:
        given: concurrent.futures.Future[Any] = concurrent.futures.Future()
        async with pipe, anyio.create_task_group() as group:

            async def request() -> None:
                try:
                    made.append(await pipe(given))
                except ZeroDivisionError as error:
                    made.append(error)

            group.start_soon(request)
            await until(lambda: pipe._engine.flow.unfinished)
            assert await pipe("plain") == "plain", "the stages are free meanwhile"
            given.set_result(np.arange(2))
            await until(lambda: promises)
            assert len(passed) == 1
            if how == "kept":
                threading.Thread(target=promises[0].set_result, args=(np.ones(2),)).start()
            elif how == "broken":
                promises[0].set_exception(ZeroDivisionError("no"))
            else:
                assert await pipe("plain") == "plain"
                group.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await until(lambda: not pipe._engine.flow.unfinished)
                    promises[0].set_result(None)
            with anyio.CancelScope(shield=True):
                await until(lambda: not pipe._engine.flow.unfinished)
            all_tickets_are_back(pipe)

    with nothing_left():
        run(loop, main)
    if how == "kept":
        assert made[0]["now"].tolist() == [0, 1]
        assert made[0]["later"].tolist() == [1, 1]
    elif how == "broken":
        assert isinstance(made.pop(), ZeroDivisionError)
    else:
        assert made == []


def test_r004_11_what_can_only_be_waited_on_is_ordered_on_the_stages_stream(
    sim: Simulation,
) -> None:
    framework = sim.framework()
    stream = sim.stream()
    seen: list[Any] = []
    pipe = Pipeline()

    @pipe.stage(device="cuda:0")
    def look(ctx: Any, x: Any) -> Any:
        seen.append(ctx.stream.query())
        return None

    latch = sim.latch(stream)
    array = framework.array(4, "int32", stream=stream, fill=1)
    with pipe.sync() as p:
        p(dx.ready(dx.Stream.from_handle("cuda:0", stream.handle, owner=stream)))
        assert seen == [False], "its stream does not wait"
        latch.open()
    del array


def test_r004_12_the_host_is_waited_for_only_where_a_producer_has_no_stream(
    sim: Simulation,
) -> None:
    jnp = pytest.importorskip("jax.numpy")
    framework = sim.framework()
    stream = sim.stream()
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: x["host"].sum() + 1, name="sum", device="cuda:0", framework=None)
    with pipe.sync() as p, framework.use_stream(stream):
        waits, blocking = dx.stats().host_waits, blocking_calls(sim)
        x = framework.array(4, "int32", fill=1)
        assert float(p({"host": jnp.ones(4), "device": x})) == 5
        assert (dx.stats().host_waits, blocking_calls(sim)) == (waits, blocking)
        del x
    host = Pipeline()
    host.stage(lambda ctx, x: x, name="as numpy", framework="numpy")
    with host.sync() as p:
        big = jnp.ones((500, 500))
        for _ in range(8):
            big = big @ big / 500
        before = blocking_calls(sim)
        assert p(big).shape == (500, 500)  # waits for jax, in the stage's thread
        assert blocking_calls(sim) == before


@pytest.mark.parametrize("parallel", [True, False], ids=["parallel", "inline"])
@pytest.mark.parametrize("generator", [True, False], ids=["generator", "function"])
def test_r000_10_waits_for_a_device_are_counted_and_strict_pipelines_refuse_them(
    sim: Simulation, parallel: bool, generator: bool
) -> None:
    framework = sim.framework()
    stream = sim.stream()

    def fetch(ctx: Any, x: Any) -> Any:
        return dx.to_numpy(x, copy=True).sum()

    def fetch_later(ctx: Any, x: Any) -> Any:
        yield
        yield ctx.partial(dx.to_numpy(x, copy=True).sum())
        return 4

    for strict in (False, True):
        pipe = Pipeline(parallel=parallel, strict=strict)
        pipe.stage(fetch_later if generator else fetch, name="fetch", device="cuda:0")
        with pipe.sync() as p, framework.use_stream(stream):
            x = framework.array(4, "int32", fill=1)
            waits = dx.stats().host_waits
            if strict:
                with pytest.raises(dx.StreamError, match="pipeline is strict"):
                    p(x)
            else:
                assert p(x) == 4
            assert dx.stats().host_waits == waits + 1
            all_tickets_are_back(pipe)
            del x


@pytest.mark.parametrize("parallel", [True, False], ids=["parallel", "inline"])
def test_r004_15_a_stage_that_asks_for_it_gets_a_copy_made_on_a_side_stream(
    parallel: bool,
) -> None:
    for policy in ("lazy", "eager", "random"):
        with simulated_cuda(devices=2, policy=policy) as sim:
            copied(sim, parallel)
            finish(sim)


def copied(sim: Simulation, parallel: bool) -> None:
    framework = frameworks(sim)[0]
    pipe = Pipeline(parallel=parallel)
    a = pipe.stage(lambda ctx, x: x + x, name="here", device="cuda:0")

    @pipe.stage(device="cuda:1", copy=True)
    def there(ctx: Any, x: Any) -> Any:
        assert x.device == 1
        return x + x

    c = pipe.stage(lambda ctx, x: x.sum(), name="on the host", copy=True)
    a >> there >> c
    stream = sim.stream(0)
    with pipe.sync() as p, framework.use_stream(stream):
        x = framework.array(8, "int32", fill=3)
        assert p(x) == 96
        assert sim.calls["cuMemcpyPeerAsync"] == 1
        x.fill(4)
        assert p(x) == 128
        all_tickets_are_back(pipe)
        del x
    assert sim.legacy(0).submitted == sim.legacy(1).submitted == 0


def test_r004_15_frameworks_that_cannot_are_named(two_devices: Simulation) -> None:
    sim = two_devices
    stream = sim.stream(0)
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: x, name="there", device="cuda:1", copy=True)
    with pipe.sync() as p:
        x = sim.framework().array(8, "int32", stream=stream, fill=1)
        tensor = dx.from_dlpack(x, stream=stream)
        with pytest.raises(dx.CopyError, match="dlexchange does not copy arrays of"):
            p(tensor)
        del x, tensor


def test_r004_15_the_copy_waits_for_the_memory_on_the_device(two_devices: Simulation) -> None:
    sim = two_devices
    framework = frameworks(sim)[0]
    stream, mine = sim.stream(0), sim.stream(1)
    x = framework.array(8, "int32", stream=stream, fill=1)
    stream.synchronize()
    latch = sim.latch(stream)
    x.fill(5, stream=stream)
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: x + x, name="there", device="cuda:1", copy=True)
    with pipe.sync() as p, framework.use_stream(stream), framework.use_stream(mine):
        y = p(x)
        assert not latch.is_open, "the host waited"
        latch.open()
        assert y.tolist() == [10] * 8
        del x, y
