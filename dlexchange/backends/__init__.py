"""Device types that other packages bring, and how one is added.

dlexchange drives CUDA and ROCm itself. Memory of any other type is ordered by whoever
knows its streams: an object with the methods of `StreamBackend`, registered for the
DLPack device type it is for. From then on `from_dlpack`, `convert`, ``to_*``,
``Tensor.__dlpack__(stream=...)``, `push`, `ready`, `host` and `record_stream` work there as
they do on CUDA, and so do ordered releases.

    from dlexchange import backends

    class Npu:
        device_type = 12            # kDLExtDev, or the vendor's own number
        name = "npu"
        ...                         # the methods of StreamBackend

    backends.register(Npu())

The backend for SYCL (kDLOneAPI, `dlexchange.backends.sycl`) is built so; it registers
itself when it is first needed. `Promise` is for producers without streams: given as
``stream``, it orders memory of CUDA, ROCm and every registered type.
"""

from .promise import Promise, PromiseBackend
from .protocol import StreamBackend
from .table import native, register, registered, unregister

__all__ = [
    "Promise",
    "PromiseBackend",
    "StreamBackend",
    "native",
    "register",
    "registered",
    "unregister",
]
