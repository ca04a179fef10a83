"""The report in plain text, at most 100 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

from .exchange import Verdict

__all__ = ["WIDTH", "frameworks", "matrix", "paragraph", "rows", "title"]

WIDTH = 100

#: Names that fit a column of the matrix.
_SHORT = {
    "array_api_strict": "strict",
    "awkward": "awk",
    "cuda_core": "cuda",
    "numba_cuda": "numba",
    "onnxruntime": "onnxrt",
    "pyarrow": "arrow",
    "tensorflow": "tf",
    "tvm_ffi": "tvm",
}


def title(text: str) -> str:
    """Underline a section's name."""
    return f"{text}\n{'-' * len(text)}"


def paragraph(text: str, indent: str = "", rest: str | None = None) -> str:
    """Wrap a sentence; `rest` indents the lines after the first."""
    rest = indent if rest is None else rest
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=rest)


def rows(pairs: Iterable[tuple[str, str]]) -> str:
    """Align names and what they are."""
    lines = list(pairs)
    wide = max(11, *(len(name) for name, _ in lines))
    return "\n".join(paragraph(f"{n:{wide}} {value}", rest=" " * (wide + 1)) for n, value in lines)


def frameworks(found: list[dict[str, Any]]) -> str:
    """One line a framework; what is special about it under it."""
    lines = [f"{'':17}{'version':15}{'C exchange API':16}devices"]
    for info in found:
        devices = info["devices"]
        shown = "not looked at" if devices is None else ", ".join(devices) or "none here"
        api = {None: "-", True: "yes", False: "no"}[info["exchange_api"]]
        lines.append(f"{info['name']:17}{info['version']:15}{api:16}{shown}")
        lines += [paragraph(note, " " * 17) for note in info["notes"]]
    return "\n".join(lines)


def matrix(pairs: list[Verdict]) -> str:
    """Draw the matrix of times, then say why the other cells have none."""
    names = _with_arrays(pairs)
    shown = [v for v in pairs if v.producer in names and v.consumer in names]
    cells = {(v.producer, v.consumer): v for v in pairs}
    notes: dict[str, list[str]] = {}
    body = [[_cell(cells[a, b], notes) for b in names] for a in names]
    widths = [max([4, len(_short(b))] + [len(row[i]) for row in body]) for i, b in enumerate(names)]
    left = max(len(_short(name)) for name in names) if names else 0
    head = " " * left + _line([_short(name) for name in names], widths)
    drawn = [head] + [
        _short(a).ljust(left) + _line(row, widths) for a, row in zip(names, body, strict=True)
    ]
    return "\n".join([*drawn, "", *_legend(shown), *_notes(notes), *_absent(pairs, names)])


def _cell(verdict: Verdict, notes: dict[str, list[str]]) -> str:
    if verdict.outcome == "shared":
        return _number(verdict) + ("" if verdict.writes != "none" else "*")
    pair = f"{_short(verdict.producer)} > {_short(verdict.consumer)}"
    text = verdict.why
    if verdict.outcome == "copied":
        asked = f" ({verdict.asked})" if verdict.asked else ""
        text = f"copied{asked}: {verdict.why.partition(': this tensor would')[0]}"
    elif verdict.outcome != "refused":
        text = f"{verdict.outcome.upper()}: {verdict.why}"
    notes.setdefault(text, []).append(pair)
    mark = _letter(list(notes).index(text))
    return _number(verdict) + mark if verdict.outcome == "copied" else f"-{mark}"


def _number(verdict: Verdict) -> str:
    microseconds = (verdict.ns or 0.0) / 1000
    if microseconds < 9.995:
        return f"{microseconds:.2f}"
    return f"{microseconds:.1f}" if microseconds < 99.95 else f"{microseconds:.0f}"


def _legend(pairs: list[Verdict]) -> list[str]:
    count = {outcome: sum(v.outcome == outcome for v in pairs) for outcome in ("shared", "copied")}
    unseen = sum(v.outcome == "shared" and v.writes == "none" for v in pairs)
    lost = sorted({v.consumer for v in pairs if v.read_only == "lost"})
    lines = [
        f"{count['shared']} of {len(pairs)} pairs share memory: the same address and the same "
        f"values, and a write on one side is seen on the other. {count['copied']} are copied "
        "(letter): a write is not seen."
    ]
    if unseen:
        sealed = sorted({_short(side) for v in pairs if v.writes == "none" for side in v[:2]})
        lines.append(
            f"* {unseen} of them show it by address alone, since both sides are immutable, "
            f"read-only or without element access ({', '.join(sealed)})."
        )
    if lost:
        lines.append(
            "Read-only arrays stay read-only, but not in " + ", ".join(lost) + ", which cannot "
            "express it: dlexchange warns once, and refuses in strict mode."
        )
    return [paragraph(line, rest="  ") for line in lines]


def _notes(notes: dict[str, list[str]]) -> list[str]:
    lines = []
    for i, (text, where) in enumerate(notes.items()):
        shown = ", ".join(where[:6]) + (f" and {len(where) - 6} more" if len(where) > 6 else "")
        lines.append(paragraph(f"{_letter(i)} {text} [{shown}]", rest="  "))
    return lines


def _absent(pairs: list[Verdict], names: list[str]) -> list[str]:
    lines = []
    for verdict in pairs:
        if verdict.producer == verdict.consumer and verdict.producer not in names:
            lines.append(paragraph(f"{verdict.producer}: {verdict.why}", rest="  "))
    return lines


def _with_arrays(pairs: list[Verdict]) -> list[str]:
    """Leave out the frameworks that can have no array on this machine."""
    own = [v for v in pairs if v.producer == v.consumer]
    return [v.producer for v in own if v.outcome != "absent"]


def _line(cells: list[str], widths: list[int]) -> str:
    return "".join(" " + cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


def _letter(i: int) -> str:
    return chr(ord("a") + i) if i < 26 else str(i - 25)


def _short(name: str) -> str:
    return _SHORT.get(name, name)
