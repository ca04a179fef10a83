"""The DLPack ABI for ctypes: structs, capsules and the C exchange API table."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_char_p, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from typing import Any

from dlexchange._core import _managed_capsule

CUDA, ROCM = 2, 10
VERSION = (1, 3)
EXCHANGE_API = b"dlpack_exchange_api"
VERSIONED = b"dltensor_versioned"
LEGACY = b"dltensor"

CODES = {"int": 0, "uint": 1, "float": 2, "bool": 6}


class Version(ctypes.Structure):
    """DLPackVersion."""

    _fields_ = [("major", c_uint32), ("minor", c_uint32)]


class Tensor(ctypes.Structure):
    """DLTensor, its device and dtype flattened."""

    _fields_ = [
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", ctypes.POINTER(c_int64)),
        ("strides", ctypes.POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


DELETER = ctypes.CFUNCTYPE(None, c_void_p)


class Managed(ctypes.Structure):
    """DLManagedTensor, the unversioned form."""

    _fields_ = [("tensor", Tensor), ("manager_ctx", c_void_p), ("deleter", DELETER)]


class ManagedVersioned(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = [
        ("version", Version),
        ("manager_ctx", c_void_p),
        ("deleter", DELETER),
        ("flags", c_uint64),
        ("tensor", Tensor),
    ]


ALLOCATOR = ctypes.CFUNCTYPE(
    c_int32, ctypes.POINTER(Tensor), ctypes.POINTER(c_void_p), c_void_p, c_void_p
)
FROM_PY = ctypes.CFUNCTYPE(c_int32, c_void_p, ctypes.POINTER(c_void_p))
TO_PY = ctypes.CFUNCTYPE(c_int32, c_void_p, ctypes.POINTER(c_void_p))
VIEW_FROM_PY = ctypes.CFUNCTYPE(c_int32, c_void_p, ctypes.POINTER(Tensor))
WORK_STREAM = ctypes.CFUNCTYPE(c_int32, c_int32, c_int32, ctypes.POINTER(c_void_p))


class ExchangeTable(ctypes.Structure):
    """DLPackExchangeAPI."""

    _fields_ = [
        ("version", Version),
        ("previous", c_void_p),
        ("managed_tensor_allocator", ALLOCATOR),
        ("managed_tensor_from_py_object_no_sync", FROM_PY),
        ("managed_tensor_to_py_object_no_sync", TO_PY),
        ("dltensor_from_py_object_no_sync", VIEW_FROM_PY),
        ("current_work_stream", WORK_STREAM),
    ]


_CAPSULE_DESTRUCTOR = ctypes.CFUNCTYPE(None, c_void_p)


def _capsule_function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    prototype = ctypes.PYFUNCTYPE(result, *arguments)
    return prototype((name, ctypes.pythonapi))


capsule_new = _capsule_function(
    "PyCapsule_New", ctypes.py_object, c_void_p, c_char_p, _CAPSULE_DESTRUCTOR
)
capsule_pointer = _capsule_function("PyCapsule_GetPointer", c_void_p, ctypes.py_object, c_char_p)
capsule_rename = _capsule_function("PyCapsule_SetName", c_int32, ctypes.py_object, c_char_p)
capsule_is_valid = _capsule_function("PyCapsule_IsValid", c_int32, ctypes.py_object, c_char_p)
no_destructor = _CAPSULE_DESTRUCTOR()


def delete(address: int, form: type[Managed] | type[ManagedVersioned]) -> None:
    """Call the deleter of a managed tensor."""
    managed = form.from_address(address)
    if managed.deleter:
        managed.deleter(address)


class Export:
    """A managed tensor and the array it describes, alive until its deleter runs."""

    def __init__(self, array: Any, *, versioned: bool) -> None:
        self.array = array
        self.form = ManagedVersioned if versioned else Managed
        self.managed = self.form()
        if versioned:
            self.managed.version = Version(*VERSION)
            self.managed.flags = 0
        array.describe(self.managed.tensor)
        self.managed.deleter = _drop_export
        self.address = ctypes.addressof(self.managed)
        exports[self.address] = self

    def capsule(self) -> Any:
        """Return a capsule that owns the managed tensor."""
        return _managed_capsule(self.address, self.form is ManagedVersioned)


exports: dict[int, Export] = {}


_drop_export = DELETER(lambda address: exports.pop(address, None) and None)


def consume(capsule: Any) -> tuple[int, type[Managed] | type[ManagedVersioned]]:
    """Take the managed tensor out of a capsule: its address and form."""
    if capsule_is_valid(capsule, VERSIONED):
        address = capsule_pointer(capsule, VERSIONED)
        capsule_rename(capsule, b"used_dltensor_versioned")
        return address, ManagedVersioned
    address = capsule_pointer(capsule, LEGACY)
    capsule_rename(capsule, b"used_dltensor")
    return address, Managed
