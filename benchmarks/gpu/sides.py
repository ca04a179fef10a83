"""torch and CuPy on a GPU, and their stand-ins on the simulated driver, behind one face.

A side makes arrays and kernels on its current stream, hands over with our function and with
its own, and gives the bare capsule that hand-written code would pass.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import dlexchange as dx

ELEMENTS = 16
#: Cycles of the kernel that a side's clock is calibrated with.
CALIBRATION = 20_000_000
_SPIN = r"""
extern "C" __global__ void spin(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) {
    }
}
"""


class Side:
    """One framework; each subclass says how it does these things."""

    name: str
    own: Callable[[Any], Any]  # its public from_dlpack, into its current stream
    ours: Callable[..., Any]  # our function that ends in it; takes stream=
    of_capsule: Callable[[Any], Any]  # its import of a bare capsule; orders nothing
    cycles_a_microsecond = 1.0

    def stream(self) -> Any:
        """A new stream that does not wait for the legacy default stream."""
        raise NotImplementedError

    def default(self) -> Any:
        """The legacy default stream."""
        raise NotImplementedError

    def handle(self, stream: Any) -> int:
        """The driver's handle."""
        raise NotImplementedError

    def use(self, stream: Any) -> AbstractContextManager[Any]:
        """Make a stream current in the body."""
        raise NotImplementedError

    def array(self, elements: int = ELEMENTS) -> Any:
        """An array written on the current stream."""
        raise NotImplementedError

    def capsule(self, x: Any) -> Any:
        """A bare capsule; orders nothing."""
        raise NotImplementedError

    def own_into(self, x: Any, stream: Any) -> Any:
        """Hand over to this same framework, its producer half ordering into `stream`."""
        capsule = x.__dlpack__(stream=self.handle(stream), max_version=(1, 0))
        return self.of_capsule(capsule)

    def spin(self, cycles: int) -> None:
        """Enqueue a kernel of one thread that runs so many clock cycles."""
        raise NotImplementedError

    def busy(self, microseconds: float) -> None:
        """Enqueue a kernel that takes so long and one multiprocessor at most."""
        self.spin(max(1, int(microseconds * self.cycles_a_microsecond)))

    def record_stream(self, x: Any, handle: int) -> None:
        """Tell the framework's own allocator of a further stream."""
        raise NotImplementedError

    def forget_memory(self) -> None:
        """Give cached memory back, so that `memory_taken` begins anew."""

    def memory_taken(self) -> int:
        """The most memory taken from the device at once, in bytes; of a stand-in, blocks."""
        raise NotImplementedError

    def touch(self, x: Any) -> Any:
        """Compute something from `x` on the current stream."""
        return x + x


class Torch(Side):
    """torch with CUDA."""

    name = "torch"
    ours = staticmethod(dx.to_torch)

    def __init__(self) -> None:
        import torch

        torch.cuda.init()
        self._torch = torch
        self.own = torch.from_dlpack
        self.of_capsule = torch.utils.dlpack.from_dlpack
        self.stream = torch.cuda.Stream
        self.default = torch.cuda.default_stream
        self.use = torch.cuda.stream
        self.capsule = torch.utils.dlpack.to_dlpack
        self.spin = torch.cuda._sleep

    def handle(self, stream: Any) -> int:
        return stream.cuda_stream or 1

    def array(self, elements: int = ELEMENTS) -> Any:
        return self._torch.ones(elements, device="cuda")

    def record_stream(self, x: Any, handle: int) -> None:
        x.record_stream(self._torch.cuda.ExternalStream(handle))

    def forget_memory(self) -> None:
        self._torch.cuda.empty_cache()
        self._torch.cuda.reset_peak_memory_stats()

    def memory_taken(self) -> int:
        return self._torch.cuda.max_memory_reserved()


class Cupy(Side):
    """CuPy."""

    name = "cupy"
    ours = staticmethod(dx.to_cupy)

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        self.own = self.of_capsule = cupy.from_dlpack
        self._spin = cupy.RawKernel(_SPIN, "spin")

    def stream(self) -> Any:
        return self._cupy.cuda.Stream(non_blocking=True)

    def default(self) -> Any:
        return self._cupy.cuda.Stream.null

    def handle(self, stream: Any) -> int:
        return stream.ptr or 1

    def use(self, stream: Any) -> AbstractContextManager[Any]:
        return stream

    def array(self, elements: int = ELEMENTS) -> Any:
        return self._cupy.ones(elements, dtype="float32")

    def capsule(self, x: Any) -> Any:
        return x.__dlpack__(stream=-1, max_version=(1, 0))

    def memory_taken(self) -> int:
        return self._cupy.get_default_memory_pool().total_bytes()

    def spin(self, cycles: int) -> None:
        self._spin((1,), (1,), (self._cupy.int64(cycles),))


class Simulated(Side):
    """The simulated array framework; nothing it does is a time."""

    def __init__(self, sim: Any, speaks: str) -> None:
        self._sim, self._framework = sim, sim.framework(speaks, f"bench_{speaks}")
        self.name = f"simulated {speaks}"
        self.ours = partial(_convert, self._framework.array_type)
        self.own = self._framework.from_dlpack
        self.stream = sim.stream
        self.default = sim.legacy
        self.use = self._framework.use_stream

    def handle(self, stream: Any) -> int:
        return stream.handle

    def array(self, elements: int = ELEMENTS) -> Any:
        return self._framework.array(elements, fill=1)

    def capsule(self, x: Any) -> Any:
        return x.__dlpack__(stream=-1, max_version=(1, 0))

    def of_capsule(self, capsule: Any) -> Any:
        from dlexchange.testing import dlpack_structs

        return self._framework.adopt(*dlpack_structs.consume(capsule))

    def memory_taken(self) -> int:
        return self._sim.peak["block"]

    def spin(self, cycles: int) -> None:
        self.array()


def _convert(to: type, x: Any, **options: Any) -> Any:
    return dx.convert(x, to, **options)
