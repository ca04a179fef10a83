"""Every test ends with nothing of ours alive."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

import dlexchange as dx
from dlexchange.testing import drain

#: Frameworks free some memory on threads of their own, a little later.
PATIENCE = 50


@pytest.fixture(autouse=True)
def nothing_left_alive() -> Iterator[None]:
    """Demand that the test lets go of every Tensor and managed tensor it made.

    Only the test that left something behind fails, not those after it.
    """
    before = dx.stats()
    yield
    for _ in range(PATIENCE):
        if dx.stats().live <= before.live:
            return
        gc.collect()  # cycles of the test's own
        drain()
    pytest.fail(f"still alive after the test: {dx.stats()}")
