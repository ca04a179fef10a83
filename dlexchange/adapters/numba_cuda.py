"""numba-cuda: device arrays behind ``__cuda_array_interface__`` only."""

from __future__ import annotations

from types import ModuleType

from .info import Report

MODULE = "numba.cuda"
DISTRIBUTIONS = ("numba-cuda",)
NOTES = ("device memory only, by __cuda_array_interface__; not a consumer of host memory",)


def report(module: ModuleType) -> Report:
    """Devices are not asked for: that would start the driver."""
    return Report(devices=())


def devices(module: ModuleType) -> tuple[str, ...]:
    """Count the devices; starts the driver."""
    return tuple(f"cuda:{i}" for i in range(len(module.gpus))) if module.is_available() else ()
