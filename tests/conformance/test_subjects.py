"""Subjects as whole: the simulated frameworks, dlexchange itself, and a second run."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlexchange.conformance import load, runner
from dlexchange.conformance.__main__ import main

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def children_find_the_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))


@pytest.mark.parametrize(("dialect", "least"), [("dlpack", 60), ("exchange_api", 70), ("cai", 10)])
def test_simulated_framework_fails_no_clause(dialect: str, least: int) -> None:
    verdicts = runner.run(f"{__package__}.simulated:{dialect}").verdicts
    assert [v for v in verdicts if v.outcome in ("fail", "broken", "absent")] == []
    assert sum(v.outcome == "pass" for v in verdicts) >= least


@pytest.mark.parametrize(("name", "least"), [("dlexchange", 110), ("dlexchange-cuda", 90)])
def test_dlexchange_fails_no_must_and_no_should(name: str, least: int) -> None:
    verdicts = runner.run(name).verdicts
    assert [v for v in verdicts if v.outcome in ("fail", "broken", "absent")] == []
    assert sum(v.outcome == "pass" for v in verdicts) >= least


@pytest.mark.parametrize("name", ["numpy", "array-api-strict", "torch", "cuda.core"])
def test_framework_breaks_what_is_known_and_nothing_else(name: str) -> None:
    assert main([name, "--strict"]) == 0


@pytest.mark.parametrize("name", ["numpy", "dlexchange-cuda", "cuda.core"])
def test_second_run_gives_the_same_verdicts(name: str) -> None:
    first, second = runner.run(name), runner.run(name)
    assert first.verdicts == second.verdicts
    assert len(first.verdicts) == len(load())
