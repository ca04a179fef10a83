"""Every worked author passes the conformance suite, on the host and on the simulated driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlexchange.conformance import load, runner

#: An author, and the package that it is built with.
AUTHORS = {
    "pure_python": None,
    "ctypes_library": None,
    "c_extension": None,
    "nanobind_extension": "nanobind",
    "pybind11_extension": "pybind11",
    "cython_extension": "Cython",
}


#: The checks that say something of an author who describes memory, by where it is.
LEAST = {"": 45, "_cuda": 60}


@pytest.mark.slow
@pytest.mark.parametrize("where", LEAST, ids=["host", "device"])
@pytest.mark.parametrize("author", AUTHORS)
def test_author_fails_no_clause(author, where, monkeypatch):
    if AUTHORS[author] is not None:
        pytest.importorskip(AUTHORS[author])
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    verdicts = runner.run(f"authors.subjects:{author}{where}").verdicts
    assert {verdict.clause for verdict in verdicts} == set(load())
    wrong = [verdict for verdict in verdicts if verdict.outcome in ("fail", "broken", "absent")]
    assert wrong == []
    passed = {verdict.clause for verdict in verdicts if verdict.outcome == "pass"}
    assert len(passed) >= LEAST[where]
    if where == "_cuda":
        assert {"stream.pending-work-seen", "stream.not-kept", "copy.to-host"} <= passed
