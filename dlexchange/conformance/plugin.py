"""The suite inside pytest: one test for each clause.

.. code-block:: shell

    pytest -p dlexchange.conformance.plugin --dlpack-subject=mylib.testing:subject

Only this option makes it do anything. The subject runs in a process of its own; a crash is
a failed test. What the subject refuses, and what can not be tested on it, is skipped with
the reason; a SHOULD that is not kept is an expected failure unless ``--dlpack-strict``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .clauses import Clause, load, select
from .engine import checks_of
from .known import Known, known_file, read_known, stale
from .runner import Session
from .subjects import check_specs
from .verdict import Verdict


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("dlpack", "DLPack conformance")
    group.addoption("--dlpack-subject", action="append", default=[], metavar="SPEC")
    group.addoption("--dlpack-clause", action="append", default=[], metavar="PREFIX")
    group.addoption("--dlpack-strict", action="store_true", help="a SHOULD counts")
    group.addoption("--dlpack-known", type=Path, help="known failures of the subject")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what can not be judged."""
    specs, path = config.getoption("--dlpack-subject"), config.getoption("--dlpack-known")
    try:
        check_specs(specs)
        select(config.getoption("--dlpack-clause"))
        problems = stale(read_known(path), []) if path else []
    except (OSError, ValueError) as error:
        raise pytest.UsageError(str(error)) from None
    if path and len(specs) != 1:
        problems = ["--dlpack-known is for one subject"]
    if problems:
        raise pytest.UsageError("\n".join(problems))


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add a test for each clause and subject."""
    for spec in config.getoption("--dlpack-subject"):
        items.extend(_SubjectNode.from_parent(session, name=spec).collect())


class _SubjectNode(pytest.Collector):
    """A subject and its process."""

    _running: Session | None = None

    def collect(self) -> Iterator[_ClauseItem]:
        """One item for each chosen clause, those that end the process last."""
        chosen = select(self.config.getoption("--dlpack-clause"))
        chosen.sort(key=lambda clause: any(check.at_exit for check in checks_of(clause.id)))
        for clause in chosen:
            yield _ClauseItem.from_parent(self, name=clause.id)

    def judge(self, clause: Clause) -> Verdict:
        """The verdict on one clause."""
        if self._running is None:
            self._running = Session(self.name)
            self.session.config.add_cleanup(self._running.close)
        return self._running.judge(clause)

    def known(self) -> dict[str, Known]:
        """The known failures of the subject."""
        assert self._running is not None
        path = self.config.getoption("--dlpack-known") or known_file(self._running.report.name)
        return {k.clause: k for k in read_known(path)} if path.is_file() else {}


class _ClauseItem(pytest.Item):
    """One clause for one subject."""

    parent: _SubjectNode

    def runtest(self) -> None:
        """Judge, and say so in pytest's words."""
        clause = load()[self.name]
        verdict = self.parent.judge(clause)
        known = self.parent.known().get(clause.id)
        if verdict.outcome == "absent":
            pytest.fail(f"the subject is absent: {verdict.seen}", pytrace=False)
        if known is not None and verdict.outcome != "fail":
            pytest.fail(f"known to fail, but the verdict is {verdict.outcome}", pytrace=False)
        if verdict.outcome in ("refused", "untested"):
            pytest.skip(f"{verdict.outcome}: {verdict.seen}")
        if verdict.outcome not in ("fail", "broken"):
            return
        counts = clause.strength == "must" or self.config.getoption("--dlpack-strict")
        text = (
            f"{clause.says}\nexpected {verdict.expected}\nsaw {verdict.seen}\n"
            f"source {clause.source}\n\n{verdict.snippet}"
        )
        if known is not None or (not counts and verdict.outcome == "fail"):
            pytest.xfail(known.reason if known else f"SHOULD: saw {verdict.seen}")
        pytest.fail(text, pytrace=False)

    def reportinfo(self) -> tuple[Any, None, str]:
        """Where the clause stands."""
        return load()[self.name].file, None, f"{self.parent.name}: {self.name}"
