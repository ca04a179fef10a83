"""What machine this is, and which drivers it has."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, NamedTuple

from .. import _core
from ..device import DeviceType
from ..errors import DriverError, ExchangeError

__all__ = ["Driver", "describe", "drivers"]


class Driver(NamedTuple):
    """A driver that dlexchange can load, and what it says."""

    name: str
    library: str
    version: str = ""
    devices: int = 0
    simulated: bool = False
    why: str = ""
    """Why it cannot be used; empty where it can."""


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
    return [_ask("CUDA", DeviceType.CUDA), _ask("HIP", DeviceType.ROCM)]


def _ask(name: str, device_type: int) -> Driver:
    why = ""
    try:
        _core._driver_load(device_type)
    except (DriverError, ExchangeError) as error:
        why = str(error)
    info = _core._driver_info(device_type)
    version = f"{info['version'] // 1000}.{info['version'] % 1000 // 10}"
    return Driver(name, info["library"], version, info["device_count"], info["is_simulated"], why)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
