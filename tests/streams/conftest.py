"""Fixtures of the stream tests: a simulated CUDA driver, never a GPU."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

import dlexchange as dx
from dlexchange.testing import Simulation, drain, simulated_cuda

POLICIES = [("lazy", 0), ("eager", 0), ("random", 1), ("random", 2)]


@pytest.fixture
def sim() -> Iterator[Simulation]:
    """One simulated device, the lazy scheduler; the test ends without findings."""
    with simulated_cuda() as sim:
        yield sim
        finish(sim)


@pytest.fixture(params=POLICIES, ids=lambda p: f"{p[0]}{p[1] or ''}")
def any_sim(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    """One simulated device, under each policy in turn; the test ends without findings."""
    policy, seed = request.param
    with simulated_cuda(policy=policy, seed=seed) as sim:
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


def driver_calls(sim: Simulation) -> dict[str, int]:
    """Count what a hand-off is judged by; entering a context is looked at elsewhere."""
    quiet = ("cuCtx", "cuThreadExchange", "cuGetProc", "cuGetError", "cuDevice")
    return {name: n for name, n in sim.calls.items() if not name.startswith(quiet)}


def warm(sim: Simulation) -> None:
    """Load the driver and fill the pools, so that what follows is the steady state."""
    for device in range(sim._config.devices):
        p = sim.stream(device)
        x = sim.array(4, stream=p, fill=0, speaks="dlpack")
        t = dx.from_dlpack(x)
        t.record_stream(dx.Stream.create(("cuda", device)[0] + f":{device}"))
        del t, x, p
    drain()
    sim.reset_calls()


def other(sim: Simulation) -> Any:
    """A second framework, with current streams of its own."""
    return sim.framework("exchange_api", "other")
