"""The report: JSON is the truth; Markdown and HTML are drawn from it."""

from __future__ import annotations

import html
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .clauses import load
from .engine import checks_of
from .runner import SubjectReport

__all__ = ["as_json", "colour", "draw_html", "draw_markdown", "summary", "write_report"]

#: What a cell is called, in the order of the legend: word, sign, background.
CELLS = {
    "kept": ("kept", "✓", "#d6f0d6"),
    "must": ("a MUST is broken", "✗", "#f2a3a3"),
    "should": ("a SHOULD is not kept", "!", "#f7d9a0"),
    "unconfirmed": ("seen by the suite, not reproduced outside it", "?", "#e6dff2"),
    "noted": ("differs where the sources leave it open", "~", "#d9e6f5"),
    "refused": ("not offered, by the library's own word", "-", "#eeeeee"),
    "untested": ("nothing can be said", "·", "#fafafa"),
    "absent": ("not installed, or without its device", "∅", "#dddddd"),
    "broken": ("the check could not be run", "☠", "#ff66cc"),
}


def as_json(reports: Sequence[SubjectReport]) -> dict[str, Any]:
    """Everything that the report is drawn from."""
    return {
        "made_with": {
            "dlexchange": version("dlexchange"),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
        },
        "clauses": [dict(asdict(c), checks=len(checks_of(c.id))) for c in load().values()],
        "subjects": [report.as_json() for report in reports],
    }


def colour(strength: str, verdict: dict[str, Any]) -> str:
    """The cell of a verdict. A failure is red only when its snippet showed it."""
    outcome: str = verdict["outcome"]
    if outcome == "pass":
        return "kept"
    if outcome != "fail":
        return outcome
    return strength if verdict.get("confirmed") else "unconfirmed"


def _cells(data: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """clause -> subject -> verdict with its cell."""
    strengths = {clause["id"]: clause["strength"] for clause in data["clauses"]}
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for subject in data["subjects"]:
        for verdict in subject["verdicts"]:
            cell = dict(verdict, cell=colour(strengths[verdict["clause"]], verdict))
            table.setdefault(verdict["clause"], {})[subject["name"]] = cell
    for subject in data["subjects"]:
        if "absent" in subject:
            for row in table.values():
                row[subject["name"]] = {"cell": "absent", "seen": subject["absent"]}
    return table


def summary(data: dict[str, Any]) -> str:
    """A Markdown table with a row for each subject."""
    table = _cells(data)
    lines = [
        "| subject | version | runs on | kept | MUST broken | SHOULD not kept | unconfirmed |",
        "| --- | --- | --- | --: | --: | --: | --: |",
    ]
    for subject in data["subjects"]:
        cells = [row[subject["name"]]["cell"] for row in table.values() if subject["name"] in row]
        if "absent" in subject:
            why = subject["absent"].partition(" (")[0]
            lines.append(f"| {subject['name']} | {why} | {subject['ground']} | | | | |")
            continue
        counts = [cells.count(kind) for kind in ("kept", "must", "should", "unconfirmed")]
        lines.append(
            f"| {subject['name']} | {subject['version']} | {subject['ground']} | "
            + " | ".join(map(str, counts))
            + " |"
        )
    return "\n".join(lines) + "\n"


def _made_with(data: dict[str, Any]) -> str:
    made = data["made_with"]
    return (
        f"Made with dlexchange {made['dlexchange']} on Python {made['python']}, "
        f'{made["machine"]}. "simulated CUDA" is a simulated driver, not a GPU.'
    )


def _accusations(data: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any], Any]]:
    """(subject, clause, verdict) for each failure that was reproduced."""
    clauses = {clause["id"]: clause for clause in data["clauses"]}
    for subject in data["subjects"]:
        for verdict in subject["verdicts"]:
            clause = clauses[verdict["clause"]]
            if colour(clause["strength"], verdict) in ("must", "should"):
                yield subject, clause, verdict


def _source(clause: dict[str, Any]) -> str:
    source = clause["source"]
    derived = " (derived)" if clause["derived"] else ""
    return f"{source['doc']} {source['at']}, {source['where']}{derived}"


