"""``python -m benchmarks.plots``: pictures of the committed results, light and dark.

Every figure comes out of a JSON file that a command of this folder wrote; nothing is
typed here. Each picture is written as SVG and PNG, in `results/plots`.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.cases import FLOOR, OURS
from benchmarks.frameworks import CONSUMERS, PRODUCERS

PLOTS = report.RESULTS / "plots"
SHOWN = {"tensor": "dlexchange.Tensor", "tvm": "tvm-ffi"}
THEMES = {
    "light": {"ground": "#ffffff", "ink": "#1f2328", "faint": "#d0d7de", "ours": "#cf222e"},
    "dark": {"ground": "#0d1117", "ink": "#e6edf3", "faint": "#30363d", "ours": "#ff7b72"},
}
PEER_COLOURS = ("#0969da", "#1a7f37", "#9a6700", "#8250df", "#57606a", "#bf3989", "#0e7490")
PEER_MARKS = "sDv^Pp*"

Theme = dict[str, str]


def _name(framework: str) -> str:
    return SHOWN.get(framework, framework)


def _groups(document: dict[str, Any], consumer: str) -> dict[str, dict[str, Any]]:
    """By producer: 16 floats into `consumer`; a torch source has one owner."""
    return {
        group["producer"]: {line["name"]: line for line in group["contenders"]}
        for group in document["groups"]
        if group["consumer"] == consumer
        and group["kind"] == "16 floats"
        and group["state"] in ("", "unique")
    }


def pairs(figure: Any, theme: Theme) -> None:
    """Every pair: ours and the peers, as multiples of the floor."""
    document = report.read("host")
    figure.set_size_inches(10, 9)
    panels = figure.subplots(len(CONSUMERS), 1, sharex=True)
    for panel, consumer in zip(panels, CONSUMERS, strict=True):
        groups = _groups(document, consumer)
        producers = [producer for producer in PRODUCERS if producer in groups]
        seen: dict[str, tuple[str, str]] = {}
        for row, producer in enumerate(producers):
            for name, line in groups[producer].items():
                if name == FLOOR:
                    continue
                _mark(panel, row, name, line, theme, seen, document["guarantees"])
        panel.axvline(1, color=theme["ink"], linewidth=1)
        panel.set_yticks(range(len(producers)), [_name(producer) for producer in producers])
        panel.set_ylim(len(producers) - 0.5, -0.5)
        panel.set_title(f"to {_name(consumer)}", loc="left", fontsize=10)
        panel.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
        panel.set_xscale("log")
        panel.grid(axis="x", color=theme["faint"], linewidth=0.5)
    ticks = (1, 2, 5, 10, 20, 50, 100)
    panels[-1].set_xticks(ticks, [f"{tick}x" for tick in ticks])
    panels[-1].minorticks_off()
    panels[-1].set_xlabel(
        "time of one hand-off of 16 floats in host memory, as a multiple of the floor (log)\n"
        "filled: values kept (conj, neg bits).  hollow: raw memory is handed over.  "
        "left is faster",
    )
    figure.suptitle("Hand-offs against the floor and the peers", fontsize=12, x=0.02, ha="left")


def _mark(
    panel: Any,
    row: int,
    name: str,
    line: dict[str, Any],
    theme: Theme,
    seen: dict[str, tuple[str, str]],
    guarantees: dict[str, dict[str, str]],
) -> None:
    ratio = line["ratio_to_floor"]
    label = name if name not in seen else None
    if name not in seen:
        peers = len([known for known in seen if known != OURS])
        seen[name] = (
            ("o", theme["ours"]) if name == OURS else (PEER_MARKS[peers], PEER_COLOURS[peers])
        )
    mark, colour = seen[name]
    panel.plot(
        [ratio["median"]],
        [row],
        mark,
        color=colour,
        markersize=9 if name == OURS else 7,
        fillstyle="full" if guarantees[name]["values"] == "yes" else "none",
        label=label,
        zorder=3 if name == OURS else 2,
    )
    panel.plot([ratio["p25"], ratio["p75"]], [row, row], color=colour, linewidth=1)


def breakdown(figure: Any, theme: Theme) -> None:
    """Whose instructions one hand-off runs; the tick is the floor's sum."""
    document = report.read("instructions")
    counts = document["counts"]
    names = [name.removesuffix(", ours") for name in counts if name.endswith(", ours")]
    order = ("torch", "numpy", "jaxlib", "tvm_ffi", "python", "libc", "dlexchange")
    colours = dict(zip(order, (*PEER_COLOURS[:6], theme["ours"]), strict=True))
    figure.set_size_inches(10, 0.5 * len(names) + 1.6)
    panel = figure.subplots()
    for row, name in enumerate(names):
        objects = dict(counts[f"{name}, ours"]["objects"])
        start = 0.0
        parts = {key: objects.pop(key, 0.0) for key in order}
        parts["other"] = sum(objects.values())
        for key, cost in parts.items():
            colour = colours.get(key, theme["faint"])
            panel.barh(row, cost, left=start, color=colour, label=key if row == 0 else None)
            start += cost
        panel.plot(
            [counts[f"{name}, floor"]["total"]] * 2,
            [row - 0.45, row + 0.45],
            color=theme["ink"],
            linewidth=2,
            label="the floor" if row == 0 else None,
        )
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.set_xlabel("instructions of one hand-off, release included (callgrind)")
    panel.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    panel.set_title("Where the instructions of one hand-off go", loc="left", fontsize=12)


