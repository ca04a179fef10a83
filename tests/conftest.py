"""Every test ends with nothing of ours alive."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

import dlexchange as dx


@pytest.fixture(autouse=True)
def nothing_left_alive() -> Iterator[None]:
    """Demand that the test lets go of every Tensor and managed tensor it made.

    Only the test that left something behind fails, not those after it.
    """
    before = dx.stats()
    yield
    if dx.stats().live > before.live:  # cycles of the test's own
        gc.collect()
    after = dx.stats()
    assert after.live <= before.live, f"still alive after the test: {after}"
