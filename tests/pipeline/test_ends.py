"""How requests and pipelines end: left, cancelled, timed out, let go of."""

from __future__ import annotations

import concurrent.futures
import gc
import threading
import traceback
import weakref
from collections import deque
from typing import Any

import anyio
import pytest

import dlexchange as dx
from dlexchange.pipeline import Pipeline
from dlexchange.pipeline.inbox import Guard

from .support import (
    LOOPS,
    MODES,
    Gate,
    all_tickets_are_back,
    held,
    nothing_left,
    outcomes,
    run,
    spin,
    until,
)


@LOOPS
def test_leaving_the_block_waits_for_what_is_inside_and_refuses_what_comes(loop: str) -> None:
    gate = Gate()
    pipe = held(gate)
    results: list[Any] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:
            async with pipe:

                async def ask() -> None:
                    results.append(await pipe(7))

                group.start_soon(ask)
                await gate.reached()

                async def late() -> None:
                    await until(lambda: pipe._engine.flow._refusal is not None)
                    with pytest.raises(RuntimeError, match="has been left"):
                        await pipe(8)
                    gate.open()

                group.start_soon(late)

    with nothing_left():
        run(loop, main)
    assert results == [7]


def endless_parts(parallel: bool) -> Pipeline:
    pipe = Pipeline(parallel=parallel)

    @pipe.stage
    def endless(ctx: Any, x: Any) -> Any:
        while True:
            yield ctx.partial(x)

    return pipe


@LOOPS
@MODES
def test_who_leaves_the_block_cancels_the_parts_he_was_taking(loop: str, parallel: bool) -> None:
    pipe = endless_parts(parallel)

    async def main() -> None:
        async with pipe:
            parts = pipe.stream(7)
            assert (await anext(parts)).value == 7
        with pytest.raises(dx.Cancelled):
            await anext(parts)

    with nothing_left():
        run(loop, main)


@LOOPS
def test_parts_that_another_task_takes_are_waited_for(loop: str) -> None:
    gate = Gate()
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: (gate.wait(), ctx.emit(ctx.partial(x)), x)[2], name="held")
    taken: list[Any] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:
            async with pipe:
                parts = pipe.stream(7, buffer=1)

                async def take() -> None:
                    async for part in parts:
                        taken.append(part.value)

                group.start_soon(take)
                await gate.reached()
                await until(lambda: parts._is_busy)
                gate.open()

    with nothing_left():
        run(loop, main)
    assert taken == [7, 7]


@LOOPS
def test_where_no_thread_is_left_entering_fails_and_those_that_started_end(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: x, name="a") >> pipe.stage(lambda ctx, x: x, name="b")
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name.endswith("/b"):
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="new thread"):
            await pipe.__aenter__()

    with nothing_left():
        run(loop, main)
        with pytest.raises(RuntimeError, match="new thread"):
            pipe.sync().__enter__()


def test_without_parallelism_nobody_waits_for_what_another_thread_cancels() -> None:
    pipe = Pipeline(parallel=False)
    stage = pipe.stage(lambda ctx, x: x, name="same")
    with pipe.sync() as p:
        flow = pipe._engine.flow

        class Raced(deque[Any]):
            def __bool__(self) -> bool:
                is_there = len(self) > 0
                if not flow.guard.lock.locked():  # as if cancelled once the question is asked
                    self.clear()
                return is_there

        flow.inboxes[stage].items = Raced()
        assert p(7) == 7


def test_without_parallelism_several_threads_do_the_steps_of_one_request() -> None:
    pipe = Pipeline(parallel=False)

    @pipe.stage
    def work(ctx: Any, x: Any) -> Any:
        for i in range(3):
            ctx.checkpoint()
            yield ctx.partial(i)
        return x

    with pipe.sync() as p:
        parts = p.stream(7)
        taken = [next(parts)]
        thread = threading.Thread(target=lambda: taken.extend(parts))
        thread.start()
        thread.join()
        assert [part.value for part in taken] == [0, 1, 2, 7]
        with pipe._engine._turn:  # another thread's
            pipe._engine.check()


