"""``python -m dlexchange``: what is on this machine, and a live demonstration.

Exchanges tensors between every pair of installed frameworks and proves each hand-off:
values, address, and a write on one side that is seen on the other. Pairs run in child
processes with a time limit, so that frameworks that crash when they are loaded together
cost one cell of the matrix.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

from ..exchange import frameworks
from . import machine, streams, text
from .exchange import Verdict
from .pairs import FAST, Survey, survey

__all__ = ["SECTIONS", "Section", "main"]


class Section(NamedTuple):
    """A part of the report: what it finds (for ``--json``) and how that reads."""

    name: str
    title: str
    collect: Callable[[Survey], Any]
    show: Callable[[Any], str]


def _collect_machine(found: Survey) -> Any:
    drivers = [driver._asdict() for driver in machine.drivers()]
    return {**machine.describe(), "drivers": drivers}


def _show_machine(data: Any) -> str:
    lines = [(name, str(data[name])) for name in ("system", "processor", "cores", "python")]
    for driver in data["drivers"]:
        said = f"{driver['library']} {driver['version']}, {driver['devices']} devices"
        simulated = " (simulated)" if driver["simulated"] else ""
        lines.append((driver["name"], driver["why"] or said + simulated))
    return text.rows(lines)


def _collect_frameworks(found: Survey) -> Any:
    return found.frameworks


def _show_frameworks(data: Any) -> str:
    if not data:
        return text.paragraph(
            "No framework is installed here, so there is nothing to exchange. To go on: "
            "pip install numpy torch (or any two of numpy, torch, jax, cupy, apache-tvm-ffi, "
            "pyarrow, mlx, tensorflow, ...), then run this again."
        )
    return text.frameworks(data)


def _collect_pairs(found: Survey) -> Any:
    return [verdict._asdict() for verdict in found.pairs]


def _show_pairs(data: Any) -> str:
    if not data:
        return "Nothing to exchange."
    head = text.paragraph(
        "Microseconds for one hand-off of 32 floats with dx.convert(x, to), release included; "
        "fastest of seven loops, beside whatever else ran here (benchmarks/ measures). Producers "
        "are in the rows, consumers in the columns."
    )
    drawn = text.matrix([Verdict(**verdict) for verdict in data])
    more = ""
    if len(data) == 1:
        more = "\n" + text.paragraph(
            "One framework alone is not much of an exchange: install another and run this again."
        )
    return f"{head}\n\n{drawn}{more}"


def _collect_streams(found: Survey) -> Any:
    return streams.demonstrate()._asdict()


def _show_streams(data: Any) -> str:
    seen = streams.Outcome(**data)
    if seen.why:
        return text.paragraph(f"The stream demonstration did not run: {seen.why}")
    yes = {True: "yes", False: "NO"}
    head = text.paragraph(
        f"On the {seen.device}: a producer's stream is held by a latch, its array is handed to "
        "a consumer on another stream, and the latch is opened afterwards."
    )
    facts = [
        ("hand-off returned while the latch was closed", yes[seen.returned_while_closed]),
        ("consumer's stream waited for the producer's", yes[seen.consumer_waited]),
        ("an unrelated stream finished meanwhile", yes[seen.unrelated_finished]),
        ("value read with the push", f"{seen.with_push} (right is {streams.NEW})"),
        ("value read without it", f"{seen.without_push} (stale is {streams.OLD})"),
    ]
    return f"{head}\n\n{text.rows(facts)}"


#: What the report consists of, in order; a demonstration more is one line more.
SECTIONS = [
    Section("machine", "This machine", _collect_machine, _show_machine),
    Section("frameworks", "Frameworks", _collect_frameworks, _show_frameworks),
    Section("pairs", "Exchanges", _collect_pairs, _show_pairs),
    Section("streams", "Streams", _collect_streams, _show_streams),
]


def main(arguments: list[str] | None = None) -> int:
    """Run the report; 1 where an exchange or the streams gave wrong values, else 0."""
    options = _parse(arguments)
    start = time.monotonic()
    found = survey(
        fast=options.fast,
        only=tuple(options.only),
        limit_s=options.limit,
        progress=_progress if sys.stderr.isatty() else lambda done, total: None,
    )
    data = {section.name: section.collect(found) for section in SECTIONS}
    wrong = [v for v in found.pairs if v.outcome == "wrong"]
    if options.json:
        seconds = round(time.monotonic() - start, 3)
        print(json.dumps({"dlexchange": version("dlexchange"), "seconds": seconds, **data}))
    else:
        print(f"dlexchange {version('dlexchange')}\n")
        for section in SECTIONS:
            print(f"{text.title(section.title)}\n{section.show(data[section.name])}\n")
        print(_conclusion(found, time.monotonic() - start))
    broken = data["streams"]["why"] == "" and not streams.Outcome(**data["streams"]).is_right
    return 1 if wrong or broken else 0


def _conclusion(found: Survey, seconds: float) -> str:
    wrong = [f"{v.producer} > {v.consumer}" for v in found.pairs if v.outcome == "wrong"]
    if wrong:
        return text.paragraph(f"WRONG: {', '.join(wrong)}. Please report this.")
    return f"No exchange gave wrong values. {seconds:.1f} s"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dlexchange",
        description="Say what is on this machine, and exchange tensors between every pair of "
        "installed frameworks.",
        epilog="Exit status: 1 where an exchange gave wrong values, else 0.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--fast", action="store_true", help=f"one process, and only {', '.join(FAST)}"
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="only these frameworks"
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="give up on a process that is silent for so long (default 60)",
    )
    options = parser.parse_args(arguments)
    there = [info.name for info in frameworks()] if options.only else []
    if missing := [name for name in options.only if name not in there]:
        parser.error(f"not installed: {', '.join(missing)}; there are: {', '.join(there)}")
    if options.fast and (slow := [name for name in options.only if name not in FAST]):
        parser.error(f"--fast leaves out {', '.join(slow)}: only {', '.join(FAST)}")
    if options.limit <= 0:
        parser.error("--limit is a time to wait: more than 0")
    return options


def _progress(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\rexchanging: {done} of {total} pairs{end}", end="", file=sys.stderr, flush=True)