def growth(figure: Any, theme: Theme) -> None:
    """Cost of one hand-off against the size of everything."""
    document = report.read("growth")
    axes = list(dict.fromkeys(curve["axis"] for curve in document["curves"]))
    rows = -(-len(axes) // 2)
    figure.set_size_inches(10, 3.25 * rows)
    panels = figure.subplots(rows, 2).flat
    for panel in panels[len(axes) :]:
        panel.set_axis_off()
    for panel, axis in zip(panels, axes, strict=False):
        curves = [curve for curve in document["curves"] if curve["axis"] == axis]
        pairs_seen = list(dict.fromkeys(curve["pair"] for curve in curves))
        for curve in curves:
            first = curve["who"] == curves[0]["who"]
            panel.plot(
                [point["at"] for point in curve["points"]],
                [point["min_ns"] for point in curve["points"]],
                "o-" if first else "--",
                markersize=3,
                linewidth=1.2,
                color=PEER_COLOURS[pairs_seen.index(curve["pair"])],
                label=f"{curve['pair']}{'' if curve['who'] == OURS else ', ' + curve['who']}",
            )
        if axis != "ndim":
            sizes = [point["at"] for point in curves[0]["points"]]
            panel.set_xscale("symlog" if axis == "live results" else "log")
            panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
            panel.minorticks_off()
        panel.set_ylim(bottom=0)
        panel.set_title(f"ns against {axis}", loc="left", fontsize=10)
        panel.legend(frameon=False, fontsize=6)
        panel.grid(color=theme["faint"], linewidth=0.5)


def timeline(figure: Any, theme: Theme) -> None:
    """When each stage of a two-framework pipeline works, with the library and without."""
    document = report.read("timeline")
    stages = document["stages"]
    figure.set_size_inches(10, 1.1 + 1.3 * len(document["ways"]))
    panels = figure.subplots(len(document["ways"]), 1, sharex=True)
    for panel, (name, way) in zip(panels, document["ways"].items(), strict=True):
        start = min(span["begin_ns"] for span in way["spans"])
        for span in way["spans"]:
            left, width = span["begin_ns"] - start, span["end_ns"] - span["begin_ns"]
            row = stages.index(span["stage"])
            colour = PEER_COLOURS[span["item"] % len(PEER_COLOURS)]
            panel.barh(row, width / 1e6, left=left / 1e6, color=colour, edgecolor=theme["ground"])
            middle = (left + width / 2) / 1e6
            panel.text(
                middle, row, span["item"], ha="center", va="center", color="#ffffff", fontsize=7
            )
        panel.set_yticks(range(len(stages)), stages)
        panel.set_ylim(len(stages) - 0.5, -0.5)
        ratio = way["wall_over_longest_stage"]
        panel.set_title(
            f"{name}: wall time {ratio:.2f} x the longest stage", loc="left", fontsize=10
        )
        panel.grid(axis="x", color=theme["faint"], linewidth=0.5)
        panel.set_axisbelow(True)
    panels[-1].set_xlabel(f"ms; numbers are requests. Measured on {document['device']}")


PICTURES: dict[str, Callable[[Any, Theme], None]] = {
    "pairs": pairs,
    "breakdown": breakdown,
    "growth": growth,
    "timeline": timeline,
}


def draw(name: str, theme_name: str, folder: Path) -> list[Path]:
    """Draw one picture in one theme; returns the two files."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    theme = THEMES[theme_name]
    style = dict.fromkeys(
        ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.titlecolor"),
        theme["ink"],
    )
    style |= dict.fromkeys(("figure.facecolor", "axes.facecolor"), theme["ground"])
    style |= {"axes.edgecolor": theme["faint"], "svg.hashsalt": name, "font.size": 9}
    style |= {"axes.spines.top": False, "axes.spines.right": False}
    files = []
    with pyplot.rc_context(style):
        figure = pyplot.figure(layout="constrained")
        PICTURES[name](figure, theme)
        for suffix in ("svg", "png"):
            path = folder / f"{name}-{theme_name}.{suffix}"
            metadata = {"Date": None} if suffix == "svg" else {"Software": None}
            figure.savefig(path, dpi=144, metadata=metadata)
            files.append(path)
        pyplot.close(figure)
    return files


def main() -> int:
    """Draw every picture whose results are committed; say which are not."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plots", description="Draw results/*.json to results/plots."
    )
    parser.parse_args()
    if importlib.util.find_spec("matplotlib") is None:
        parser.error("matplotlib is not installed: pip install -e '.[bench]'")
    PLOTS.mkdir(parents=True, exist_ok=True)
    missing = 0
    for name in PICTURES:
        try:
            for theme_name in THEMES:
                for path in draw(name, theme_name, PLOTS):
                    print(f"written: {path}")
        except FileNotFoundError as error:
            missing += 1
            print(f"not drawn: {name}: {error.filename} is not there yet")
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
