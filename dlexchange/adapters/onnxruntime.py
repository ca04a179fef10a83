"""onnxruntime: OrtValue; its own export lets go of memory that it does not own."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..errors import ExchangeError
from . import Route
from .fit import Needs, legacy_capsule
from .info import Report

MODULE = "onnxruntime"
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
NEEDS = Needs(layout="compact", alignment=0, keeps_read_only=False)
NOTES = ("read by address: its own export does not keep a numpy-backed value alive",)

#: numpy's (or ml_dtypes') name by the number of ONNX's TensorProto.DataType.
_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
}


def classify(cls: type) -> Route | None:
    """Read host values as numpy arrays over their memory.

    ``OrtValue.__dlpack__`` is not used: a value made from a numpy array does not own its
    memory, and the capsule keeps neither; and it exports bool as uint8.
    """
    if cls.__name__ == "OrtValue":
        return Route("prepare", "onnxruntime", prepare=_over_memory)
    return None


def make(tensor: Any, to: Any) -> Any:
    """Import a capsule; bool travels beside it."""
    import onnxruntime
    from onnxruntime.capi import _pybind_state

    is_bool = tensor.dtype.name == "bool"
    if is_bool:
        from .._core import from_dlpack, to_numpy

        tensor = from_dlpack(to_numpy(tensor).view("uint8"))
    value = _pybind_state.OrtValue.from_dlpack(legacy_capsule(tensor), is_bool)
    return onnxruntime.OrtValue(value)


def devices(module: ModuleType) -> tuple[str, ...]:
    """Name what the execution providers of this build run on."""
    providers = module.get_available_providers()
    return tuple(name.removesuffix("ExecutionProvider").lower() for name in reversed(providers))


def report(module: ModuleType) -> Report:
    """Nothing more is known without a session."""
    return Report()


class _Memory:
    """Memory of an OrtValue in numpy's words; keeps the value, hence what backs it."""

    def __init__(self, value: Any, typestr: str, read_only: bool) -> None:
        self.value = value
        self.__array_interface__ = {
            "data": (value.data_ptr(), read_only),
            "shape": tuple(value.shape()),
            "typestr": typestr,
            "version": 3,
        }


def _over_memory(value: Any) -> Any:
    """Return a numpy array over the memory of an OrtValue."""
    import numpy

    if not value.is_tensor():
        raise ExchangeError("this OrtValue is a sequence, map or sparse tensor, not a dense tensor")
    if value.device_name().lower() != "cpu":
        raise ExchangeError(
            f"this OrtValue is on {value.device_name()}: nothing says which stream onnxruntime "
            "uses there; copy it to the host with .numpy()"
        )
    dtype = _dtype(value)
    if 0 in value.shape():
        return numpy.empty(value.shape(), dtype)
    backing = getattr(value, "_numpy_obj", None)
    read_only = backing is not None and not backing.flags.writeable
    stored = dtype if dtype.isbuiltin == 1 else numpy.dtype(f"u{dtype.itemsize}")
    return numpy.asarray(_Memory(value, stored.str, read_only)).view(dtype)


def _dtype(value: Any) -> Any:
    import numpy

    name = _DTYPES.get(value.element_type())
    if name is None:
        raise ExchangeError(f"OrtValue of {value.data_type()}: DLPack has no name for these values")
    if name in numpy.sctypeDict:
        return numpy.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise ExchangeError(f"OrtValue of {name} needs ml_dtypes: pip install ml_dtypes") from None
    return numpy.dtype(getattr(ml_dtypes, name))
