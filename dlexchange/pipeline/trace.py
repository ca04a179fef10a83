"""The trace as a Chrome / Perfetto file: open it at https://ui.perfetto.dev."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .graph import Graph
    from .recorder import Recorder, Span
    from .stage import Stage

__all__ = ["events", "write"]

_HOST, _DEVICE = 1, 2  # as processes, so that their spans stand apart


def write(path: str | Path, name: str, graph: Graph, recorder: Recorder) -> None:
    """Write what was recorded."""
    content = {
        "traceEvents": list(events(name, graph, recorder)),
        "otherData": recorder.counters(),
        "displayTimeUnit": "ms",
    }
    Path(path).write_text(json.dumps(content))


def events(name: str, graph: Graph, recorder: Recorder) -> Iterator[dict[str, Any]]:
    """Yield the events of the Trace Event Format."""
    spans = recorder.spans
    rows = {stage.name: i for i, stage in enumerate(graph.everything, 1)}
    yield from _names(name, graph, rows)
    for span in spans:
        at = {"ts": _us(recorder, span.start), "pid": _HOST, "tid": rows.get(span.row, 0)}
        if span.kind == "request":
            yield from _request(recorder, span)
        elif span.kind == "device":
            yield {**at, "pid": _DEVICE, "ph": "X", "dur": _length(span), **_what(span)}
        else:
            yield {**at, "ph": "X", "dur": _length(span), **_what(span)}
            if span.note == "cancelled":
                yield {**at, "ts": _us(recorder, span.end), "ph": "i", "s": "t", **_what(span)}
    yield from _arrows(graph, recorder, spans, rows)


def _names(name: str, graph: Graph, rows: dict[str, int]) -> Iterator[dict[str, Any]]:
    for pid, what in ((_HOST, f"{name}: threads"), (_DEVICE, f"{name}: streams")):
        yield {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": what}}
    for stage in graph.everything:
        row = {"ph": "M", "tid": rows[stage.name], "name": "thread_name"}
        yield {**row, "pid": _HOST, "args": {"name": f"thread of {stage.name}"}}
        if stage.device is not None:
            label = f"stream of {stage.name} on {stage.device}, until seen complete"
            yield {**row, "pid": _DEVICE, "args": {"name": label}}


def _request(recorder: Recorder, span: Span) -> Iterator[dict[str, Any]]:
    common = {"cat": "request", "id": span.request, "pid": _HOST, "name": f"request {span.request}"}
    yield {**common, "ph": "b", "ts": _us(recorder, span.start), "args": {"for": span.note}}
    if span.middle:
        ticket = {"what": "has a ticket"}
        yield {**common, "ph": "n", "ts": _us(recorder, span.middle), "args": ticket}
    yield {**common, "ph": "e", "ts": _us(recorder, span.end), "args": {"outcome": span.row}}


def _arrows(
    graph: Graph, recorder: Recorder, spans: list[Span], rows: dict[str, int]
) -> Iterator[dict[str, Any]]:
    """Draw an arrow for each hand-off, and one back for each release."""
    begun: dict[tuple[str, int], Span] = {}
    ended: dict[tuple[str, int], Span] = {}
    for span in spans:
        if span.kind == "run":
            begun.setdefault((span.row, span.request), span)
            ended[span.row, span.request] = span
    number = 0
    for (name, request), span in begun.items():
        for before in graph.before.get(_stage(graph, name), []):
            made = ended.get((before.name, request))
            if made is None:
                continue
            last = ended[name, request]
            for what, a, b in (("hand-off", made, span), ("release", last, made)):
                number += 1
                start, end = (a.end, b.start) if what == "hand-off" else (a.end, a.end)
                yield _end_of_arrow("s", what, number, rows[a.row], _us(recorder, start))
                yield _end_of_arrow("f", what, number, rows[b.row], _us(recorder, end))


def _end_of_arrow(ph: str, what: str, number: int, row: int, ts: float) -> dict[str, Any]:
    arrow = {"ph": ph, "cat": what, "name": what, "id": number, "pid": _HOST, "tid": row, "ts": ts}
    return {**arrow, "bp": "e"} if ph == "f" else arrow


def _stage(graph: Graph, name: str) -> Stage:
    return next(stage for stage in graph.everything if stage.name == name)


def _what(span: Span) -> dict[str, Any]:
    name = f"{span.row} {span.note}".strip() if span.kind in ("run", "device") else span.note
    return {"name": name, "cat": span.kind, "args": {"request": span.request}}


def _us(recorder: Recorder, at: int) -> float:
    return (at - recorder.origin) / 1000


def _length(span: Span) -> float:
    return (span.end - span.start) / 1000
