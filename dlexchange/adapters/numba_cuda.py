"""numba-cuda: device arrays behind ``__cuda_array_interface__`` only."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

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


def current_stream(to: Any, device: Any) -> Any:
    """Return numba's default stream: it has no other current one."""
    from .._core import Stream

    return Stream.from_handle(device, _default_stream())


def stream_of(x: Any) -> int | None:
    """Return the default stream of an array that was made on it.

    numba names no stream in such an array's interface, which says that nothing is pending;
    its kernels on the default stream may still run.
    """
    return _default_stream() if getattr(x, "stream", None) == 0 else None


def _default_stream() -> int:
    names = ("numba.cuda.core.config", "numba.core.config")  # of numba-cuda, of numba
    config = next((sys.modules[name] for name in names if name in sys.modules), None)
    return 2 if getattr(config, "CUDA_PER_THREAD_DEFAULT_STREAM", 0) else 1