def draw_markdown(data: dict[str, Any]) -> str:
    """The summary, the matrix and every reproduced failure with its snippet."""
    table = _cells(data)
    names = [subject["name"] for subject in data["subjects"]]
    parts = ["# Conformance report\n", _made_with(data) + "\n", summary(data), "## Matrix\n"]
    parts.append("; ".join(f"{sign} {word}" for word, sign, _ in CELLS.values()) + "\n")
    rows = ["| clause | strength | " + " | ".join(names) + " |"]
    rows.append("| --- | --- |" + " :-: |" * len(names))
    for clause in data["clauses"]:
        cells = table.get(clause["id"], {})
        if any(cells[name]["cell"] != "untested" for name in names if name in cells):
            signs = [CELLS[cells[n]["cell"]][1] if n in cells else "" for n in names]
            rows.append(f"| `{clause['id']}` | {clause['strength']} | " + " | ".join(signs) + " |")
    parts.append("\n".join(rows) + "\n")
    parts.append("## What was reproduced outside the suite\n")
    for subject, clause, verdict in _accusations(data):
        parts.append(f"### {subject['name']} {subject['version']}: `{clause['id']}`\n")
        parts.append(f"{clause['strength'].upper()}: {clause['says']} Source: {_source(clause)}.\n")
        parts.append(f"Expected {verdict['expected']}; saw {verdict['seen']}.\n")
        parts.append(f"```python\n{verdict['snippet']}\n```\n")
    parts.append("## Clauses without a check\n")
    for clause in data["clauses"]:
        if clause["untestable"]:
            parts.append(f"* `{clause['id']}`: {clause['untestable']}")
    return "\n".join(parts) + "\n"


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 78em; padding: 0 1em }
table { border-collapse: collapse; font-size: 13px }
th, td { border: 1px solid #ddd; padding: .1em .4em }
td.c { text-align: center }
thead th { position: sticky; top: 0; background: #fff; writing-mode: vertical-rl;
  transform: rotate(180deg); text-align: left; border: 0 }
th.id { text-align: left; font-weight: normal; font-family: ui-monospace, monospace }
tr.group th { text-align: left; padding-top: 1em; border: 0; font-size: 15px }
a { color: inherit } pre { background: #f6f6f6; padding: .8em; overflow: auto }
.legend span { display: inline-block; padding: 0 .5em; margin: 0 .4em .3em 0 }
"""


def draw_html(data: dict[str, Any]) -> str:
    """One self-contained page: the matrix, and behind each red cell its proof."""
    table = _cells(data)
    names = [subject["name"] for subject in data["subjects"]]
    kinds = "".join(f".{kind} {{ background: {c[2]} }}\n" for kind, c in CELLS.items())
    out = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>DLPack conformance</title>",
        f"<style>{STYLE}{kinds}</style><h1>DLPack conformance</h1>",
        f"<p>{html.escape(_made_with(data))}</p><p class=legend>",
        *(f"<span class={k}>{sign} {word}</span>" for k, (word, sign, _) in CELLS.items()),
        "</p><table><thead><tr><th>",
        *(f"<th>{html.escape(s['name'])} {s.get('version', '')}" for s in data["subjects"]),
        "</thead><tbody>",
        *_html_rows(data, table, names),
        "</tbody></table>",
        *_html_proofs(data),
        "<h2>Clauses without a check</h2><ul>",
        *(
            f"<li><code>{c['id']}</code>: {html.escape(c['untestable'])}"
            for c in data["clauses"]
            if c["untestable"]
        ),
        "</ul></html>",
    ]
    return "\n".join(out) + "\n"


def _html_rows(data: dict[str, Any], table: Any, names: Sequence[str]) -> Iterator[str]:
    group = ""
    for clause in sorted(data["clauses"], key=lambda c: c["id"].split(".")[0]):
        cells = table.get(clause["id"], {})
        if clause["untestable"] or not cells:
            continue
        area = clause["id"].split(".")[0]
        if area != group:
            group = area
            yield f"<tr class=group><th colspan={len(names) + 1}>{area}</tr>"
        says = html.escape(f"{clause['strength'].upper()}: {clause['says']}")
        row = [f'<tr><th class=id title="{says}">{clause["id"]}']
        for name in names:
            cell = cells.get(name)
            if cell is None:
                row.append("<td>")
                continue
            sign = CELLS[cell["cell"]][1]
            if cell["cell"] in ("must", "should"):
                sign = f'<a href="#{_anchor(name, clause["id"])}">{sign}</a>'
            row.append(f'<td class="c {cell["cell"]}"{_tip(cell)}>{sign}')
        yield "".join(row) + "</tr>"


def _tip(cell: dict[str, Any]) -> str:
    """What was seen, where that is more than a reason why nothing was."""
    if cell["cell"] in ("kept", "untested", "refused", "absent"):
        return ""
    return f' title="{html.escape(cell.get("seen", ""))}"'


def _html_proofs(data: dict[str, Any]) -> Iterator[str]:
    yield "<h2>What was reproduced outside the suite</h2>"
    for subject, clause, verdict in _accusations(data):
        yield (
            f'<h3 id="{_anchor(subject["name"], clause["id"])}">'
            f"{html.escape(subject['name'])} {html.escape(subject['version'])}: "
            f"<code>{clause['id']}</code></h3>"
            f"<p>{clause['strength'].upper()}: {html.escape(clause['says'])}<br>"
            f"Source: {html.escape(_source(clause))}<br>"
            f"Expected {html.escape(verdict['expected'])}; saw {html.escape(verdict['seen'])}.</p>"
            f"<pre>{html.escape(verdict['snippet'])}</pre>"
        )


def _anchor(name: str, clause: str) -> str:
    return f"{name}--{clause}".replace(" ", "-")


def _lines(data: dict[str, Any]) -> str:
    """JSON with a line for each clause and each verdict, so that a change shows as one."""
    subjects = []
    for subject in data["subjects"]:
        head = json.dumps({k: v for k, v in subject.items() if k != "verdicts"})
        verdicts = ",\n".join(json.dumps(verdict) for verdict in subject["verdicts"])
        subjects.append(f'{head[:-1]}, "verdicts": [\n{verdicts}\n]}}')
    clauses = ",\n".join(json.dumps(clause) for clause in data["clauses"])
    return (
        f'{{"made_with": {json.dumps(data["made_with"])},\n"clauses": [\n{clauses}\n],\n'
        f'"subjects": [\n{",".join(subjects)}\n]}}\n'
    )


def write_report(reports: Sequence[SubjectReport], folder: Path) -> None:
    """Write ``report.json`` and, drawn from what it says, ``report.md`` and ``index.html``."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = folder / "report.json"
    truth.write_text(_lines(as_json(reports)))
    data = json.loads(truth.read_text())
    (folder / "report.md").write_text(draw_markdown(data))
    (folder / "index.html").write_text(draw_html(data))
