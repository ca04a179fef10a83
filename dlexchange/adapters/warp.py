"""warp: legacy capsules both ways, any strides, at most four dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


def current_stream(to: Any, device: Any) -> Any:
    """Return warp's current stream of a device; it has one for all threads."""
    import warp

    from .._core import Stream

    stream = warp.get_stream(f"cuda:{device.id}")
    return Stream.from_handle(device, stream.cuda_stream or 1, owner=stream)


@contextmanager
def on_stream(to: Any, device: Any, stream: Any) -> Iterator[Any]:
    """Make a stream warp's current one; None: the one it has."""
    import warp

    warp.init()
    if stream is None:
        yield current_stream(to, device)
        return
    view = warp.Stream(f"cuda:{device.id}", cuda_stream=stream.handle)
    with warp.ScopedStream(view, sync_enter=False):
        yield stream


def report(module: ModuleType) -> Report:
    """Devices are not asked for: that would start the driver."""
    return Report()


def devices(module: ModuleType) -> tuple[str, ...]:
    """List the devices; starts the driver."""
    module.init()
    return tuple(str(device) for device in module.get_devices())
