"""The simulated CUDA driver as tests are given it: fixtures that demand a clean end."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

import dlexchange as dx
from dlexchange.testing import Simulation, drain, simulated_cuda


@pytest.fixture
def sim() -> Iterator[Simulation]:
    """One simulated device, the lazy scheduler; the test ends without findings."""
    with simulated_cuda() as sim:
        yield sim
        finish(sim)


@pytest.fixture
def two_devices() -> Iterator[Simulation]:
    """Two simulated devices."""
    with simulated_cuda(devices=2) as sim:
        yield sim
        finish(sim)


def finish(sim: Simulation) -> None:
    """Let everything run, and demand that nothing was wrong and nothing is left."""
    gc.collect()  # exceptions keep the frames they passed
    drain()
    assert [str(finding) for finding in sim.findings] == []
    stats = dx.stats()
    assert (stats.parked, stats.held, stats.events_in_use) == (0, 0, 0), stats
