"""``python -m benchmarks.gpu``: times on a GPU; ``--simulated``: counts without one;
``--rehearse``: the whole GPU program on the simulated driver, small, to see that it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks import report, versions


def main() -> int:
    """Run what the arguments ask for; 1 where a count is over its limit or a case failed."""
    options = _parse()
    if options.simulated:
        return _simulated(options.json or report.RESULTS / "gpu-simulated.json")
    from benchmarks.gpu import device

    name = "gpu-rehearsal.json" if options.rehearse else "gpu.json"
    path = options.json or Path(name)
    return device.main(path, only=options.only, rehearse=options.rehearse)


def _simulated(path: Path) -> int:
    from benchmarks.gpu import questions, simulated

    document: dict[str, Any] = {
        "suite": "gpu, simulated",
        "device": "simulated CUDA driver: counts, no times",
        "turns": simulated.TURNS,
        "environment": versions.describe(),
        "cases": list(simulated.count_all()),
        "questions": questions.ask_all(simulated=True),
    }
    print(report.environment(document))
    print("driver calls a hand-off, release included, on the simulated CUDA driver\n")
    head = ("", "by", *simulated.COLUMNS, simulated.LEGACY, "limit", "")
    print(report.table(head, map(_cells, document["cases"])))
    print(f"\n{questions.table(document['questions'])}")
    report.write(document, path)
    print(f"written: {path}")
    return int(any(line["verdict"] == "missed" for line in document["cases"]))


def _cells(line: dict[str, Any]) -> tuple[object, ...]:
    counts = [f"{count:g}" for count in line["calls"].values()]
    verdict = "MISSED" if line["verdict"] == "missed" else line["verdict"]
    return (line["case"], line["who"], *counts, verdict, line["note"])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--simulated", action="store_true", help="counts, on no GPU")
    where.add_argument("--rehearse", action="store_true", help="all of it, simulated and small")
    parser.add_argument("--only", action="append", help="one case by name; may be repeated")
    parser.add_argument("--json", type=Path, help="write the result here")
    options = parser.parse_args()
    if options.simulated and options.only:
        parser.error("--only chooses among the cases with times, and --simulated has none")
    return options


if __name__ == "__main__":
    sys.exit(main())
