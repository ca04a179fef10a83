"""Test stream code without a GPU: a simulated CUDA driver and its controls.

``simulated_cuda()`` loads a shared library that exports the CUDA driver API over host memory;
dlexchange, cuda.bindings, cuda.core and numba-cuda run on it unchanged. Nothing here is a
device: everything that comes from it says "simulated".
"""

from dlexchange.testing.arrays import SimArray
from dlexchange.testing.driver import SimulatedDriverError
from dlexchange.testing.framework import Framework
from dlexchange.testing.simulate import (
    active_frameworks,
    drain,
    every_schedule,
    simulated_cuda,
    simulated_hip,
)
from dlexchange.testing.simulation import Finding, Simulation
from dlexchange.testing.streams import SimEvent, SimGraph, SimLatch, SimStream

__all__ = [
    "Finding",
    "Framework",
    "SimArray",
    "SimEvent",
    "SimGraph",
    "SimLatch",
    "SimStream",
    "SimulatedDriverError",
    "Simulation",
    "active_frameworks",
    "drain",
    "every_schedule",
    "simulated_cuda",
    "simulated_hip",
]
