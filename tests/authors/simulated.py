"""A worked author with memory on a (simulated) CUDA device and work pending on streams."""

from __future__ import annotations

import dlexchange as dx


class Chart(dx.Producer):
    """An array on a device that remembers on which streams it is being written."""

    def __init__(self, sim, shape, fill, *, streams, dtype="float32"):
        self.memory = sim.array(shape, dtype, stream=streams[0], fill=fill)
        self.streams = list(streams)

    def __dlexchange__(self):
        return dx.Description(
            self.memory.data_ptr,
            self.memory.shape,
            self.memory.dtype,
            device=f"cuda:{self.memory.device}",
            owner=self.memory,
            stream=self.streams,
            allocation_stream=self.memory.stream,
        )
