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
LEAST = {"subjects": 45, "device_subjects": 55}


@pytest.mark.slow
@pytest.mark.parametrize("where", LEAST)
@pytest.mark.parametrize("author", AUTHORS)
def test_author_fails_no_clause(author, where, monkeypatch):
    if AUTHORS[author] is not None:
        pytest.importorskip(AUTHORS[author])
    if (author, where) == ("ctypes_library", "device_subjects"):
        pytest.skip("refused: its memory is malloc's")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    verdicts = runner.run(f"authors.{where}:{author}").verdicts
    assert {verdict.clause for verdict in verdicts} == set(load())
    wrong = [verdict for verdict in verdicts if verdict.outcome in ("fail", "broken", "absent")]
    assert wrong == []
    assert sum(verdict.outcome == "pass" for verdict in verdicts) >= LEAST[where]
