"""What machine this is, and which drivers it has."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Driver", "describe", "drivers"]


class Driver(NamedTuple):
    """A driver that dlexchange can load, and what it says."""

    name: str
    library: str
    found: bool
    version: str = ""
    devices: int = 0
    why: str = ""


def describe() -> dict[str, Any]:
    """Describe the machine in words that a bug report needs."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def drivers() -> list[Driver]:
    """Load each driver and ask for its version and devices; creates no context."""
    return [
        _ask("CUDA", "libcuda.so.1", "cuInit", "cuDriverGetVersion", "cuDeviceGetCount"),
        _ask("HIP", "libamdhip64.so", "hipInit", "hipDriverGetVersion", "hipGetDeviceCount"),
    ]


def _ask(name: str, library: str, init: str, version: str, count: str) -> Driver:
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return Driver(name, library, False, why=f"{library} is not installed")
    number = ctypes.c_int()
    status = getattr(driver, init)(0)
    if status != 0:
        return Driver(name, library, True, why=f"{init} returned {status}")
    getattr(driver, version)(ctypes.byref(number))
    text = f"{number.value // 1000}.{number.value % 1000 // 10}"
    getattr(driver, count)(ctypes.byref(number))
    return Driver(name, library, True, text, number.value)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
