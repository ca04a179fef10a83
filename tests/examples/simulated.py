"""cuda.core fills a buffer, numba copies it twice, each on its own stream; no GPU is needed.

The driver is simulated (dlexchange.testing): what runs here is NVIDIA's unchanged Python over
host memory, under a scheduler that runs nothing until it must, and then the latest first.

Run: python tests/examples/simulated.py
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

import dlexchange as dx
from dlexchange.pipeline import Pipeline
from dlexchange.testing import Simulation, simulated_cuda

COUNT = 16


class Fill:
    """A stage of cuda.core: its buffers know no stream, the stage does."""

    def load(self) -> None:
        """Remember what the thread needs; its stream is current already."""
        import cuda.core

        self._core = cuda.core
        self._device = cuda.core.Device(0)
        self._device.set_current()

    def __call__(self, ctx: Any, value: int) -> Any:
        """Allocate and fill, on this stage's stream."""
        stream = self._core.Stream.from_handle(ctx.stream.handle)
        buffer = self._device.allocate(COUNT, stream=stream)
        buffer.fill(value, stream=stream)
        return buffer


class Twice:
    """A stage of numba: what it does is given the stage's stream."""

    def load(self) -> None:
        """Remember what the thread needs."""
        from numba import cuda

        self._cuda = cuda
        cuda.select_device(0)

    def __call__(self, ctx: Any, buffer: dx.Tensor) -> Any:
        """Copy what was filled, twice, into one array."""
        buffer.record_stream(ctx.stream)
        ctx.stream.wait(buffer.ready_event)  # numba itself would block the host instead
        interface = buffer.__cuda_array_interface__
        filled = self._cuda.from_cuda_array_interface(interface, owner=buffer, sync=False)
        stream = self._cuda.external_stream(ctx.stream.handle)
        made = self._cuda.device_array(2 * COUNT, np.int8, stream=stream)
        made[:COUNT].copy_to_device(filled, stream=stream)
        made[COUNT:].copy_to_device(filled, stream=stream)
        return made


async def main(sim: Simulation) -> None:
    """Send requests through, and show that order was kept without any synchronisation."""
    pipe = Pipeline("simulated")
    fill = pipe.stage(Fill, name="fill", device="cuda:0")
    twice = pipe.stage(Twice, name="twice", device="cuda:0")
    fill >> twice
    async with pipe:
        for value in (3, 7):
            made = await pipe(value)
            values = await dx.host(made)
            print(value, values.tolist() == [value] * (2 * COUNT), type(made).__name__)
    print("findings", [finding.kind for finding in sim.findings])
    print("device synchronisations", sim.calls["cuCtxSynchronize"])


if __name__ == "__main__":
    with simulated_cuda() as sim:
        asyncio.run(main(sim))
