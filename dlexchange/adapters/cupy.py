"""CuPy: CUDA and ROCm memory only, through ``__dlpack__`` and ``from_dlpack``."""

from __future__ import annotations

import importlib
import sys
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from ..device import DeviceType
from ..errors import CopyError
from . import Route
from .fit import Needs
from .info import Report, has_exchange_api, route_note

MODULE = "cupy"
DISTRIBUTIONS = ("cupy-cuda13x", "cupy-cuda12x", "cupy-rocm-7-0", "cupy")
NEEDS = Needs(on_device=True, keeps_read_only=False)
NOTES = ("device memory only",)

#: Why the fast route is not used; empty where it is, None where nobody asked yet.
fallback_reason: str | None = None


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


def consumer_functions() -> tuple[Any, ...]:
    """Find and test CuPy's functions for the fast route (cupy.c): () where they differ.

    Returns
    -------
    tuple
        (current stream of a device, import of a capsule), or ()
    """
    global fallback_reason
    try:
        functions = _probe()
        fallback_reason = ""
        return functions
    except Exception as error:
        fallback_reason = f"{type(error).__name__}: {error}"
        return ()


def _probe() -> tuple[Any, ...]:
    import cupy

    from .._core import Description, Protocols, from_dlpack

    device = DeviceType.ROCM if getattr(cupy.cuda.runtime, "is_hip", False) else DeviceType.CUDA

    class Specimen(Protocols):
        def __dlexchange__(self) -> Description:  # nobody touches the memory
            return Description(4096, (2, 3), "float32", device=(device, 0), stream=-1)

    producer = Specimen()
    kept = weakref.ref(producer)
    capsule = from_dlpack(producer).__dlpack__(stream=-1, max_version=(1, 3))
    del producer
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twin = cupy.from_dlpack(capsule)
    if (twin.data.ptr, twin.shape, str(twin.dtype)) != (4096, (2, 3), "float32") or not kept():
        raise RuntimeError("from_dlpack of a capsule did not keep the array")
    del capsule, twin
    if kept():
        raise RuntimeError("from_dlpack of a capsule keeps the memory for ever")
    return (cupy.cuda.get_current_stream, cupy.from_dlpack)


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
    note = route_note(fallback_reason)
    return Report(devices=(), exchange_api=has_exchange_api(module.ndarray), notes=(note,))


def devices(module: ModuleType) -> tuple[str, ...]:
    """Count the devices; starts the CUDA runtime."""
    return tuple(f"cuda:{i}" for i in range(module.cuda.runtime.getDeviceCount()))
