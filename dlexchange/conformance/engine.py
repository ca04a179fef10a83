"""Judging: which checks belong to a clause, and what came of them for a subject."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .clauses import Clause, load, select
from .subject import Subject
from .verdict import RANK, Failed, Outcome, Untested, Verdict

__all__ = [
    "Check",
    "check_subject",
    "checks_of",
    "checks_on",
    "count",
    "judge",
    "registered",
    "steady",
    "verify",
]

Role = Literal["producer", "consumer"]
CheckFunction = Callable[[Subject], None]

ANYWHERE = ("host", "simulated CUDA", "CUDA", "SYCL")
ON_HOST = ("host",)
ON_CUDA = ("simulated CUDA", "CUDA")
ON_SIMULATOR = ("simulated CUDA",)
ON_SYCL = ("SYCL",)
ON_HOST_AND_SYCL = ("host", "SYCL")


@dataclass(frozen=True)
class Check:
    """A plain function ``check(subject)`` and the clause it is for.

    It returns when the clause is kept, raises Failed when it is broken and Untested when
    nothing can be said.
    """

    clause: str
    role: Role
    grounds: tuple[str, ...]
    run: CheckFunction
    at_exit: bool


_registry: dict[str, list[Check]] = {}


def checks(
    clause: str, role: Role, grounds: Iterable[str] = ANYWHERE, *, at_exit: bool = False
) -> Callable[[CheckFunction], CheckFunction]:
    """Register a function as a check of a clause.

    Parameters
    ----------
    clause : str
        The id.
    role : str
        Which side of a subject it needs.
    grounds : iterable of str
        Where it can run.
    at_exit : bool
        The verdict shows when the process ends; see ``worker.py``.
    """

    def register(function: CheckFunction) -> CheckFunction:
        entry = Check(clause, role, tuple(grounds), function, at_exit)
        _registry.setdefault(clause, []).append(entry)
        return function

    return register


@functools.cache
def registered() -> dict[str, list[Check]]:
    """All checks by clause id."""
    package = importlib.import_module(f"{__package__}.checks")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return _registry


def checks_of(clause: str) -> Sequence[Check]:
    """The checks of one clause."""
    return registered().get(clause, ())


def checks_on(ground: str) -> list[str]:
    """Ids of the clauses with a check that runs on `ground`."""
    return [c for c, some in registered().items() if any(ground in s.grounds for s in some)]


def judge(clause: Clause, subject: Subject) -> Verdict:
    """The verdict on one clause, in this process.

    The worst outcome of the clause's checks counts, in the order of ``verdict.RANK``.
    """
    if clause.untestable:
        return Verdict(clause.id, subject.name, "untested", seen=clause.untestable)
    for prefix, reason in subject.refuses.items():
        if _is_under(clause, prefix):
            return Verdict(clause.id, subject.name, "refused", seen=reason)
    if subject.judged and not any(_is_under(clause, prefix) for prefix in subject.judged):
        reason = f"it is judged by {', '.join(subject.judged)} alone"
        return Verdict(clause.id, subject.name, "untested", seen=reason)
    if clause.only and clause.only not in subject.name:
        return Verdict(clause.id, subject.name, "refused", seen=f"binds {clause.only} alone")
    here = [check for check in checks_of(clause.id) if subject.ground in check.grounds]
    results = [_judge_one(clause, check, subject) for check in here or checks_of(clause.id)]
    if not results:
        return Verdict(clause.id, subject.name, "untested", seen="there is no check")
    return min(results, key=lambda verdict: RANK.index(verdict.outcome))


def count() -> dict[str, int]:
    """How many clauses there are, have a check, and need a driver for it.

    ``driver`` counts those whose checks run on the simulated driver or on SYCL and not on
    host memory; ``driver_too`` those with a check that runs there as well.
    """
    there, host = {*checks_on("simulated CUDA"), *checks_on("SYCL")}, set(checks_on("host"))
    return {
        "clauses": len(load()),
        "checked": len(registered()),
        "driver_too": len(there),
        "driver": len(there - host),
    }


def steady(text: str) -> str:
    """A text without the addresses that differ from run to run."""
    return re.sub(r"0x[0-9a-f]{7,16}\b", "0x...", text)


def _is_under(clause: Clause, prefix: str) -> bool:
    return clause.id == prefix or clause.id.startswith(prefix + ".")


def _offers_nothing(clause: Clause, check: Check, subject: Subject) -> str:
    """Why a subject has nothing that this check could look at, or nothing."""
    by_cai = clause.file == "cuda_array_interface"
    if check.role == "producer":
        if not subject.produces:
            return "it makes no arrays"
        return "" if by_cai or subject.speaks_dlpack else "it does not speak DLPack"
    if by_cai:
        return "" if subject.imports_cai else "it imports nothing by the CUDA Array Interface"
    return "" if subject.consumes else "it imports no arrays"


def _judge_one(clause: Clause, check: Check, subject: Subject) -> Verdict:
    def say(outcome: Outcome, expected: str = "", seen: str = "", snippet: str = "") -> Verdict:
        return Verdict(clause.id, subject.name, outcome, expected, steady(seen), snippet)

    nothing = _offers_nothing(clause, check, subject)
    if nothing:
        return say("refused", seen=nothing)
    if subject.ground not in check.grounds:
        return say("untested", seen=f"the check runs on {', '.join(check.grounds)}")
    try:
        if subject.cuda is not None:
            subject.cuda.begin()
        check.run(subject)
    except Untested as reason:
        return say("untested", seen=str(reason))
    except Failed as failure:
        outcome: Outcome = "fail" if clause.accuses else "noted"
        return say(outcome, failure.expected, failure.seen, failure.snippet)
    except Exception as error:
        return say("broken", clause.says, f"the check raised {error!r}")
    return say("pass")


def verify(subject: Subject) -> None:
    """Look whether what a subject says of itself means anything.

    Raises
    ------
    ValueError
        Its ground is none, or a prefix in `judged` or `refuses` is no clause's.
    """
    if subject.ground not in ANYWHERE:
        raise ValueError(f"ground must be one of {', '.join(ANYWHERE)}, not {subject.ground!r}")
    for prefix in (*subject.judged, *subject.refuses):
        if not any(_is_under(clause, prefix) for clause in load().values()):
            raise ValueError(f"{subject.name} speaks of {prefix!r}, and no clause begins so")


def check_subject(subject: Subject, clauses: Sequence[str] = ()) -> list[Verdict]:
    """Judge a subject in this process.

    A crash of the subject is a crash of this process: `runner.run` judges in a child.

    Parameters
    ----------
    subject : Subject
        What to judge.
    clauses : sequence of str
        Id prefixes; all where empty.

    Returns
    -------
    list of Verdict
        One for each clause, in the order of the files.
    """
    chosen = select(clauses, load().values())
    verify(subject)
    if subject.ground != "host" and subject.cuda is None and subject.ground != "SYCL":
        raise RuntimeError(f"{subject.name} runs on {subject.ground}: use runner.run for it")
    try:
        subject.load()
    except ModuleNotFoundError as error:
        return [Verdict(c.id, subject.name, "absent", seen=str(error)) for c in chosen]
    return [judge(clause, subject) for clause in chosen if not _shows_at_exit(clause)]


def _shows_at_exit(clause: Clause) -> bool:
    return any(check.at_exit for check in checks_of(clause.id))
