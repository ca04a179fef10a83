"""Known failures: what a subject is known to break, a toml file for each subject.

.. code-block:: toml

    [[known]]
    clause = "import.negative-strides"
    reason = "aborts the process; fixed upstream after 2.12"

An entry whose clause does not exist, or no longer fails, is an error: what is known has to
stay true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .clauses import load, read_toml
from .verdict import Verdict

__all__ = ["Known", "known_file", "read_known", "stale"]


@dataclass(frozen=True)
class Known:
    """One entry."""

    clause: str
    reason: str


def known_file(subject: str) -> Path:
    """The file of a subject that ships with the suite; it need not exist."""
    return Path(__file__).parent / "known_failures" / f"{subject}.toml"


def read_known(path: Path) -> list[Known]:
    """The entries of a file.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is no toml, or holds something else than entries of a clause and a reason, each
        clause once.
    """
    try:
        content = read_toml(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    found = content.pop("known", [])
    if content or any(set(entry) != {"clause", "reason"} for entry in found):
        raise ValueError(f"{path}: write [[known]] entries of clause and reason, nothing else")
    entries = [Known(**entry) for entry in found]
    for entry in entries:
        if not entry.reason:
            raise ValueError(f"{path}: {entry.clause} needs a reason")
    names = [entry.clause for entry in entries]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"{path}: {', '.join(sorted(twice))} stand there twice")
    return entries


def stale(known: Sequence[Known], verdicts: Sequence[Verdict]) -> list[str]:
    """What is wrong with the entries, given what came of the clauses that were run."""
    outcomes = {verdict.clause: verdict.outcome for verdict in verdicts}
    problems = []
    for entry in known:
        if entry.clause not in load():
            problems.append(f"{entry.clause} is known to fail, but there is no such clause")
        elif outcomes.get(entry.clause) not in (None, "fail", "absent"):
            outcome = outcomes[entry.clause]
            problems.append(f"{entry.clause} is known to fail, but the verdict is {outcome}")
    return problems
