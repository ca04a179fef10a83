"""warp: legacy capsules both ways, any strides, at most four dimensions."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..device import DeviceType
from .fit import Needs, legacy_capsule
from .info import Report

MODULE = "warp"
DISTRIBUTIONS = ("warp-lang",)
NEEDS = Needs(alignment=0, keeps_read_only=False)


def make(tensor: Any, to: Any) -> Any:
    """Import host memory as a capsule, device memory by its own question for a stream."""
    import warp

    warp.init()
    on_host = tensor.device.type == DeviceType.CPU
    return warp.from_dlpack(legacy_capsule(tensor) if on_host else tensor)


def report(module: ModuleType) -> Report:
    """Devices are not asked for: that would start the driver."""
    return Report()


def devices(module: ModuleType) -> tuple[str, ...]:
    """List the devices; starts the driver."""
    module.init()
    return tuple(str(device) for device in module.get_devices())
