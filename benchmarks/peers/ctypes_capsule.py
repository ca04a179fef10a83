"""DLPack by hand: ``__dlpack__()``, then the struct read through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from benchmarks.peers.contract import Guarantees

label = "dlpack through ctypes"
consumer = "tensor"
producers = ("numpy", "torch", "jax", "tvm")
guarantees = Guarantees(
    values="no",
    ordering="no",
    release="no",
    capture="no",
    why="what the producer's __dlpack__ gives, read by hand",
)


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class View:
    """Keeps the capsule, which releases when it goes."""

    __slots__ = ("capsule", "ptr", "shape")

    def __init__(self, capsule: object, tensor: DLTensor) -> None:
        self.capsule = capsule
        self.ptr = tensor.data + tensor.byte_offset
        self.shape = tuple(tensor.shape[: tensor.ndim])


def setup() -> Callable[[Any], View]:
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype = ctypes.c_void_p
    get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]

    def view(x: Any) -> View:
        capsule = x.__dlpack__()
        return View(capsule, DLTensor.from_address(get_pointer(capsule, b"dltensor")))

    return view
