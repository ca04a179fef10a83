"""CuPy: CUDA and ROCm memory only, through ``__dlpack__`` and ``from_dlpack``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from ..device import DeviceType
from ..errors import CopyError
from . import Route
from .fit import Needs
from .info import Report, has_exchange_api

MODULE = "cupy"
DISTRIBUTIONS = ("cupy-cuda13x", "cupy-cuda12x", "cupy-rocm-7-0", "cupy")
NEEDS = Needs(on_device=True, keeps_read_only=False)
NOTES = ("device memory only",)


def classify(cls: type) -> Route | None:
    """Export by ``__dlpack__``, ordered behind CuPy's current stream, which C asks for."""
    if "cupy" not in sys.modules or not issubclass(cls, sys.modules["cupy"].ndarray):
        return None
    return Route("dlpack", "cupy", streams_table())


def streams_table() -> Any:
    """Make a table of the C function that tells CuPy's current stream, or None.

    Without it CuPy itself orders its work before the consumer's, as ``__dlpack__`` promises.
    """
    from .._core import _cupy_streams

    module = importlib.import_module("cupy_backends.cuda.stream")
    function = getattr(module, "__pyx_capi__", {}).get("get_stream_ptr")
    return None if function is None else _cupy_streams(function)


def make(tensor: Any, to: Any) -> Any:
    """Import device memory; a copy that the caller asked for goes over from the host."""
    import cupy

    if tensor.device.type != DeviceType.CPU:
        return cupy.from_dlpack(tensor)
    if not tensor.is_copied:
        raise CopyError("cupy takes device memory only: pass copy=True to copy host memory")
    from .._core import to_numpy

    return cupy.asarray(to_numpy(tensor))


def copied(array: Any) -> Any:
    """Copy on CuPy's current stream."""
    return array.copy()


def current_stream(to: Any, device: Any) -> Any:
    """Return CuPy's current stream on a device, owned by CuPy's object."""
    import cupy

    from .._core import Stream

    stream = cupy.cuda.get_current_stream(device.id)
    return Stream.from_handle(device, stream.ptr, owner=stream)


@contextmanager
def on_stream(to: Any, device: Any, stream: Any) -> Iterator[Any]:
    """Make a stream CuPy's current one; None: the one it has."""
    import cupy

    with cupy.cuda.Device(device.id):
        if stream is None:
            yield current_stream(to, device)
        else:
            with _external(stream):
                yield stream


class _Named(NamedTuple):
    """A stream as ``cupy.cuda.Stream.from_external`` takes it, of ROCm too."""

    stream: Any

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.stream.handle


def _external(stream: Any) -> Any:
    """Make CuPy's object of a stream; CuPy 14 warns of the one that older ones have."""
    import cupy

    if hasattr(cupy.cuda.Stream, "from_external"):
        return cupy.cuda.Stream.from_external(_Named(stream))
    return cupy.cuda.ExternalStream(stream.handle, stream.device.id)


def report(module: ModuleType) -> Report:
    """Devices are not asked for: that would start the CUDA runtime."""
    return Report(devices=(), exchange_api=has_exchange_api(module.ndarray))


def devices(module: ModuleType) -> tuple[str, ...]:
    """Count the devices; starts the CUDA runtime."""
    return tuple(f"cuda:{i}" for i in range(module.cuda.runtime.getDeviceCount()))
