"""Results as text for a terminal, and as JSON for machines and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def write(document: dict[str, Any], path: Path) -> None:
    """Write `document` so that a diff of two runs reads line by line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, sort_keys=False) + "\n")


def read(name: str) -> dict[str, Any]:
    """A committed result, by its name without suffix."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as they must be; figures to the right."""
    body = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in (list(head), *body)) for i in range(len(head))]
    right = [all(_is_figure(row[i]) for row in body) for i in range(len(head))]
    lines = []
    for row in (list(head), ["-" * width for width in widths], *body):
        cells = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _is_figure(cell: str) -> bool:
    return not cell or cell[0].isdigit() or cell == "-"


def environment(document: dict[str, Any]) -> str:
    """Machine and versions in two lines."""
    env = document["environment"]
    machine = f"{env['cpu']}, {env['cores']} cores{', virtual' if env['virtual'] else ''}"
    versions = ", ".join(f"{k} {v}" for k, v in env["versions"].items() if v != "absent")
    return f"{machine}; GPU: {env['gpu']}; CPython {env['python']}\n{versions}"


def groups(document: dict[str, Any]) -> str:
    """One table a case; ratios are medians round by round, spread is their quartiles."""
    head = ("", "min ns", "median", "x floor", "spread", "x ours", "spread", "memory", *COLUMNS)
    parts = []
    for group in document["groups"]:
        state = f", {group['state']}" if group["state"] else ""
        rows = [_line(line, document["guarantees"]) for line in group["contenders"]]
        parts.append(f"{group['pair']}, {group['kind']}{state}\n{table(head, rows)}")
    return "\n\n".join(parts)


COLUMNS = ("values", "ordering", "release", "capture")


def _line(line: dict[str, Any], guarantees: dict[str, dict[str, str]]) -> tuple[object, ...]:
    said = guarantees[line["name"]]
    floor, ours = line["ratio_to_floor"], line["ratio_to_ours"]
    return (
        line["name"],
        f"{line['min_ns']:.1f}",
        f"{line['median_ns']:.1f}",
        f"{floor['median']:.2f}",
        f"{floor['p25']:.2f}..{floor['p75']:.2f}",
        f"{ours['median']:.2f}",
        f"{ours['p25']:.2f}..{ours['p75']:.2f}",
        line["memory"],
        *(said[column] for column in COLUMNS),
    )


def target(document: dict[str, Any]) -> str:
    """The table of limits with a verdict a line; misses are counted at its end."""
    rows = []
    for line in document["target"]:
        ratio = line.get("ratio")
        pair = " ".join(filter(None, (line["pair"], line["state"] and f"({line['state']})")))
        rows.append(
            (
                pair,
                line["against"],
                line["limit"],
                f"{ratio['median']:.2f}" if ratio else "-",
                f"{ratio['p25']:.2f}..{ratio['p75']:.2f}" if ratio else "-",
                f"{ratio['of_min']:.2f}" if ratio else "-",
                line["verdict"] if line["verdict"] == "met" else line["verdict"].upper(),
            )
        )
    count = {word: 0 for word in ("met", "missed", "not run")}
    for line in document["target"]:
        count[line["verdict"]] += 1
    text = table(("pair", "against", "limit", "ratio", "spread", "of min", "verdict"), rows)
    return f"{text}\n" + ", ".join(f"{number} {word}" for word, number in count.items())


def push(document: dict[str, Any]) -> str:
    """The library's own cost of a push, with nothing behind the driver's table."""
    found = document["push"]
    verdict = found["verdict"] if found["verdict"] == "met" else found["verdict"].upper()
    if "push_ns" not in found:
        return f"push on a null driver table: {verdict}: {found['why']}"
    rows = [
        (what, f"{found[f'{key}_ns']:.1f}", f"{found[f'{key}_best_ns']:.1f}")
        for what, key in (
            ("between two streams", "push"),
            ("with the legacy stream", "push_legacy"),
            ("of one stream to itself", "same_stream"),
        )
    ]
    head = ("push on a null driver table", "median ns", "best ns")
    return f"{table(head, rows)}\nat most {found['limit_ns']} ns a push: {verdict}"


def absent(document: dict[str, Any]) -> str:
    """Peers that did not run, each with its reason."""
    return "\n".join(f"absent: {label}: {why}" for label, why in document["absent"].items())


def guarantees(document: dict[str, Any]) -> str:
    """What each contender does and does not do, and by what evidence."""
    rows = [
        (label, *(said[column] for column in COLUMNS), said["values_by"], said["why"])
        for label, said in document["guarantees"].items()
    ]
    return table(("", *COLUMNS, "values by", "why"), rows)
