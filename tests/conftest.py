"""Every test ends with nothing of ours alive."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

import dlexchange as dx


@pytest.fixture(autouse=True)
def nothing_left_alive() -> Iterator[None]:
    """Demand that the test lets go of every Tensor and managed tensor it made."""
    before = dx.stats()
    assert before.live == 0, f"alive before the test began: {before}"
    yield
    if dx.stats().live != 0:  # cycles of the test's own
        gc.collect()
    after = dx.stats()
    assert after.live == 0, f"still alive after the test: {after}"
