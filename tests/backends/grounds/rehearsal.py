"""The ground for a real device, rehearsed on the simulated driver. Never a GPU."""

from __future__ import annotations

from dlexchange.testing import simulated_cuda

from . import cuda


class Ground(cuda.Ground):
    name = "rehearsal"

    @staticmethod
    def absent() -> str:
        return ""

    def open(self) -> None:
        self.context = simulated_cuda(devices=2)
        self.simulation = self.context.__enter__()
        self.begin(cuda.Device(self.simulation.library))

    def close(self) -> None:
        super().close()
        findings = [finding for finding in self.simulation.findings if finding.kind != "race"]
        assert findings == []
        assert self.races_expected or not self.simulation.findings
        self.sim.is_active = False
        self.context.__exit__(None, None, None)