def test_a_filter_that_is_the_last_to_work_lets_the_pipeline_be_left() -> None:
    gate = Gate()
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: (ctx.emit(ctx.partial(x)), x)[1], name="work")
    pipe.filter(lambda ctx, x: (gate.wait(), x)[1], name="look")

    def take() -> None:
        taken.extend(part.value for part in pipe.sync().stream(7))

    taken: list[Any] = []
    with nothing_left():
        thread = threading.Thread(target=take)
        with pipe.sync():
            thread.start()
            assert gate.arrived.acquire(timeout=60)
            flow = pipe._engine.flow
            opener = threading.Thread(target=lambda: (spin(lambda: flow._idle), gate.open()))
            opener.start()
        thread.join()
        opener.join()
    assert taken == [7, 7]


@MODES
@pytest.mark.parametrize("taken", [0, 1])
def test_parts_without_an_event_loop_are_cancelled_by_leaving(parallel: bool, taken: int) -> None:
    pipe = endless_parts(parallel)
    with nothing_left(), pipe.sync() as p:
        parts = p.stream(7)
        for _ in range(taken):
            next(parts)
    with nothing_left(), pipe.sync() as p:
        dropped = p.stream(7)
        del dropped
        spin(lambda: not pipe._engine.flow.unfinished)
    del parts


@LOOPS
def test_leaving_the_block_by_an_error_cancels_what_is_inside(loop: str) -> None:
    gate = Gate()
    pipe = held(gate, inflight=1)
    ended: list[BaseException] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                try:
                    await pipe(7)
                except dx.Cancelled as error:
                    ended.append(error)

            async def leave() -> None:
                async with pipe:
                    group.start_soon(ask)
                    group.start_soon(ask)
                    await gate.reached()
                    await until(lambda: len(pipe._engine.flow.unfinished) == 2)
                    group.start_soon(open_later, pipe._engine.flow)
                    raise ValueError("out")

            async def open_later(flow: Any) -> None:
                await until(lambda: all(one.is_ended for one in flow.unfinished))
                gate.open()

            with pytest.raises(ValueError, match="out"):
                await leave()

    with nothing_left():
        run(loop, main)
    assert len(ended) == 2


@LOOPS
@MODES
def test_a_timeout_cancels(loop: str, parallel: bool) -> None:
    pipe = Pipeline(parallel=parallel)

    @pipe.stage
    def endless(ctx: Any, x: Any) -> Any:
        while True:
            yield

    async def main() -> None:
        async with pipe:
            with pytest.raises(TimeoutError):
                await pipe(1, timeout=0.01)
            all_tickets_are_back(pipe)

    with nothing_left():
        run(loop, main)
        with pipe.sync() as p, pytest.raises(TimeoutError):
            p(1, timeout=0.01)


def test_a_future_is_cancelled_while_it_waits_and_while_it_runs() -> None:
    gate = Gate()
    pipe = held(gate, inflight=1)
    with nothing_left(), pipe.sync() as p:
        running, waiting = p.submit(1), p.submit(2)
        assert gate.arrived.acquire(timeout=60)
        assert waiting.cancel()
        assert running.cancel()
        for future in (running, waiting):
            with pytest.raises(concurrent.futures.CancelledError):
                future.result()
        gate.open()
        done = p.submit(3)
        assert done.result() == 3
        assert not done.cancel()
        assert outcomes(pipe) == {"finished": 1, "failed": 0, "cancelled": 2}


@LOOPS
def test_cancelled_while_queued_it_never_runs_and_others_are_untouched(loop: str) -> None:
    gate = Gate()
    ran: list[int] = []
    pipe = Pipeline(inflight=1)
    pipe.stage(lambda ctx, x: (ran.append(x), gate.wait(), x)[2], name="held")

    async def main() -> None:
        results: list[int] = []
        async with pipe, anyio.create_task_group() as group:

            async def ask(x: int) -> None:
                results.append(await pipe(x))

            group.start_soon(ask, 1)
            await gate.reached()
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as inner:
                    inner.start_soon(ask, 2)
                    await until(lambda: len(pipe._engine.flow._queue) == 1)
                    scope.cancel()
            assert not pipe._engine.flow._queue
            group.start_soon(ask, 3)
            gate.open()
        assert sorted(results) == [1, 3]

    with nothing_left():
        run(loop, main)
    assert ran == [1, 3]


