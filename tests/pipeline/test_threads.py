"""R-000.6: what is not safe is written down, and each line of that table is refused."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import dlexchange.pipeline
from dlexchange.pipeline import Pipeline

PAGE = Path(dlexchange.pipeline.__file__).with_name("THREADS.md").read_text()


def identity() -> Pipeline:
    pipe = Pipeline()
    pipe.stage(lambda ctx, x: x, name="identity")
    return pipe


@contextmanager
def asking() -> Iterator[tuple[list[Any], Pipeline]]:
    """A pipeline whose stage shows its ctx, and asks what the request says."""
    shown: list[Any] = []
    pipe = Pipeline()

    @pipe.stage
    def ask(ctx: Any, x: Any) -> Any:
        shown.append(ctx)
        return x(ctx) if callable(x) else x

    with pipe.sync():
        yield shown, pipe


def not_entered() -> None:
    asyncio.run(_call(identity()))


async def _call(pipe: Pipeline) -> Any:
    return await pipe(1)


def entered_twice() -> None:
    pipe = identity()
    with pipe.sync(), pipe.sync():
        pass


def stage_while_running() -> None:
    pipe = identity()
    with pipe.sync():
        pipe.stage(lambda ctx, x: x, name="late")


def sync_in_a_loop() -> None:
    async def main() -> None:
        with identity().sync():
            pass

    asyncio.run(main())


def submit_in_a_loop() -> None:
    async def main() -> None:
        pipe = identity()
        async with pipe:
            pipe.submit(1)

    asyncio.run(main())


def ctx_elsewhere() -> None:
    with asking() as (shown, pipe):
        pipe.submit(1).result()
        shown[0].checkpoint()


def own_pipeline() -> None:
    with asking() as (_, pipe):
        pipe.submit(lambda ctx: pipe.submit(2).result()).result()


def forked() -> None:
    pipe = identity()
    with pipe.sync() as p:
        reader, writer = os.pipe()
        if os.fork() == 0:
            try:
                p(1)
            except BaseException as error:
                os.write(writer, str(error).encode())
            os._exit(0)
        os.wait()
        os.close(writer)
        with os.fdopen(reader) as said:
            raise RuntimeError(said.read())


def two_tasks() -> None:
    go_on = threading.Event()
    pipe = Pipeline()

    @pipe.stage
    def work(ctx: Any, x: Any) -> Any:
        assert go_on.wait(60)
        return x

    async def main() -> None:
        async with pipe:
            parts = pipe.stream(1)
            both = [asyncio.ensure_future(parts.__anext__()) for _ in range(2)]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
                both[1].result()
            finally:
                go_on.set()
                await both[0]

    asyncio.run(main())


CASES: list[Callable[[], None]] = [
    not_entered,
    entered_twice,
    stage_while_running,
    sync_in_a_loop,
    submit_in_a_loop,
    ctx_elsewhere,
    own_pipeline,
    forked,
    two_tasks,
]
ROWS = re.findall(r"^\| (?!Do not|:--)(.+?) \| .+ \| `(.+)` \|$", PAGE, re.MULTILINE)


def test_r000_6_every_line_of_the_table_is_tried() -> None:
    assert len(ROWS) == len(CASES) >= 9


@pytest.mark.parametrize(
    ("row", "case"), list(zip(ROWS, CASES, strict=True)), ids=lambda v: str(v)[:40]
)
def test_r000_6_what_is_not_safe_is_refused(row: tuple[str, str], case: Any) -> None:
    with pytest.raises(RuntimeError, match=re.escape(row[1])):
        case()
