"""Whether a library keeps what DLPack and its relatives demand, clause by clause.

Three faces of one engine: ``python -m dlexchange.conformance torch numpy``, the pytest
plugin ``-p dlexchange.conformance.plugin --dlpack-subject=mylib.testing:subject``, and the
functions here. ``clauses`` knows the rules (data in ``spec/``), ``subject`` what has to be
known of a library, ``checks`` looks, ``engine`` judges, ``runner`` gives every subject a
process of its own, ``known`` and ``report`` deal with what came of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from .clauses import Clause, Source, load, select
from .engine import check_subject
from .runner import SubjectReport, run
from .subject import Subject
from .verdict import Failed, Untested, Verdict

__all__ = [
    "Clause",
    "Failed",
    "Source",
    "Subject",
    "SubjectReport",
    "Untested",
    "Verdict",
    "check",
    "load",
    "run",
    "select",
]


def check(subject: Subject, clauses: Sequence[str] = (), *, strict: bool = False) -> list[Verdict]:
    """Judge a subject in this process and raise if it breaks a clause.

    A crash of the subject is a crash of this process; `run` judges in a child.

    Parameters
    ----------
    subject : Subject
        What to judge.
    clauses : sequence of str
        Id prefixes; all where empty.
    strict : bool
        Whether a SHOULD that is not kept counts.

    Returns
    -------
    list of Verdict
        One for each clause that can be judged within a process.

    Raises
    ------
    AssertionError
        A clause is broken; the text names each, what was expected and what was seen. Or the
        subject's library is not installed.
    """
    verdicts = check_subject(subject, clauses)
    if verdicts and verdicts[0].outcome == "absent":
        raise AssertionError(f"{subject.name} is absent: {verdicts[0].seen}")
    known = load()
    counted = ("must", "should") if strict else ("must",)
    broken = [
        f"{v.clause}: expected {v.expected}; saw {v.seen} ({known[v.clause].source})"
        for v in verdicts
        if v.outcome == "broken" or (v.outcome == "fail" and known[v.clause].strength in counted)
    ]
    if broken:
        raise AssertionError("\n".join([f"{subject.name} breaks {len(broken)} clauses:", *broken]))
    return verdicts
