"""paddle: read through its C exchange API, behind the checks its own export makes."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..errors import ExchangeError
from . import Route, by_protocol
from .fit import Needs
from .info import Report, has_exchange_api

MODULE = "paddle"
DISTRIBUTIONS = ("paddlepaddle", "paddlepaddle-gpu")
NEEDS = Needs(layout="forward", alignment=0, keeps_read_only=False)
NOTES = ("never lets go of memory that it imports again while its first import is alive",)


def classify(cls: type) -> Route | None:
    """Its C exchange API checks nothing, so `_check` does."""
    return by_protocol(cls, prepare=_check)


def make(tensor: Any, to: Any) -> Any:
    """Import through its from_dlpack; negative strides would be read as huge sizes."""
    import paddle

    return paddle.from_dlpack(tensor)


def report(module: ModuleType) -> Report:
    """Look at the tensor type."""
    return Report(exchange_api=has_exchange_api(module.Tensor))


def devices(module: ModuleType) -> tuple[str, ...]:
    """List what this build can use."""
    return tuple(dict.fromkeys(("cpu", *module.device.get_available_device())))


def _check(tensor: Any) -> None:
    if not tensor.is_dense():
        raise ExchangeError("paddle tensor is sparse or distributed: pass x.to_dense()")
    if not tensor.stop_gradient:
        raise ExchangeError(
            "paddle tensor requires grad: autograd would not see what another framework does "
            "with it; pass x.detach()"
        )
