"""``python -m dlexchange.conformance SUBJECT ... [--clause PREFIX] [--strict]``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from .clauses import Clause, load, select
from .engine import checks_of, count
from .known import Known, known_file, read_known, stale
from .report import as_json, summary, write_report
from .runner import SubjectReport, confirm, run
from .subjects import check_specs, shipped

EPILOG = """\
subjects are names of files in dlexchange/conformance/subjects or module:attribute.
exit status: 0 every clause is kept, 1 a MUST (with --strict also a SHOULD) is not, a known
failure is stale, a subject is absent or a check could not be run, 2 wrong usage.
"""

COUNTED = """\
{clauses} clauses, {checked} with a check, the others with the reason why there is none;
{driver_too} have a check on the simulated CUDA driver or SYCL, {driver} of them nowhere else"""

WORDS = {
    "pass": "pass",
    "fail": "FAIL",
    "noted": "note",
    "refused": "refused",
    "untested": "untested",
    "absent": "absent",
    "broken": "BROKEN",
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m dlexchange.conformance",
        description="Judge libraries by the clauses of DLPack and its relatives.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("subjects", nargs="*", help="what to judge; all that ship where none")
    made.add_argument("--clause", action="append", default=[], help="id prefix; may be repeated")
    made.add_argument("--list", action="store_true", help="list the clauses and stop")
    made.add_argument("--count", action="store_true", help="count clauses and checks and stop")
    made.add_argument("--strict", action="store_true", help="a SHOULD that is not kept counts")
    made.add_argument("--json", action="store_true", help="print JSON and nothing else")
    made.add_argument("--all", action="store_true", help="a line also for what is not wrong")
    made.add_argument("--known", type=Path, help="known failures of the one subject given")
    made.add_argument("--no-known", action="store_true", help="pass over known-failure files")
    made.add_argument("--confirm", action="store_true", help="run the snippet of each failure")
    made.add_argument("--summary", type=Path, help="draw the summary of a JSON report and stop")
    made.add_argument("--report", type=Path, help="write JSON, Markdown and HTML to this folder")
    return made


def list_clauses(clauses: Sequence[Clause], as_data: bool) -> None:
    """Print the clauses."""
    if as_data:
        rows = [dict(asdict(c), checks=len(checks_of(c.id))) for c in clauses]
        print(json.dumps(rows, indent=1))
        return
    for clause in clauses:
        tested = "" if checks_of(clause.id) else f"  [no check: {clause.untestable}]"
        print(f"{clause.strength:6} {clause.binds:8} {clause.id:40} {clause.says}{tested}")


def bar(spec: str, done: int, total: int) -> None:
    """Draw the progress of a subject on a terminal."""
    if not sys.stderr.isatty():
        return
    filled = 30 * done // total
    sys.stderr.write(f"\r{spec[:30]:30} [{'#' * filled}{'.' * (30 - filled)}] {done}/{total}")
    sys.stderr.write("\n" if done == total else "")
    sys.stderr.flush()


def confirmed(report: SubjectReport) -> None:
    """Run the snippet of each failure in a fresh interpreter and write down what came of it."""
    report.verdicts = [
        replace(v, confirmed=confirm(v.snippet)) if v.outcome == "fail" else v
        for v in report.verdicts
    ]


def say(report: SubjectReport, known: Sequence[Known], everything: bool) -> None:
    """Print the verdicts on a subject."""
    clauses, expected = load(), {entry.clause for entry in known}
    print(f"\n{report.name} {report.version} ({report.ground})")
    outcomes = {(verdict.outcome, verdict.seen) for verdict in report.verdicts}
    if len(outcomes) == 1 and (first := report.verdicts[0]).outcome in ("absent", "broken"):
        print(f"  {WORDS[first.outcome]}: {first.seen}")
        return
    for verdict in report.verdicts:
        if verdict.outcome in ("pass", "refused", "untested", "absent") and not everything:
            continue
        clause = clauses[verdict.clause]
        word = "known" if verdict.clause in expected else WORDS[verdict.outcome]
        print(f"  {word:8} {clause.strength:6} {clause.id}")
        if verdict.seen and verdict.outcome != "pass":
            if verdict.expected:
                print(f"           expected {verdict.expected}")
            print(f"           saw {verdict.seen}")
            print(f"           source {clause.source}")
        if verdict.confirmed is False:
            print("           its snippet does not show this outside the suite")
    counts = {word: 0 for word in WORDS}
    for verdict in report.verdicts:
        counts[verdict.outcome] += 1
    said = ", ".join(f"{n} {outcome}" for outcome, n in counts.items() if n)
    worked = f"{report.processor_seconds:.1f} s of processor time"
    print(f"  {said}; in {report.seconds:.1f} s, {worked}")


def failing(report: SubjectReport, known: Sequence[Known], strict: bool) -> int:
    """How many verdicts count against a subject."""
    clauses, expected = load(), {entry.clause for entry in known}
    counted = ("must", "should") if strict else ("must",)
    found = 0
    for verdict in report.verdicts:
        fails = verdict.outcome == "fail" and clauses[verdict.clause].strength in counted
        found += (fails and verdict.clause not in expected) or verdict.outcome in (
            "broken",
            "absent",
        )
    return found


def says(options: argparse.Namespace, chosen: Sequence[Clause]) -> bool:
    """Print what needs no subject, where that was asked for."""
    if options.list:
        list_clauses(chosen, options.json)
    elif options.count:
        print(COUNTED.format(**count()))
    elif options.summary:
        try:
            print(summary(json.loads(options.summary.read_text())), end="")
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{options.summary} is no report.json of this suite") from None
    else:
        return False
    return True


def prepare(options: argparse.Namespace) -> None:
    """Raise, before anything is judged, where what was asked for can not be done."""
    check_specs(options.subjects)
    if options.known:
        if len(options.subjects) != 1:
            raise ValueError("--known is for one subject")
        read_known(options.known)
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)


def judged(spec: str, options: argparse.Namespace) -> tuple[SubjectReport, bool]:
    """The report on a subject, said unless JSON is asked for, and whether all is well."""
    report = run(spec, options.clause, bar)
    path = options.known or known_file(report.name)
    known = read_known(path) if path.is_file() and not options.no_known else []
    problems = stale(known, report.verdicts)
    if options.confirm or options.report:
        confirmed(report)
    if not options.json:
        say(report, known, options.all)
        for problem in problems:
            print(f"  STALE    {path.name}: {problem}")
    return report, not problems and failing(report, known, options.strict) == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    command = parser()
    options = command.parse_args(arguments)
    try:
        if says(options, select(options.clause)):
            return 0
        prepare(options)
    except (OSError, ValueError) as error:
        command.error(str(error))
    found = [judged(spec, options) for spec in options.subjects or shipped()]
    reports = [report for report, _ in found]
    if options.json:
        print(json.dumps(as_json(reports), indent=1))
    if options.report:
        write_report(reports, options.report)
    return int(not all(well for _, well in found))


if __name__ == "__main__":
    sys.exit(main())
