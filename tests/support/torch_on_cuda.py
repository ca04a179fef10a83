"""Stand in for torch with CUDA over the simulated driver, in a process of its own.

Tensors speak the C exchange API; what of torch's Python the adapter calls is as torch has it.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

from dlexchange.adapters import torch as adapter
from dlexchange.testing import Simulation

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
        requires_grad = is_lazy = False

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

    def use(stream: _Stream) -> AbstractContextManager[Any]:
        return framework.use_handle(stream.cuda_stream or 1, stream.device_index)

    module: Any = ModuleType("torch")
    Tensor.__module__ = "torch"
    module.Tensor = framework.array_type = Tensor
    module.array = framework.array
    module.nn = ModuleType("torch.nn")
    module.nn.Parameter = type("Parameter", (Tensor,), {})
    module.cuda = ModuleType("torch.cuda")
    module.cuda.stream = use
    module.cuda.ExternalStream = _external
    module.cuda.default_stream = lambda device: _Stream(0, device)
    sys.modules["torch"] = module
    adapter._located = False  # there is no TensorImpl to look into
    return module
