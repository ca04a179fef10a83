"""Fixtures of the pipeline's tests: the simulated CUDA driver, under each policy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.simulated import finish, sim, two_devices

import dlexchange as dx
from dlexchange.testing import Simulation, drain, simulated_cuda

__all__ = ["finish", "sim", "two_devices"]

POLICIES = [("lazy", 0), ("eager", 0), ("random", 1)]


@pytest.fixture(autouse=True, scope="session")
def reaper() -> None:
    """Start what the core starts once a process, so that tests can count descriptors."""
    start_the_reaper()


def start_the_reaper() -> None:
    """Release something by park."""
    with simulated_cuda() as sim:
        stream = sim.stream()
        tensor = dx.from_dlpack(sim.array(4, stream=stream, fill=0, speaks="dlpack"))
        tensor.record_stream(stream)
        del tensor
        drain()


@pytest.fixture(params=POLICIES, ids=lambda p: f"{p[0]}{p[1] or ''}")
def any_sim(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    """One simulated device, under each policy in turn; the test ends without findings."""
    policy, seed = request.param
    with simulated_cuda(policy=policy, seed=seed) as sim:
        yield sim
        finish(sim)
