"""Fixtures of the stream tests: a simulated CUDA driver, never a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.simulated import finish, sim, two_devices

import dlexchange as dx
from dlexchange.testing import Simulation, drain, simulated_cuda

__all__ = ["finish", "sim", "two_devices"]

POLICIES = [("lazy", 0), ("eager", 0), ("random", 1), ("random", 2)]


@pytest.fixture(params=POLICIES, ids=lambda p: f"{p[0]}{p[1] or ''}")
def any_sim(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    """One simulated device, under each policy in turn; the test ends without findings."""
    policy, seed = request.param
    with simulated_cuda(policy=policy, seed=seed) as sim:
        yield sim
        finish(sim)


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
