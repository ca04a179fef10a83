"""Makes a stream the current one of each framework that has current streams.

Currents are per thread, so each stage thread does this for itself. Frameworks are imported
when it suits the user: what has appeared since is looked for before each request.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import ModuleType
from typing import Any

from .._core import Stream
from ..adapters.cupy import on_stream as cupy_on_stream
from ..device import DeviceType

__all__ = ["Currents"]


def _torch(torch: ModuleType, stream: Stream) -> AbstractContextManager[Any]:
    device = torch.device("cuda", stream.device.id)
    external = torch.cuda.ExternalStream(stream.handle, device=device)
    entered: AbstractContextManager[Any] = torch.cuda.stream(external)
    return entered


def _cupy(cupy: ModuleType, stream: Stream) -> AbstractContextManager[Any]:
    return cupy_on_stream(cupy, stream.device, stream)


def _cuda_core(module: ModuleType, stream: Stream) -> AbstractContextManager[Any]:
    module.Device(stream.device.id).set_current()  # it has no current streams
    return nullcontext()


def _has_torch(torch: ModuleType) -> bool:
    return hasattr(torch, "cuda") and bool(torch.cuda.is_available())


def _has_cupy(cupy: ModuleType) -> bool:
    return hasattr(cupy, "is_available") and bool(cupy.is_available())


def _has_cuda_core(module: ModuleType) -> bool:
    return hasattr(module, "Device")


_Enter = Callable[[ModuleType, Stream], AbstractContextManager[Any]]

#: By module: whether it can be used here, and how it is entered.
_CUDA: dict[str, tuple[Callable[[ModuleType], bool], _Enter]] = {
    "torch": (_has_torch, _torch),
    "cupy": (_has_cupy, _cupy),
    "cuda.core": (_has_cuda_core, _cuda_core),
}


class Currents:
    """The current streams of one thread, from `refresh` to `close`.

    Parameters
    ----------
    stream : Stream or None
        None: nothing is made current.
    """

    def __init__(self, stream: Stream | None) -> None:
        self._stream = stream
        self._entered: set[Any] = set()
        self._stack = ExitStack()
        kind = None if stream is None else stream.device.type
        self._is_gpu = kind in (DeviceType.CUDA, DeviceType.ROCM)

    def refresh(self) -> None:
        """Enter the frameworks that have been imported since."""
        if not self._is_gpu or self._stream is None:
            return
        for name, (is_there, enter) in _CUDA.items():
            module = sys.modules.get(name)
            if module is not None and name not in self._entered and is_there(module):
                self._stack.enter_context(enter(module, self._stream))
                self._entered.add(name)
        testing = sys.modules.get("dlexchange.testing")
        for framework in testing.active_frameworks() if testing is not None else ():
            if framework not in self._entered:
                self._stack.enter_context(framework.use_stream(self._stream))
                self._entered.add(framework)

    def close(self) -> None:
        """Make current again what was before."""
        self._entered.clear()
        self._stack.close()
