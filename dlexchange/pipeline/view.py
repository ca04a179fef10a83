"""A live view of long runs, in the terminal; needs rich."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .flow import Flow
    from .pipeline import Pipeline

__all__ = ["live"]


@contextmanager
def live(pipe: Pipeline, **options: Any) -> Iterator[Any]:
    """Show, in the body, what waits and what works; `options` go to ``rich.live.Live``.

    It looks; no stage ever waits for it.
    """
    try:
        from rich.live import Live
    except ModuleNotFoundError:
        raise ModuleNotFoundError("pipe.live() needs rich: pip install rich", name="rich") from None
    flow = pipe._running().flow
    with Live(get_renderable=lambda: table(pipe.name, flow), **options) as view:
        yield view


def table(name: str, flow: Flow) -> Any:
    """Make a table of now."""
    from rich.table import Table

    made = Table(title=name)
    for column in ("stage", "where", "waiting", "at work on", "step"):
        made.add_column(column)
    for stage, inbox in flow.inboxes.items():
        working = flow.working.get(stage)
        request, step = ("", "") if working is None else (str(working[0]), str(working[1]))
        made.add_row(stage.name, str(stage.device or "host"), str(len(inbox.items)), request, step)
    waiting = len(flow._queue) + len(flow._door)
    done = ", ".join(f"{n} {how}" for how, n in flow.counts.items())
    made.caption = f"{waiting} wait for a ticket, {flow.tickets} are free; {done}"
    return made
