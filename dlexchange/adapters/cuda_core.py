"""cuda.core: views (StridedMemoryView) and raw buffers; neither orders anything."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..device import DeviceType
from ..errors import ExchangeError
from . import Route, by_protocol
from .fit import Needs
from .info import Report, has_exchange_api

MODULE = "cuda.core"
DISTRIBUTIONS = ("cuda-core",)
NEEDS = Needs()
NOTES = ("arrays are StridedMemoryView; device memory of it needs stream=",)


def classify(cls: type) -> Route | None:
    """Views and buffers know no stream of their own: the caller must say which."""
    return by_protocol(cls, ignores_stream=True)


def make(tensor: Any, to: Any) -> Any:
    """View host memory; -1, since there is no stream to order."""
    from cuda.core.utils import StridedMemoryView

    if tensor.device.type != DeviceType.CPU:
        raise ExchangeError(f"cuda.core views of {tensor.device} need a stream; not offered yet")
    view = StridedMemoryView.from_dlpack(tensor, -1)
    _ = view.dtype  # raises where cuda.core has no name for it
    return view


def report(module: ModuleType) -> Report:
    """Look at the view type, where it has been imported."""
    utils = getattr(module, "utils", None)
    return Report(exchange_api=has_exchange_api(getattr(utils, "StridedMemoryView", None)))