def test_the_error_of_a_request_is_shown_with_its_notes() -> None:
    pipe = Pipeline("shop")

    @pipe.stage
    def fail(ctx: Any, x: Any) -> Any:
        raise KeyError("what")

    with pipe.sync() as p:
        try:
            p(1)
        except KeyError:
            text = traceback.format_exc()
    assert "in fail" in text


def test_an_idle_stage_keeps_nothing() -> None:
    class Big:
        pass

    pipe = Pipeline()
    a = pipe.stage(lambda ctx, x: Big(), name="a")
    a >> pipe.stage(lambda ctx, x: x, name="b")
    with pipe.sync() as p:
        alive = weakref.ref(p(1))
        spin(lambda: alive() is None)


def test_a_request_with_a_listener_keeps_nothing_once_it_is_let_go_of() -> None:
    class Big:
        pass

    pipe = Pipeline()
    pipe.stage(lambda ctx, x: ctx.emit(ctx.partial(Big(), step=1)), name="work")

    async def main() -> None:
        async with pipe:
            parts = pipe.stream(1, on_progress=lambda news: None)
            await until(lambda: not pipe._engine.flow.unfinished)
            alive = weakref.ref(parts._request.parts[0][1])
            gc.disable()
            try:
                del parts
                spin(lambda: alive() is None)  # without the collector
            finally:
                gc.enable()

    run("asyncio", main)


def test_a_failed_future_keeps_nothing_once_it_is_let_go_of() -> None:
    class Big:
        pass

    pipe = Pipeline()

    @pipe.stage
    def work(ctx: Any, x: Any) -> Any:
        raise ValueError("work")

    with pipe.sync() as p:
        alive = weakref.ref(big := Big())
        future = p.submit(big)
        spin(future.done)
        gc.disable()
        try:
            del big, future
            spin(lambda: alive() is None)  # without the collector
        finally:
            gc.enable()


def test_cancelled_it_lets_go_of_its_input_at_once() -> None:
    class Big:
        pass

    gate = Gate()
    pipe = held(gate, inflight=1)
    with nothing_left(), pipe.sync() as p:
        p.submit(1)
        waiting = p.submit(big := Big())
        alive = weakref.ref(big)
        waiting.cancel()
        del big
        assert alive() is None, "a request that nobody wants keeps what it was given"
        gate.open()


def test_a_destructor_cancels_also_while_the_lock_is_held() -> None:
    gate = Gate()
    pipe = held(gate, inflight=1)

    async def main() -> None:
        async with pipe:
            running, parts = pipe.stream(1), pipe.stream(2)
            await gate.reached()
            flow = pipe._engine.flow
            with flow.guard:  # as the collector may, in the middle of anything
                del parts
            assert len(flow.unfinished) == 1
            gate.open()
            await running.aclose()
            all_tickets_are_back(pipe)

    with nothing_left():
        run("asyncio", main)


def test_a_destructor_closes_no_generator_while_the_lock_is_held() -> None:
    pipe = endless_parts(parallel=False)

    async def main() -> None:
        async with pipe:
            parts = pipe.stream(1)
            await anext(parts)
            flow = pipe._engine.flow
            with flow.guard:
                del parts
            assert len(flow.unfinished) == 1
        assert not flow.unfinished

    with nothing_left():
        run("asyncio", main)


def test_what_was_abandoned_is_seen_to_by_one_thread_where_two_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[int] = []
    guard = Guard(ended.append)

    def is_free() -> bool:  # and between this question and what follows it ...
        ended.extend(guard.abandoned)
        guard.abandoned.clear()
        return True

    monkeypatch.setattr(guard, "is_free", is_free)
    guard.abandon(7)
    assert ended == [7]
