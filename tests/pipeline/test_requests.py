"""Requests, whatever they carry: bounded, ordered, cancelled anywhere, errors their own."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import gc
import random
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import numpy as np
import pytest

from dlexchange.pipeline import Pipeline

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
)


def identity(**options: Any) -> Pipeline:
    pipe = Pipeline(**options)
    pipe.stage(lambda ctx, x: x, name="identity")
    return pipe


# --- shapes ---


@MODES
def test_several_last_stages_give_a_dict_and_several_inputs_come_in_the_order_of_joining(
    parallel: bool,
) -> None:
    pipe = Pipeline(parallel=parallel)
    a = pipe.stage(lambda ctx, x: x + 1, name="a")
    b = pipe.stage(lambda ctx, x: x * 10, name="b")
    c = pipe.stage(lambda ctx, x: x * 100, name="c")
    d = pipe.stage(lambda ctx, x, y: (x, y), name="d")
    e = pipe.stage(lambda ctx, x: -x, name="e")
    a >> (b, c) >> d
    a >> e
    with pipe.sync() as p:
        assert p(1) == {"d": (20, 200), "e": -2}


@dataclasses.dataclass
class Sample:
    image: Any
    label: str


@dataclasses.dataclass(frozen=True)
class Counted:
    image: Any
    size: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(self.image))


async def coroutine(ctx: Any, x: Any) -> Any:
    return x


async def asynchronous_generator(ctx: Any, x: Any) -> Any:
    yield


class Asynchronous:
    async def __call__(self, ctx: Any, x: Any) -> Any:
        return x


@pytest.mark.slow
@MODES
def test_trees_travel_and_frameworks_are_converted(parallel: bool) -> None:
    torch = pytest.importorskip("torch")
    pipe = Pipeline(parallel=parallel)
    seen: list[Any] = []

    @pipe.stage(framework="torch")
    def look(ctx: Any, x: Any) -> Any:
        seen.append(x)
        return {"mean": x["batch"][0].image.mean(), "n": (len(x["batch"]), None)}

    image = np.arange(4, dtype=np.float32)
    with pipe.sync() as p:
        made = p({"batch": [Sample(image, "cat")]})
    assert isinstance(seen[0]["batch"][0].image, torch.Tensor)
    assert seen[0]["batch"][0].image.data_ptr() == image.ctypes.data
    assert seen[0]["batch"][0].label == "cat"
    assert float(made["mean"]) == 1.5
    assert made["n"] == (1, None)


def test_containers_keep_their_kind_and_what_they_hold() -> None:
    held = [
        collections.defaultdict(list, a=1),
        collections.Counter("abb"),
        collections.OrderedDict(b=1, a=2),
        Counted(np.arange(3)),
    ]
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: x, name="same")
    with pipe.sync() as p:
        made = p(held)
    assert made[:3] == held[:3]
    assert [type(one) for one in made] == [type(one) for one in held]
    assert made[0]["new"] == []
    assert "new" not in held[0]
    assert made[3].image is held[3].image
    assert made[3].size == 3


@pytest.mark.parametrize("as_class", [True, False])
def test_a_class_is_made_and_loaded_in_its_own_thread(as_class: bool) -> None:
    threads: list[int] = []
    pipe = Pipeline()

    class Encoder:
        def load(self) -> None:
            threads.append(threading.get_ident())

        def __call__(self, ctx: Any, x: Any) -> Any:
            threads.append(threading.get_ident())
            return x

    pipe.stage(Encoder if as_class else Encoder())
    with pipe.sync() as p:
        assert p(3) == 3
    assert len(threads) == 2
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda p: None, "no stage"),
        (lambda p: [p.stage(print, name="a"), p.stage(print, name="b")], "joined to no other"),
        (lambda p: [p.stage(print), p.stage(print)], "already"),
        (lambda p: (a := p.stage(print)) >> a, "cycle"),
        (lambda p: p.stage(print) >> 3, None),
        (lambda p: p.stage(print, lookahead=0), "lookahead"),
        (lambda p: p.stage("encode"), "'encode'"),
        (lambda p: p.stage(coroutine), "not async"),
        (lambda p: p.stage(asynchronous_generator), "not async"),
        (lambda p: p.stage(Asynchronous), "not async"),
        (lambda p: p.stage(Asynchronous()), "not async"),
        (lambda p: [p.filter(print, name="f"), p.filter(print, name="g")], "filter already"),
    ],
)
def test_what_is_no_pipeline_is_refused(build: Any, says: str | None) -> None:
    pipe = Pipeline()

    def enter() -> None:
        build(pipe)
        with pipe.sync():
            pass

    with pytest.raises((ValueError, TypeError), match=says):
        enter()


# --- bounds ---


@LOOPS
def test_map_is_lazy_and_pulls_at_most_inflight(loop: str) -> None:
    pulled: list[int] = []

    def source() -> Iterator[int]:
        for i in range(1000):
            pulled.append(i)
            yield i

    async def slow_source() -> AsyncIterator[int]:
        for i in source():
            await anyio.sleep(0)
            yield i

    async def main() -> None:
        pipe = identity(inflight=3)
        async with pipe:
            for xs in (source(), slow_source()):
                pulled.clear()
                results = pipe.map(xs)
                assert await results.__anext__() == 0
                assert len(pulled) <= 4
                await results.aclose()
                all_tickets_are_back(pipe)

    run(loop, main)


def test_a_full_pipe_waits_and_does_not_grow() -> None:
    gate = Gate()
    pipe = held(gate, inflight=2, queue=3)
    with nothing_left(), pipe.sync() as p:
        accepted = [p.submit(i) for i in range(5)]
        entered = threading.Event()

        def sixth() -> None:
            entered.set()
            accepted.append(p.submit(5))

        thread = threading.Thread(target=sixth)
        thread.start()
        assert entered.wait(60)
        spin(lambda: pipe._engine.flow._door)
        assert len(accepted) == 5, "the sixth waits at the door"
        assert sum(len(i.items) for i in pipe._engine.flow.inboxes.values()) <= 2
        gate.open()
        thread.join(60)
        assert [future.result() for future in accepted] == list(range(6))


@LOOPS
def test_requests_of_many_tasks_are_answered_in_order_of_arrival(loop: str) -> None:
    order: list[int] = []
    pipe = Pipeline(inflight=1)
    pipe.stage(lambda ctx, x: order.append(x), name="note")

    async def main() -> None:
        async with pipe, anyio.create_task_group() as group:
            for i in range(100):
                group.start_soon(pipe.__call__, i)

    run(loop, main)
    assert sorted(order) == list(range(100))


def test_a_consumer_that_does_not_take_parts_holds_the_stage_and_cancelling_frees_it() -> None:
    ran: list[int] = []
    pipe = Pipeline()

    @pipe.stage
    def work(ctx: Any, x: Any) -> Any:
        for i in range(100):
            ran.append(i)
            yield ctx.partial(i, step=i)

    with nothing_left(), pipe.sync() as p:
        parts = p.stream(0, buffer=3)
        assert next(parts).step == 0
        spin(lambda: len(ran) >= 5)
        assert p._pipe._engine.flow.unfinished
        parts.close()
        spin(lambda: not pipe._engine.flow.unfinished)
        assert len(ran) == 5
        all_tickets_are_back(pipe)


# --- errors ---


@LOOPS
@MODES
def test_an_error_stays_with_its_request_and_names_stage_and_call_site(
    loop: str, parallel: bool
) -> None:
    pipe = Pipeline("shop", parallel=parallel)
    a = pipe.stage(lambda ctx, x: x, name="a")

    @pipe.stage
    def divide(ctx: Any, x: Any) -> Any:
        return 1 / x

    a >> divide

    async def main() -> None:
        async with pipe:
            with pytest.raises(ZeroDivisionError) as caught:
                await pipe(0)
            (note,) = caught.value.__notes__
            assert "stage 'divide' of pipeline 'shop'" in note
            assert f"{__file__}:" in note
            assert await pipe(2) == 0.5
            results: list[Any] = []
            async with anyio.create_task_group() as group:

                async def ask(x: float) -> None:
                    try:
                        results.append(await pipe(x))
                    except ZeroDivisionError:
                        results.append("error")

                for x in (1, 0, 2, 0, 4):
                    group.start_soon(ask, x)
            assert sorted(map(str, results)) == ["0.25", "0.5", "1.0", "error", "error"]
            all_tickets_are_back(pipe)

    run(loop, main)


def test_an_error_keeps_no_array_once_it_is_gone() -> None:
    class Big:
        pass

    pipe = Pipeline()

    @pipe.stage
    def fail(ctx: Any, x: Any) -> Any:
        raise ValueError("no")

    with pipe.sync() as p:
        big = Big()
        alive = weakref.ref(big)
        with pytest.raises(ValueError, match="no"):
            p(big)
        del big
        assert alive() is None, "a cycle keeps it"
        big = Big()
        alive = weakref.ref(big)
        identity_of = p.submit(big)
        with pytest.raises(ValueError, match="no"):
            identity_of.result()
        del big, identity_of
        gc.collect()
        assert alive() is None


@LOOPS
@MODES
def test_a_stage_that_cannot_load_means_not_ready(loop: str, parallel: bool) -> None:
    pipe = Pipeline(parallel=parallel)

    def load() -> Any:
        raise FileNotFoundError("no weights")

    good = pipe.stage(lambda ctx, x: x, name="good")
    bad = pipe.stage(lambda ctx, x: x, name="bad", load=load)
    good >> bad

    async def main() -> None:
        with pytest.raises(FileNotFoundError) as caught:
            async with pipe:
                raise AssertionError("it is not ready")
        assert "stage 'bad'" in caught.value.__notes__[0]
        with pytest.raises(RuntimeError, match="not running"):
            await pipe(1)

    with nothing_left():
        run(loop, main)


def test_yielding_something_else_is_an_error_that_says_what_to_do() -> None:
    pipe = Pipeline()

    @pipe.stage
    def work(ctx: Any, x: Any) -> Any:
        yield x

    with pipe.sync() as p, pytest.raises(TypeError, match=r"ctx\.partial"):
        p(1)


def test_emitting_something_else_is_an_error_that_says_what_to_do() -> None:
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: ctx.emit(x), name="work")
    with pipe.sync() as p, pytest.raises(TypeError, match=r"ctx\.partial"):
        p(1)


def test_a_generator_that_fails_while_it_is_closed_does_not_stop_the_stage() -> None:
    pipe = Pipeline()

    @pipe.stage
    def work(ctx: Any, x: Any) -> Any:
        try:
            for i in range(100):
                yield ctx.partial(i, step=i)
        finally:
            raise OSError("while closing")

    with nothing_left(), pipe.sync() as p:
        parts = p.stream(0, buffer=1)
        next(parts)
        parts.close()
        with pytest.raises(OSError, match="while closing"):
            p(0)
        spin(lambda: not pipe._engine.flow.unfinished)
        all_tickets_are_back(pipe)


# --- all together ---


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@LOOPS
def test_every_request_has_exactly_one_outcome_whenever_it_is_cancelled(
    loop: str, seed: int
) -> None:
    rng = random.Random(seed)
    pipe = Pipeline(inflight=3, queue=4)

    @pipe.stage
    def a(ctx: Any, x: Any) -> Any:
        for i in range(3):
            yield ctx.partial(x, step=i)
        return x

    @pipe.stage
    def b(ctx: Any, x: Any) -> Any:
        if x % 7 == 0:
            raise ValueError(x)
        return x + 1

    @pipe.stage
    def c(ctx: Any, x: Any, y: Any) -> Any:
        return x + y

    a >> b >> c
    a >> c
    n = 300
    ended: list[str] = []

    async def ask(x: int) -> None:
        how = "cancelled"
        try:
            with anyio.move_on_after(rng.random() * 0.002 if rng.random() < 0.3 else None):
                if x % 5:
                    assert await pipe(x) == 2 * x + 1
                else:
                    async with pipe.stream(x, buffer=1) as parts:
                        async for part in parts:
                            if part.is_result:
                                assert part.value == 2 * x + 1
                how = "finished"
        except ValueError:
            how = "failed"
        ended.append(how)

    async def main() -> None:
        async with pipe:
            async with anyio.create_task_group() as group:
                for x in range(n):
                    group.start_soon(ask, x)
                    if x % 20 == 0:
                        await anyio.sleep(0.001)
            all_tickets_are_back(pipe)
            assert sum(outcomes(pipe).values()) == n
            assert await pipe(1) == 3, "the stages go on"

    with nothing_left():
        run(loop, main)
    assert len(ended) == n
    assert ended.count("cancelled") > 0
    assert ended.count("finished") > 0


def test_a_pipeline_is_used_from_another_event_loop_in_another_thread() -> None:
    pipe = identity()
    with pipe.sync():
        results: list[int] = []

        def other() -> None:
            async def main() -> None:
                results.append(await pipe(5))

            asyncio.run(main())

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(60)
        assert results == [5]
