"""Stand in for torch with CUDA over the simulated driver, in a process of its own.

Tensors speak the C exchange API; what of torch's Python the adapter calls is as torch has it.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import AbstractContextManager
from types import ModuleType, SimpleNamespace
from typing import Any

from dlexchange.adapters import torch as adapter
from dlexchange.device import DeviceType
from dlexchange.testing import Simulation
from dlexchange.testing import dlpack_structs as dl
from dlexchange.testing.arrays import DTYPES

__all__ = ["install"]


class _Stream:
    def __init__(self, handle: int, device: int) -> None:
        self.cuda_stream, self.device_index = handle, device


def _external(handle: int, device: int) -> _Stream:
    if handle & 1:  # torch's own streams have odd numbers
        raise RuntimeError(f"invalid StreamId{handle}")
    return _Stream(handle, device)


def install(sim: Simulation) -> Any:
    """Put the module where ``import torch`` finds it; return it."""
    framework = sim.framework("exchange_api", "torch")

    class Tensor(framework.array_type):  # type: ignore[name-defined, misc]
        requires_grad = is_lazy = pinned = False

        def is_pinned(self) -> bool:
            return self.pinned

        def describe(self, tensor: dl.Tensor) -> None:
            super().describe(tensor)
            if self.pinned:  # torch's table calls it plain memory, and __dlpack_device__ does not
                tensor.device_type, tensor.device_id = int(DeviceType.CPU), 0

        def __dlpack_device__(self) -> tuple[int, int]:
            return (int(DeviceType.CUDA_HOST), 0) if self.pinned else super().__dlpack_device__()

        def __dlpack__(self, *, stream: int | None = -1, **options: Any) -> Any:
            assert not self.pinned or stream in (None, -1), "stream should be None on cpu."
            return super().__dlpack__(stream=stream, **options)

        def is_conj(self) -> bool:
            return self.is_lazy

        def is_neg(self) -> bool:
            return False

        def resolve_conj(self) -> Any:
            return self.copy() if self.is_lazy else self

        def resolve_neg(self) -> Any:
            return self

        def get_device(self) -> int:
            return self.device

        def clone(self) -> Any:
            return self.copy()

        def to(self, device: str, *, non_blocking: bool) -> Any:
            source = framework.current_stream(self.device)
            target = framework.current_stream(int(device.removeprefix("cuda:")))
            assert non_blocking
            made = framework.array(self.shape, self.dtype, stream=target)
            source.wait(target)
            contexts = sim.context(target.device), sim.context(source.device)
            arguments = (made.data_ptr, contexts[0], self.data_ptr, contexts[1], self.nbytes)
            with sim.on_device(self.device):  # the current stream of the source's device
                sim.driver("cuMemcpyPeerAsync", *arguments, source.handle)
            target.wait(source)
            return made

    def pinned(nbytes: int) -> Tensor:
        address = ctypes.c_uint64()
        with sim.on_device(0):
            sim.driver("cuMemHostAlloc", ctypes.byref(address), nbytes, 0)
        streams = [framework.current_stream()]
        made = Tensor((nbytes,), DTYPES["uint8"], address.value, 0, streams=streams, release=None)
        made.pinned = True
        return made

    def use(stream: _Stream) -> AbstractContextManager[Any]:
        return framework.use_handle(stream.cuda_stream or 1, stream.device_index)

    module: Any = ModuleType("torch")
    Tensor.__module__ = "torch"
    module.Tensor = framework.array_type = Tensor
    framework.copy_across = None  # that is no part of torch
    module.array, module.pinned = framework.array, pinned
    module.version = SimpleNamespace(hip=None)
    module.backends = SimpleNamespace(cuda=SimpleNamespace(is_built=lambda: True))
    module.nn = ModuleType("torch.nn")
    module.nn.Parameter = type("Parameter", (Tensor,), {})
    module.cuda = ModuleType("torch.cuda")
    module.cuda.stream = use
    module.cuda.is_initialized, module.cuda.current_device = lambda: True, lambda: 0
    module.cuda.ExternalStream = _external
    module.cuda.default_stream = lambda device: _Stream(0, device)
    sys.modules["torch"] = module
    adapter._located = False  # there is no TensorImpl to look into
    return module
