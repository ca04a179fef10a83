"""The simulated driver under HIP's names. Never a GPU."""

from __future__ import annotations

from contextlib import AbstractContextManager

import dlexchange as dx
from dlexchange.testing import SimStream, Simulation, simulated_hip

from . import sim


class Ground(sim.Ground):
    name = "hip"

    def named(self, stream: SimStream) -> dx.Stream:
        return dx.Stream.from_handle("rocm:0", self.sim.number_of(stream), stream)

    def simulation(self) -> AbstractContextManager[Simulation]:
        return simulated_hip(devices=2)
