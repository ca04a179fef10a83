"""What its users do wrong, or at an odd moment, and what they are told."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from support import child

from dlexchange.pipeline import Pipeline

from .support import LOOPS, Gate, held, nothing_left, run, spin


def failing() -> Pipeline:
    pipe = Pipeline("shop")

    @pipe.stage
    def fail(ctx: Any, x: Any) -> Any:
        raise KeyError("what")

    return pipe


def asks_in_a_loop(ask: Callable[[Pipeline], Any]) -> Callable[[Pipeline], None]:
    """Make a coroutine function's way of asking one without an event loop."""

    def enter(pipe: Pipeline) -> None:
        async def main() -> None:
            async with pipe:
                await ask(pipe)

        run("asyncio", main)

    return enter


def asks_here(ask: Callable[[Any], Any]) -> Callable[[Pipeline], None]:
    def enter(pipe: Pipeline) -> None:
        with pipe.sync() as p:
            ask(p)

    return enter


WAYS = {
    "call": asks_in_a_loop(lambda p: p(1)),
    "stream": asks_in_a_loop(lambda p: anext(p.stream(1))),
    "map": asks_in_a_loop(lambda p: anext(p.map([1]))),
    "sync call": asks_here(lambda p: p(1)),
    "sync stream": asks_here(lambda p: list(p.stream(1))),
    "sync map": asks_here(lambda p: list(p.map([1]))),
    "sync submit": asks_here(lambda p: p.submit(1).result()),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_error_names_the_users_line_however_he_asked(way: Callable[[Pipeline], None]) -> None:
    with pytest.raises(KeyError) as caught:
        way(failing())
    assert __file__ in caught.value.__notes__[0]


@pytest.mark.parametrize("option", ["timeout", "on_progress", "buffer"])
def test_an_option_that_a_call_does_not_take_is_no_parameter(option: str) -> None:
    ask = asks_here(lambda p: list(p.map([1], **{option: None})))
    with pytest.raises(TypeError, match=f"{option}= is no option"):
        ask(failing())


def test_a_buffer_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="buffer must be at least 1"):
        asks_here(lambda p: list(p.stream(1, buffer=0)))(failing())


@pytest.mark.filterwarnings("error")
def test_what_cannot_be_iterated_cannot_be_mapped() -> None:
    async def ask(pipe: Pipeline) -> None:
        pipe.map(3)

    with pytest.raises(TypeError, match="not iterable"):
        asks_in_a_loop(ask)(failing())
    gc.collect()


def test_asked_without_an_event_loop_it_says_how() -> None:
    pipe = failing()
    with pytest.raises(RuntimeError, match="not running"):
        pipe(1)
    with pipe.sync(), pytest.raises(RuntimeError, match=r"no event loop .* pipe\.sync"):
        pipe(1)


def test_a_coroutine_function_is_no_listener() -> None:
    async def listen(news: Any) -> None: ...

    with failing().sync() as p, pytest.raises(TypeError, match="not async"):
        p(1, on_progress=listen)


@LOOPS
def test_what_a_listener_raises_is_raised_also_when_the_stage_was_faster(loop: str) -> None:
    pipe = Pipeline()

    @pipe.stage
    def work(ctx: Any, x: Any) -> Any:
        ctx.progress(1, 1)
        return x

    def listen(news: Any) -> None:
        spin(lambda: not pipe._engine.flow.unfinished)
        raise ValueError("enough")

    async def main() -> None:
        async with pipe:
            with pytest.raises(ValueError, match="enough"):
                await pipe(1, on_progress=listen)

    with nothing_left():
        run(loop, main)


def test_a_returned_partial_is_no_result() -> None:
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: ctx.partial(x), name="s")
    with pipe.sync() as p, pytest.raises(TypeError, match="'s' returned a partial result: yield"):
        p(1)


def test_a_pipeline_that_keeps_less_than_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="keep"):
        Pipeline(keep=-1)


def test_a_forked_child_enters_it_anew_and_leaves_its_parents_block() -> None:
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: x, name="same")
    with pipe.sync() as p:
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            status = 1
            try:
                with pipe.sync() as again:
                    assert again(7) == 7
                p.__exit__(None, None, None)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert p(8) == 8


@pytest.mark.parametrize("timeout", [None, 60])
def test_a_coroutine_that_is_closed_cancels_its_request(timeout: float | None) -> None:
    gate = Gate()
    pipe = held(gate)

    async def main() -> None:
        async with pipe:
            asked: Any = pipe(1, timeout=timeout)
            asked.send(None)
            await gate.reached()
            asked.close()
            assert all(request.is_ended for request in pipe._engine.flow.unfinished)
            gate.open()

    with nothing_left():
        run("asyncio", main)


def test_a_future_that_is_told_twice_keeps_its_result() -> None:
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: x, name="same")
    with pipe.sync() as p:
        future = p.submit(7)
        spin(future.done)
        future.finish()  # two last stages end at the same time: each tells that all is done
        assert future.result() == 7


def test_what_has_to_be_installed_is_named() -> None:
    said = child.run(
        """
        import sys
        import dlexchange as dx
        sys.modules.update(anyio=None, jax=None)
        x = dx.wrap(bytearray(8))
        for use in (lambda: __import__("dlexchange.pipeline"), lambda: dx.to_jax(x)):
            try:
                use()
            except ModuleNotFoundError as error:
                print(error)
        del sys.modules["anyio"]
        sys.modules["rich"] = None
        from dlexchange.pipeline import Pipeline
        pipe = Pipeline()
        pipe.stage(lambda ctx, x: x)
        with pipe.sync():
            try:
                pipe.live().__enter__()
            except ModuleNotFoundError as error:
                print(error)
        """
    )
    assert said.splitlines()[0] == "dlexchange.pipeline needs anyio: pip install anyio"
    assert "jax" in said.splitlines()[1]
    assert said.splitlines()[2] == "pipe.live() needs rich: pip install rich"
