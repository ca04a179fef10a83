"""The rows of producers: every limit of the table has its verdict."""

from __future__ import annotations

import pytest

from benchmarks import frameworks, producer


def test_every_limit_is_judged() -> None:
    lines = producer.run(rounds=1, round_ns=1_000)
    assert len(lines) == len(producer.METHOD_LIMITS) + len(producer.TABLE_LIMITS)
    assert {line["verdict"] for line in lines} <= {"met", "missed"}
    assert {line["against"] for line in lines} == {producer.METHOD, producer.TABLE}


def test_without_torch_its_line_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frameworks, "has", lambda name: name != "torch")
    lines = producer.run(rounds=1, round_ns=1_000)
    unrun = [line["against"] for line in lines if line["verdict"] == "not run"]
    assert unrun == [producer.TABLE] * len(producer.TABLE_LIMITS)


def test_a_limit_missed_is_said() -> None:
    found = {producer.METHOD: [1.0], "C author": [1.3]}
    (line,) = producer._verdicts(found, producer.METHOD, {"C author": 1.2})
    assert line["verdict"] == "missed"
