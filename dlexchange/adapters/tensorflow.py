"""tensorflow: legacy capsules both ways; its tensors are immutable."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..errors import ExchangeError
from . import Route
from .fit import Needs, legacy_capsule
from .info import Report

MODULE = "tensorflow"
DISTRIBUTIONS = ("tensorflow", "tensorflow-cpu")
#: Eigen's largest alignment: kernels abort the process on less.
NEEDS = Needs(layout="compact", alignment=64)
NOTES = ("tensors are immutable, so read-only memory stays so; a Variable is read as it is now",)


def classify(cls: type) -> Route | None:
    """Check eager tensors before the export, which aborts the process on strings."""
    import tensorflow

    if issubclass(cls, tensorflow.Variable):
        return Route("prepare", "tensorflow", prepare=_value)
    if hasattr(cls, "__dlpack__"):
        return Route("dlpack", "tensorflow", prepare=_check, immutable=True, ignores_stream=True)
    if issubclass(cls, tensorflow.Tensor):
        return Route(
            "refuse",
            "tensorflow",
            prepare="a symbolic tensorflow tensor (inside tf.function) has no memory; exchange "
            "eager tensors",
        )
    return None


def make(tensor: Any, to: Any) -> Any:
    """Import a legacy capsule; nothing in tensorflow writes to it."""
    import tensorflow

    return tensorflow.experimental.dlpack.from_dlpack(legacy_capsule(tensor))


def report(module: ModuleType) -> Report:
    """Devices are not asked for: that would start the runtime."""
    return Report()


def devices(module: ModuleType) -> tuple[str, ...]:
    """List the devices; starts the runtime."""
    names = (device.name for device in module.config.list_logical_devices())
    short = (name.removeprefix("/device:").lower() for name in names)
    return tuple("cpu" if name == "cpu:0" else name for name in short)


def _value(variable: Any) -> Any:
    return variable.value()


def _check(tensor: Any) -> None:
    dtype = tensor.dtype
    if dtype.name in ("string", "resource", "variant") or dtype.is_quantized:
        raise ExchangeError(
            f"tensorflow tensor of {dtype.name}: its values are not plain memory; convert to a "
            "numeric dtype first"
        )
