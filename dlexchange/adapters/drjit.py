"""Dr.Jit: the array type is chosen by dtype; memory is shared with the LLVM backend."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..errors import ExchangeError
from .fit import Needs
from .info import Report

MODULE = "drjit"
DISTRIBUTIONS = ("drjit",)
NEEDS = Needs(layout="compact", alignment=0, keeps_read_only=False)
NOTES = ("nested arrays such as Array3f are rearranged, that is copied, by its export",)

_TENSORS = {
    "float16": "TensorXf16",
    "float32": "TensorXf",
    "float64": "TensorXf64",
    "int8": "TensorXi8",
    "int32": "TensorXi",
    "int64": "TensorXi64",
    "uint8": "TensorXu8",
    "uint32": "TensorXu",
    "uint64": "TensorXu64",
    "bool": "TensorXb",
}


def make(tensor: Any, to: Any) -> Any:
    """Construct the type that `to` is, else the LLVM tensor of the dtype."""
    if isinstance(to, type):
        return to(tensor)
    name = _TENSORS.get(tensor.dtype.name)
    if name is None:
        raise ExchangeError(f"drjit has no tensor type for {tensor.dtype}")
    import drjit.llvm

    return getattr(drjit.llvm, name)(tensor)


def devices(module: ModuleType) -> tuple[str, ...]:
    """List the backends that work here; starts them."""
    backends = {"cpu": module.JitBackend.LLVM, "cuda:0": module.JitBackend.CUDA}
    return tuple(name for name, backend in backends.items() if module.has_backend(backend))


def report(module: ModuleType) -> Report:
    """Nothing is asked of the backends: that would start them."""
    return Report()
