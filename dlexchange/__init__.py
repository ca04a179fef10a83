"""Hand tensors between frameworks without copying and without blocking."""

# The layers, from the top: `conformance`, `pipeline` and `testing` are imported by their
# own names and use what is public here. Here is the public face: `exchange` and `stream`
# decide and report, `adapters` knows the frameworks, one file each. Below is `_core`,
# the C extension: it owns and orders.

from . import errors
from ._core import Tensor, convert, from_dlpack, to_jax, to_numpy, to_torch
from .backends import sycl as _sycl
from .device import Device, DeviceType, DType
from .errors import (
    Cancelled,
    CaptureError,
    CopyError,
    DeviceLost,
    DriverError,
    ExchangeError,
    StreamError,
)
from .exchange import FrameworkInfo, Stats, frameworks, get_include, stats, strict, to_cupy
from .producer import Description, Producer, consume, wrap
from .ready import Ready, host, ready
from .stream import Event, Stream, current_stream, push, record_stream

_sycl.show_cpu()

__version__ = "0.1.0"

__all__ = [
    "Cancelled",
    "CaptureError",
    "CopyError",
    "DType",
    "Description",
    "Device",
    "DeviceLost",
    "DeviceType",
    "DriverError",
    "Event",
    "ExchangeError",
    "FrameworkInfo",
    "Producer",
    "Ready",
    "Stats",
    "Stream",
    "StreamError",
    "Tensor",
    "consume",
    "convert",
    "current_stream",
    "errors",
    "frameworks",
    "from_dlpack",
    "get_include",
    "host",
    "push",
    "ready",
    "record_stream",
    "stats",
    "strict",
    "to_cupy",
    "to_jax",
    "to_numpy",
    "to_torch",
    "wrap",
]
