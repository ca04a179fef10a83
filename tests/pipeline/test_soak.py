"""The benchmark's soak, smaller: flat, and every request has exactly one outcome."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from support import memory

from .support import nothing_left

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.slow


def test_of_many_requests_a_tenth_cancelled_none_is_lost_and_nothing_grows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.pipeline import soak

    n = 2000

    def work() -> None:
        with nothing_left():
            look(soak(n))

    growth = memory.growth(work)
    assert growth.blocks < n // 10
    assert growth.nbytes < 16 * n


def look(found: dict[str, Any]) -> None:
    n = found["requests"]
    assert found["finished"] + found["cancelled"] == n
    assert found["cancelled"] > n // 50
    counted = found["outcomes as counted by the pipeline"]
    assert counted["failed"] == 0
    assert found["cancelled before the pipeline saw them"] >= 0
    assert counted["finished"] >= found["finished"]
    assert found["tickets missing"] == 0
    first, last = found["after a fifth"], found["at the end"]
    assert last["descriptors"] == first["descriptors"]
    assert last["threads"] == first["threads"]


def test_the_benchmark_measures_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers are for its own run; here only that it runs, and that ours is one of them."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import pipeline

    found = pipeline.hop(20, rounds=1)
    assert {name.split(":")[0] for name in found} == {
        "ours",
        "asyncio.Queue + to_thread",
        "ratio per hop",
    }
    assert pipeline.overlap(4, 0.001)["wall / slowest stage"] > 0
    assert "benchmarks.pipeline" in sys.modules
