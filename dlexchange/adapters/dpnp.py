"""dpnp: SYCL memory; host memory goes over by a copy that the caller asked for."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..device import DeviceType
from ..errors import CopyError
from .fit import Needs
from .info import Report, has_exchange_api

MODULE = "dpnp"
DISTRIBUTIONS = ("dpnp",)
NEEDS = Needs()
NOTES = ('device memory; to the host with device="cpu", from it with copy=True',)


def make(tensor: Any, to: Any) -> Any:
    """Import SYCL memory; copy host memory to the default device."""
    import dpnp

    if tensor.device.type != DeviceType.CPU:
        return dpnp.from_dlpack(tensor)
    if not tensor.is_copied:
        raise CopyError("dpnp takes SYCL memory only: pass copy=True to copy host memory")
    from .._core import to_numpy

    return dpnp.asarray(to_numpy(tensor))


def report(module: ModuleType) -> Report:
    """Devices are not asked for: that would start the SYCL runtime."""
    return Report(devices=(), exchange_api=has_exchange_api(module.ndarray))


def devices(module: ModuleType) -> tuple[str, ...]:
    """List the SYCL devices; starts the SYCL runtime."""
    import dpctl

    return tuple(f"{device.filter_string}" for device in dpctl.get_devices())
