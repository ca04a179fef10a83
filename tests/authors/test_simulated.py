"""Every worked author with memory on the simulated CUDA device passes the suite too."""

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


@pytest.mark.slow
@pytest.mark.parametrize("author", AUTHORS)
def test_author_on_a_device_fails_no_clause(author, monkeypatch):
    if AUTHORS[author] is not None:
        pytest.importorskip(AUTHORS[author])
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    verdicts = runner.run(f"authors.subjects:{author}_cuda").verdicts
    assert {verdict.clause for verdict in verdicts} == set(load())
    wrong = [verdict for verdict in verdicts if verdict.outcome in ("fail", "broken", "absent")]
    assert wrong == []
    passed = {verdict.clause for verdict in verdicts if verdict.outcome == "pass"}
    assert len(passed) >= 60
    assert {"stream.pending-work-seen", "stream.not-kept", "copy.to-host"} <= passed
