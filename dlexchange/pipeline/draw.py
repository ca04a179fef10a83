"""A pipeline and its timeline as an SVG."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .graph import Graph
    from .recorder import Recorder, Span
    from .stage import Stage

__all__ = ["svg"]

_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d")
_WIDTH, _LEFT = 960, 150
_BOX, _GAP, _ROW = (150, 44), 50, 24


def svg(name: str, graph: Graph, recorder: Recorder | None) -> str:
    """Return the SVG: stages and their joins above, rows of threads and streams below."""
    boxes = _layout(graph)
    top = 40 + (_BOX[1] + 16) * max(y for _, y in boxes.values()) + _BOX[1] + 30
    parts = [_text(16, 24, name, bold=True)]
    colours = {s: _COLOURS[i % len(_COLOURS)] for i, s in enumerate(graph.everything)}
    for stage, place in boxes.items():
        parts += [_join(boxes, stage, after) for after in graph.after.get(stage, [])]
        parts.append(_box(stage, place, colours[stage]))
    rows = [(stage, kind) for stage in graph.everything for kind in _kinds(stage)]
    if recorder is not None:
        spans = [span for span in recorder.spans if span.kind != "request"]
        parts += _timeline(spans, rows, colours, top)
        counters = ", ".join(f"{what}: {n}" for what, n in recorder.counters().items())
        parts.append(_text(16, top + _ROW * len(rows) + 24, counters))
    height = top + _ROW * len(rows) + 40
    right = max(_WIDTH, *(_corner(place)[0] + _BOX[0] + 16 for place in boxes.values()))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{right}" height="{height}"'
    style = 'font-family="sans-serif" font-size="12"'
    ground = f'<rect width="{right}" height="{height}" fill="#ffffff"/>'
    return "\n".join([f"{head} {style}>", _ARROW, ground, *parts, "</svg>"]) + "\n"


_ARROW = (
    '<defs><marker id="to" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
    'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#555555"/></marker></defs>'
)


def _layout(graph: Graph) -> dict[Stage, tuple[int, int]]:
    """Place each stage: its column is the longest way to it."""
    columns: dict[Stage, int] = {}

    def column(stage: Stage) -> int:
        if stage not in columns:
            before = graph.before[stage]
            columns[stage] = 1 + max(map(column, before)) if before else 0
        return columns[stage]

    places: dict[Stage, tuple[int, int]] = {}
    for stage in graph.stages:
        x = column(stage)
        places[stage] = (x, sum(1 for other, _ in places.values() if other == x))
    if graph.filter is not None:
        places[graph.filter] = (0, 1 + max(y for _, y in places.values()))
    return places


def _corner(place: tuple[int, int]) -> tuple[int, int]:
    return 16 + place[0] * (_BOX[0] + _GAP), 40 + place[1] * (_BOX[1] + 16)


def _box(stage: Stage, place: tuple[int, int], colour: str) -> str:
    x, y = _corner(place)
    where = str(stage.device or "host") + (", filters parts" if stage.is_filter else "")
    outline = f'fill="#ffffff" stroke="{colour}" stroke-width="2"'
    rect = f'<rect x="{x}" y="{y}" width="{_BOX[0]}" height="{_BOX[1]}" rx="6" {outline}/>'
    return rect + _text(x + 10, y + 18, stage.name, bold=True) + _text(x + 10, y + 35, where)


def _join(boxes: dict[Stage, tuple[int, int]], a: Stage, b: Stage) -> str:
    (x1, y1), (x2, y2) = _corner(boxes[a]), _corner(boxes[b])
    start, end = (x1 + _BOX[0], y1 + _BOX[1] // 2), (x2, y2 + _BOX[1] // 2)
    line = f'x1="{start[0]}" y1="{start[1]}" x2="{end[0]}" y2="{end[1]}"'
    return f'<line {line} stroke="#555555" marker-end="url(#to)"/>'


def _kinds(stage: Stage) -> tuple[str, ...]:
    return ("thread", "stream") if stage.device is not None else ("thread",)


def _timeline(
    spans: list[Span], rows: list[tuple[Stage, str]], colours: dict[Stage, str], top: int
) -> list[str]:
    parts = []
    start = min((span.start for span in spans), default=0)
    length = max(1, max((span.end for span in spans), default=0) - start)
    scale = (_WIDTH - _LEFT - 16) / length
    for i, (stage, kind) in enumerate(rows):
        y = top + i * _ROW
        parts.append(_text(16, y + 15, f"{stage.name}: {kind}"))
        parts.append(
            f'<line x1="{_LEFT}" y1="{y + 20}" x2="{_WIDTH - 16}" y2="{y + 20}" {_FAINT}/>'
        )
        for span in spans:
            if span.row == stage.name and (span.kind == "device") == (kind == "stream"):
                x, width = _LEFT + (span.start - start) * scale, (span.end - span.start) * scale
                parts.append(_bar(span, x, y, max(width, 1.0), colours[stage]))
    parts.append(_text(_LEFT, top - 6, f"{length / 1e6:.3f} ms"))
    return parts


_FAINT = 'stroke="#dddddd"'


def _bar(span: Span, x: float, y: int, width: float, colour: str) -> str:
    fill = "#e45756" if span.note == "cancelled" else "#cccccc" if span.kind == "wait" else colour
    faint = ' fill-opacity="0.55"' if span.kind == "device" else ""
    title = escape(f"request {span.request}: {span.row} {span.note}".strip())
    rect = f'x="{x:.2f}" y="{y + 4}" width="{width:.2f}" height="14" fill="{fill}"{faint}'
    return f"<rect {rect}><title>{title}</title></rect>"


def _text(x: int, y: int, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}"{weight}>{escape(text)}</text>'
