"""The requirements of thread 000, "cancelable and asynchronous pipelines", one test each."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import numpy as np
import pytest

import dlexchange as dx
from dlexchange.pipeline import Pipeline, Progress

from .support import LOOPS, MODES, Gate, all_tickets_are_back, nothing_left, outcomes, run, until

STEPS = 50


def denoiser(ran: list[int], gate: Gate | None = None, gate_at: int = 5, **options: Any) -> Any:
    """A pipeline of one generator stage that notes each step, and stops at a gate."""
    pipe = Pipeline("t2i", **options)

    @pipe.stage
    def denoise(ctx: Any, x: Any) -> Any:
        for i in range(STEPS):
            ran.append(i)
            if gate is not None and i == gate_at:
                gate.wait()
            yield ctx.partial(x + i, step=i)
        return x * 2

    return pipe


async def cancel_at_gate(pipe: Pipeline, gate: Gate) -> None:
    async with anyio.create_task_group() as group:

        async def ask() -> None:
            await pipe(np.zeros(3))

        group.start_soon(ask)
        await gate.reached()
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await until(lambda: all(one.is_ended for one in pipe._engine.flow.unfinished))
        gate.open()  # the stage was in the middle of its work when it was cancelled


@LOOPS
def test_r000_1_cancel_at_step_k_runs_k_steps_and_the_next_request_needs_no_rebuild(
    loop: str,
) -> None:
    ran: list[int] = []
    gate = Gate()
    pipe = denoiser(ran, gate)

    async def main() -> None:
        async with pipe:
            thread = pipe._engine._workers[0].thread
            await cancel_at_gate(pipe, gate)
            assert ran == list(range(6)), "the step that was running, and none after it"
            all_tickets_are_back(pipe)
            assert (await pipe(np.ones(3))).tolist() == [2, 2, 2]
            assert pipe._engine._workers[0].thread is thread
            assert outcomes(pipe) == {"finished": 1, "failed": 0, "cancelled": 1}

    with nothing_left():
        run(loop, main)


@LOOPS
@MODES
@pytest.mark.parametrize("how", ["break", "aclose", "with"])
def test_r000_2_leaving_the_loop_stops_the_remaining_steps(
    loop: str, parallel: bool, how: str
) -> None:
    ended: list[str] = []
    ran: list[int] = []
    pipe = Pipeline(parallel=parallel)

    @pipe.stage
    def denoise(ctx: Any, x: Any) -> Any:
        try:
            for i in range(STEPS):
                ran.append(i)
                yield ctx.partial(i, step=i)
        except GeneratorExit:
            ended.append(threading.current_thread().name)
            raise

    async def main() -> None:
        async with pipe:
            if how == "break":
                async for part in pipe.stream(0, buffer=2):
                    if part.step == 3:
                        break
            elif how == "aclose":
                parts = pipe.stream(0, buffer=2)
                async for part in parts:
                    if part.step == 3:
                        await parts.aclose()
            else:
                async with pipe.stream(0, buffer=2) as parts:
                    async for part in parts:
                        if part.step == 3:
                            break
            await until(lambda: not pipe._engine.flow.unfinished)
            all_tickets_are_back(pipe)

    with nothing_left():
        run(loop, main)
    assert ended == ["pipeline/denoise" if parallel else threading.current_thread().name]
    assert max(ran) <= 7  # step 3, two in the buffer, one that waits for room


@LOOPS
@MODES
def test_r000_3_cancelling_a_coroutine_prevents_the_remaining_steps(
    loop: str, parallel: bool
) -> None:
    ran: list[int] = []
    gate = Gate()
    pipe = denoiser(ran, gate if parallel else None, parallel=parallel)

    async def main() -> None:
        async with pipe:
            if parallel:
                await cancel_at_gate(pipe, gate)
            else:  # the loop runs the steps: cancellation is seen between them
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as group:
                        group.start_soon(pipe.__call__, np.zeros(3))
                        while len(ran) < 6:
                            await anyio.sleep(0)
                        scope.cancel()
            all_tickets_are_back(pipe)

    with nothing_left():
        run(loop, main)
    assert 6 <= len(ran) < STEPS


def test_r000_3_task_cancel_of_asyncio_prevents_the_remaining_steps() -> None:
    ran: list[int] = []
    gate = Gate()
    pipe = denoiser(ran, gate)

    async def main() -> None:
        async with pipe:
            task = asyncio.ensure_future(pipe(np.zeros(3)))
            await gate.reached()
            task.cancel()
            await until(lambda: all(one.is_ended for one in pipe._engine.flow.unfinished))
            gate.open()
            with pytest.raises(asyncio.CancelledError):
                await task
            all_tickets_are_back(pipe)

    with nothing_left():
        asyncio.run(main())
    assert ran == list(range(6))


@LOOPS
def test_r000_4_the_loop_runs_on_while_a_stage_works(loop: str) -> None:
    gate = Gate()
    pipe = Pipeline()

    @pipe.stage
    def work(ctx: Any, x: Any) -> Any:
        gate.wait()
        return x

    async def main() -> None:
        beats = 0
        async with pipe, anyio.create_task_group() as group:
            group.start_soon(pipe.__call__, 1)
            await gate.reached()
            while beats < 1000:  # the stage is held: were the loop, too, this would hang
                await anyio.sleep(0)
                beats += 1
            gate.open()
        assert beats == 1000

    run(loop, main)


def test_r000_5_await_works_at_top_level_and_the_sync_form_says_so_there() -> None:
    pipe = Pipeline()

    @pipe.stage
    def double(ctx: Any, x: Any) -> Any:
        return x * 2

    async def notebook() -> None:
        with pytest.raises(RuntimeError, match="async with pipe"), pipe.sync():
            pass
        async with pipe:
            assert await pipe(21) == 42
            with pytest.raises(RuntimeError, match="await pipe"):
                pipe.submit(21)

    asyncio.run(notebook())
    with pipe.sync() as p:
        assert p(21) == 42


@MODES
def test_r000_7_each_stage_has_one_thread_of_its_own_and_the_loop_has_none_of_them(
    parallel: bool,
) -> None:
    seen: dict[str, set[int]] = {"a": set(), "b": set()}
    pipe = Pipeline(parallel=parallel)

    @pipe.stage
    def a(ctx: Any, x: Any) -> Any:
        seen["a"].add(threading.get_ident())
        return x

    @pipe.stage
    def b(ctx: Any, x: Any) -> Any:
        seen["b"].add(threading.get_ident())
        yield
        seen["b"].add(threading.get_ident())
        return x

    a >> b

    async def main() -> None:
        async with pipe:
            assert [x async for x in pipe.map(range(20))] == list(range(20))

    asyncio.run(main())
    assert len(seen["a"]) == len(seen["b"]) == 1
    distinct = seen["a"] | seen["b"] | {threading.get_ident()}
    assert len(distinct) == (3 if parallel else 1)


@MODES
def test_r000_8_a_stage_is_never_entered_twice_at_a_time_and_its_model_is_loaded_once(
    parallel: bool,
) -> None:
    inside = threading.Lock()
    loaded: list[object] = []
    used: set[int] = set()
    pipe = Pipeline(parallel=parallel, inflight=8)

    def load() -> object:
        loaded.append(object())
        return loaded[0]

    @pipe.stage(load=load)
    def work(ctx: Any, x: Any) -> Any:
        assert inside.acquire(blocking=False), "entered twice"
        used.add(id(ctx.model))
        yield
        inside.release()
        return x

    async def main() -> None:
        async with pipe, anyio.create_task_group() as group:
            for i in range(50):
                group.start_soon(pipe.__call__, i)

    asyncio.run(main())
    assert len(loaded) == 1
    assert used == {id(loaded[0])}


def test_r000_9_without_parallelism_results_are_the_same_and_there_is_no_thread() -> None:
    results = []
    for parallel in (True, False):
        pipe = Pipeline(parallel=parallel)
        before = threading.active_count()

        @pipe.stage
        def a(ctx: Any, x: Any) -> Any:
            return np.sin(x)

        @pipe.stage
        def b(ctx: Any, x: Any) -> Any:
            return x * np.float32(1.1)

        @pipe.stage
        def c(ctx: Any, x: Any, y: Any) -> Any:
            return x - y

        a >> (b,) >> c
        a >> c
        with pipe.sync() as p:
            assert threading.active_count() == before + (3 if parallel else 0)
            xs = [np.arange(5, dtype=np.float32) + i for i in range(10)]
            results.append([y.tobytes() for y in p.map(xs)])
    assert results[0] == results[1]
    expected = [(np.sin(x) * np.float32(1.1) - np.sin(x)).tobytes() for x in xs]
    assert results[0] == expected


@LOOPS
@MODES
def test_r000_12_a_filter_holds_partial_results_back(loop: str, parallel: bool) -> None:
    pipe = Pipeline(parallel=parallel)

    @pipe.stage
    def denoise(ctx: Any, x: Any) -> Any:
        for i in range(6):
            yield ctx.partial(x + i, step=i, internal=i == 4)
        return x

    @pipe.filter
    def safe(ctx: Any, value: Any) -> Any:
        assert ctx.part.stage == "denoise"
        return None if ctx.part.step % 2 else value * 10

    plain = Pipeline(parallel=parallel)
    plain.stage(denoise.function)

    async def main() -> None:
        async with pipe, plain:
            parts = [part async for part in pipe.stream(1)]
            assert [(p.step, p.value) for p in parts[:-1]] == [(0, 10), (2, 30), (4, 50)]
            assert parts[-1].is_result
            assert parts[-1].value == 1
            parts = [part async for part in plain.stream(1)]
            assert [p.step for p in parts[:-1]] == [0, 1, 2, 3, 5], "4 is internal"
            all_tickets_are_back(pipe)

    run(loop, main)


@LOOPS
def test_r000_13_a_slow_listener_does_not_hold_up_the_stage_and_misses_news(loop: str) -> None:
    ran: list[int] = []
    heard: list[Progress] = []
    done = threading.Event()
    pipe = Pipeline()

    @pipe.stage
    def work(ctx: Any, x: Any) -> Any:
        for i in range(1000):
            ran.append(i)
            ctx.progress(i, 1000)
        done.set()
        return x

    def listen(news: Progress) -> None:
        if not heard:
            assert done.wait(60), "the stage waits for its listener"
        heard.append(news)

    async def main() -> None:
        async with pipe:
            await pipe(0, on_progress=listen)

    run(loop, main)
    assert len(ran) == 1000
    assert heard[-1] == Progress("work", 999, 1000), "the newest news is kept"
    assert len(heard) < 100, "old news is dropped"


def test_r000_13_without_an_event_loop_listeners_have_a_thread() -> None:
    heard: list[str] = []
    pipe = Pipeline()

    @pipe.stage
    def work(ctx: Any, x: Any) -> Any:
        ctx.progress(1, 2)
        return x

    with nothing_left(), pipe.sync() as p:
        p(0, on_progress=lambda news: heard.append(threading.current_thread().name))
    assert heard == ["pipeline-progress"]


@LOOPS
def test_r000_14_a_listener_ends_the_request_by_raising(loop: str) -> None:
    pipe = Pipeline()
    heard = Gate()

    @pipe.stage
    def work(ctx: Any, x: Any) -> Any:
        for i in range(STEPS):
            yield ctx.partial(x, step=i)
            if i == 3:
                heard.wait()
        raise AssertionError("it ran to the end")

    def listen(news: Progress) -> None:
        heard.open()
        raise ValueError(f"enough at step {news.step}")

    async def main() -> None:
        async with pipe:
            with pytest.raises(ValueError, match="enough"):
                await pipe(0, on_progress=listen)
            all_tickets_are_back(pipe)

    run(loop, main)


@LOOPS
def test_r000_14_checkpoint_raises_cancelled_in_the_stage(loop: str) -> None:
    gate = Gate()
    raised: list[BaseException] = []
    pipe = Pipeline()

    @pipe.stage
    def work(ctx: Any, x: Any) -> Any:
        ctx.checkpoint()
        gate.wait()
        try:
            ctx.checkpoint()
        except Exception:  # a Cancelled must pass this
            raise AssertionError("swallowed") from None
        except dx.Cancelled as error:
            raised.append(error)
            raise

    async def main() -> None:
        async with pipe:
            await cancel_at_gate(pipe, gate)
            all_tickets_are_back(pipe)

    run(loop, main)
    assert len(raised) == 1


class NativePipeline:
    """A stand-in for a diffusers pipeline: calls back at each step, decodes at the end."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.decoded = 0

    def __call__(self, prompt: Any, *, num_inference_steps: int = 10, callback_on_step_end: Any):
        latents = np.zeros(2)
        for i in range(num_inference_steps):
            self.steps.append(i)
            latents = latents + prompt
            latents = callback_on_step_end(self, i, 1000 - i, {"latents": latents})["latents"]
        self.decoded += 1
        return latents


@LOOPS
def test_r000_15_a_native_pipeline_is_adapted_unchanged_and_does_not_decode_when_cancelled(
    loop: str,
) -> None:
    from dlexchange.pipeline.diffusers import adapt

    native = NativePipeline()
    pipe = Pipeline()
    pipe.stage(adapt(lambda: native, num_inference_steps=4), name="t2i")

    async def main() -> None:
        async with pipe:
            parts = [part async for part in pipe.stream(1.0)]
            assert [p.step for p in parts[:-1]] == [0, 1, 2, 3]
            assert [p.value[0] for p in parts] == [1, 2, 3, 4, 4]
            assert native.decoded == 1
            native.steps.clear()
            async with pipe.stream(1.0, buffer=1) as parts:
                async for _part in parts:
                    break
            all_tickets_are_back(pipe)

    run(loop, main)
    assert native.decoded == 1, "a cancelled request was decoded"
    assert len(native.steps) <= 3
