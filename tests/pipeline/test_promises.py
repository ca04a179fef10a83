"""R-004.11: arrays of a scheduler without streams, between stages that have none either.

A `backends.Promise` says when their values are there. Nobody waits for it: the message goes
on when the scheduler's own notifier says so, and the stages are free meanwhile.
"""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest
from support.promises import DEVICE_TYPE, Task, Values, scheduler

import dlexchange as dx
from dlexchange.backends import Promise
from dlexchange.backends.waiter import call_when
from dlexchange.pipeline import Pipeline

from .support import LOOPS, MODES, all_tickets_are_back, nothing_left, run, until

__all__ = ["scheduler"]

pytestmark = pytest.mark.usefixtures("scheduler")
DEVICE = (DEVICE_TYPE, 0)


def numpy_of(x: Any) -> Any:
    return dx.to_numpy(x, copy=True)


@LOOPS
@MODES
@pytest.mark.parametrize("framework", ["numpy", "torch"])
@pytest.mark.parametrize("notifies", [True, False])
def test_r004_11_a_promised_array_goes_through_stages_and_nobody_waits(
    loop: str, parallel: bool, framework: str, notifies: bool
) -> None:
    pytest.importorskip(framework, reason=f"absent: {framework} is not installed")
    pipe = Pipeline(parallel=parallel)
    made: list[Values] = []
    seen: list[Any] = []

    @pipe.stage(device=DEVICE)
    def ask(ctx: Any, x: Any) -> Any:
        if isinstance(x, str):
            return x
        made.append(Values(int(numpy_of(x)[0]) + 1, Task(notifies=notifies)))
        return made[-1]

    @pipe.stage(framework=framework, copy=True)
    def use(ctx: Any, x: Any) -> Any:
        if not isinstance(x, str):
            seen.append((type(x).__module__, x.tolist()))
        return x

    ask >> use
    given = Values(1, Task(notifies=notifies))

    async def main() -> None:
        async with pipe, anyio.create_task_group() as group:
            group.start_soon(pipe.__call__, given)
            await until(lambda: pipe._engine.flow.unfinished)
            assert await pipe("plain") == "plain", "the stages are free meanwhile"
            assert (made, seen) == ([], [])
            given.end()
            await until(lambda: made)
            assert await pipe("plain") == "plain", "the stages are free meanwhile"
            assert seen == []
            threading.Thread(target=made[0].end).start()
            await until(lambda: not pipe._engine.flow.unfinished)
            all_tickets_are_back(pipe)

    call_when(lambda: None, lambda: None)  # its thread is started once a process
    with nothing_left():
        run(loop, main)
        assert seen == [(framework, [2] * 4)]
        waiters = {name for x in (given, *made) for name in x.task.waiters}  # type: ignore[union-attr]
        assert waiters <= (set() if notifies else {"dlexchange-waiter"})


@LOOPS
@MODES
def test_r004_11_what_comes_out_has_its_values(loop: str, parallel: bool) -> None:
    pipe = Pipeline(parallel=parallel)
    given, made = Values(1, Task(notifies=True)), Values(2, Task(notifies=True))
    pipe.stage(lambda ctx, x: {"in": x, "made": [made]}, name="make", device=DEVICE)

    async def main() -> None:
        async with pipe:
            waits = dx.stats().host_waits
            async with anyio.create_task_group() as group:
                group.start_soon(receive)
                given.end()
                await until(lambda: made.task.callbacks)
                assert outs == []
                made.end()
            assert dx.stats().host_waits == waits
            out = await dx.host(outs.pop())
            assert (out["in"].tolist(), out["made"][0].tolist()) == ([1] * 4, [2] * 4)

    async def receive() -> None:
        outs.append(await pipe(given))

    outs: list[Any] = []
    with nothing_left():
        run(loop, main)
    assert given.task.waiters + made.task.waiters == []


@LOOPS
@MODES
@pytest.mark.parametrize("where", ["into a stage", "out of the last"])
def test_r004_11_a_request_that_waits_for_a_promise_can_be_cancelled(
    loop: str, parallel: bool, where: str
) -> None:
    pipe = Pipeline(parallel=parallel, inflight=1)
    first = pipe.stage(lambda ctx, x: values if x is None else x, name="ask", device=DEVICE)
    ran: list[int] = []
    if where == "into a stage":
        first >> pipe.stage(lambda ctx, x: ran.append(1), name="use", copy=True)
    values = Values(1, Task(notifies=True))

    async def main() -> None:
        async with pipe:
            async with anyio.create_task_group() as group:
                group.start_soon(pipe.__call__, None)
                await until(lambda: values.task.callbacks)
                group.cancel_scope.cancel()
            all_tickets_are_back(pipe)
            assert await pipe("plain") == (None if ran else "plain"), "the ticket is back"
            values.end()  # for nobody
            all_tickets_are_back(pipe)

    with nothing_left():
        run(loop, main)
    assert values.task.waiters == []
    assert ran == ([1] if where == "into a stage" else [])


@LOOPS
@MODES
@pytest.mark.parametrize("notifies", [True, False])
@pytest.mark.parametrize("early", [True, False])
def test_r004_11_a_promise_that_fails_ends_its_request_with_its_error(
    loop: str, parallel: bool, notifies: bool, early: bool
) -> None:
    pipe = Pipeline(parallel=parallel, inflight=1)
    pipe.stage(lambda ctx, x: x, name="same", device=DEVICE)
    task = Task(notifies=notifies)

    async def main() -> None:
        tensor = dx.from_dlpack(Values(1), stream=task.promise)
        async with pipe:
            if early:
                task.end(ZeroDivisionError("the scheduler died"))
            async with anyio.create_task_group() as group:
                group.start_soon(request, tensor)
                await until(lambda: early or pipe._engine.flow.unfinished)
                task.end(ZeroDivisionError("the scheduler died"))
            all_tickets_are_back(pipe)
            assert await pipe("plain") == "plain"

    async def request(tensor: Any) -> None:
        with pytest.raises(ZeroDivisionError, match="the scheduler died"):
            await pipe(tensor)

    call_when(lambda: None, lambda: None)
    with nothing_left():
        run(loop, main)


def test_r004_11_a_notifier_that_refuses_fails_the_request_alone() -> None:
    def refuse(function: Any) -> None:
        raise ZeroDivisionError("no notifier")

    promise = Promise(lambda: False, lambda: None, add_done_callback=refuse)
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: dx.from_dlpack(Values(1), stream=promise) if x else x, name="same")
    with nothing_left(), pipe.sync() as p:
        with pytest.raises(ZeroDivisionError, match="no notifier"):
            p(1)
        assert p(0) == 0


@MODES
@pytest.mark.parametrize("who", ["stage", "filter"])
def test_r004_11_a_partial_result_does_not_wait_for_a_promise(parallel: bool, who: str) -> None:
    pipe = Pipeline(parallel=parallel)
    values = Values(1, Task(notifies=True))

    @pipe.stage
    def make(ctx: Any, x: Any) -> Any:
        yield ctx.partial(values if who == "stage" else x)
        return x

    if who == "filter":
        pipe.filter(lambda ctx, x: values)
    with nothing_left(), pipe.sync() as p, pytest.raises(dx.ExchangeError, match="partial result"):
        list(p.stream(1))
