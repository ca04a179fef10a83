"""DLPack's structs in ctypes, and a fake managed tensor with every field in reach.

The layouts are written down here on their own, not taken from the library under test.
"""

from __future__ import annotations

import collections
import ctypes
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from . import native

MAX_VERSION = (1, 3)
READ_ONLY, IS_COPIED, PADDED = 1, 2, 4
CPU, CUDA = 1, 2

_ptr = ctypes.POINTER(ctypes.c_int64)


class Version(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32)]


class Device(ctypes.Structure):
    _fields_ = [("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32)]


class DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", Device),
        ("ndim", ctypes.c_int32),
        ("dtype", DataType),
        ("shape", _ptr),
        ("strides", _ptr),
        ("byte_offset", ctypes.c_uint64),
    ]


class Managed(ctypes.Structure):
    _fields_ = [
        ("dl_tensor", Tensor),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    ]


class ManagedVersioned(ctypes.Structure):
    _fields_ = [
        ("version", Version),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("dl_tensor", Tensor),
    ]


class Context(ctypes.Structure):
    """`fake_context` of native.c."""

    _fields_ = [
        ("calls", ctypes.c_long),
        ("with_gil", ctypes.c_long),
        ("with_exception", ctypes.c_long),
        ("leave_error", ctypes.c_long),
        ("callback", ctypes.c_void_p),
    ]


class ExchangeAPI(ctypes.Structure):
    _fields_ = [
        ("version", Version),
        ("prev_api", ctypes.c_void_p),
        ("allocator", ctypes.c_void_p),
        ("from_object", ctypes.c_void_p),
        ("to_object", ctypes.c_void_p),
        ("borrow", ctypes.c_void_p),
        ("work_stream", ctypes.c_void_p),
    ]


assert ctypes.sizeof(Tensor) == 48
assert ctypes.sizeof(Managed) == 64
assert ctypes.sizeof(ManagedVersioned) == 80
assert ctypes.sizeof(ExchangeAPI) == 56

_api = ctypes.pythonapi
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_api.PyCapsule_GetName.restype = ctypes.c_char_p
_api.PyCapsule_GetName.argtypes = [ctypes.py_object]
_api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]

VERSIONED, LEGACY = b"dltensor_versioned", b"dltensor"
_kept_names: dict[bytes, bytes] = {}


def capsule_of(address: int, name: bytes | None, destructor: int | None = None) -> Any:
    """Make a capsule; its name gets static storage, as the protocol wants."""
    if name is not None:
        name = _kept_names.setdefault(name, name)
    return _api.PyCapsule_New(address, name, destructor)


def name_of(capsule: Any) -> bytes | None:
    return _api.PyCapsule_GetName(capsule)


def rename(capsule: Any, name: bytes) -> None:
    _api.PyCapsule_SetName(capsule, _kept_names.setdefault(name, name))


def claim(capsule: Any) -> Any:
    """Take a capsule as a consumer does. Returns the struct; delete it with `delete`."""
    cls = ManagedVersioned if name_of(capsule) == VERSIONED else Managed
    return cls.from_address(native.held.claim(capsule))


def peek(capsule: Any) -> Any:
    """Look at the struct in a capsule without taking it; the capsule lives as long."""
    name = name_of(capsule)
    cls = ManagedVersioned if name == VERSIONED else Managed
    managed = cls.from_address(_api.PyCapsule_GetPointer(capsule, name))
    managed.capsule = capsule
    return managed


def delete(managed: Any) -> None:
    """Run the deleter of a claimed struct in this thread, holding the GIL."""
    versioned = isinstance(managed, ManagedVersioned)
    native.held.delete_here(ctypes.addressof(managed), int(versioned))


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape[i] for i in range(tensor.ndim))


def strides_of(tensor: Tensor) -> tuple[int, ...] | None:
    if not tensor.strides:
        return None
    return tuple(tensor.strides[i] for i in range(tensor.ndim))


_CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}


def dtype_of(array: np.ndarray) -> tuple[int, int, int]:
    return (_CODES[array.dtype.kind], array.dtype.itemsize * 8, 1)


def _int64s(values: Sequence[int] | None) -> Any:
    return None if values is None else (ctypes.c_int64 * max(len(values), 1))(*values)


class Fake:
    """A managed tensor over a numpy array, with every field open to be falsified.

    Speaks ``__dlpack__`` and counts its deleter's calls in `calls`. Keyword arguments
    replace what the array says: data (an address), shape, strides (None for NULL), ndim,
    dtype, device, byte_offset, version, flags, deleter (None for NULL), name.
    """

    #: Fakes are kept to the end of the process: whoever calls a deleter too late or twice
    #: finds the counter, not freed memory.
    kept: ClassVar[list[Fake]] = []

    def __init__(self, array: np.ndarray | None = None, *, legacy: bool = False, **fields: Any):
        array = np.arange(6, dtype=np.float32).reshape(2, 3) if array is None else array
        self.array = array
        self.legacy = legacy
        self.context = Context()
        self.managed = Managed() if legacy else ManagedVersioned()
        shape = fields.pop("shape", array.shape)
        strides = fields.pop("strides", tuple(s // array.itemsize for s in array.strides))
        self._shape = _int64s(shape)
        self._strides = _int64s(strides)
        tensor = self.managed.dl_tensor
        tensor.data = fields.pop("data", array.ctypes.data)
        tensor.device = Device(*fields.pop("device", (CPU, 0)))
        tensor.ndim = fields.pop("ndim", len(shape) if shape is not None else array.ndim)
        dtype = fields.pop("dtype", None)
        tensor.dtype = DataType(*(dtype if dtype is not None else dtype_of(array)))
        tensor.shape = ctypes.cast(self._shape, _ptr) if shape is not None else None
        tensor.strides = ctypes.cast(self._strides, _ptr) if strides is not None else None
        tensor.byte_offset = fields.pop("byte_offset", 0)
        deleter = native.address("delete_legacy" if legacy else "delete_versioned")
        self.managed.deleter = fields.pop("deleter", deleter)
        self.managed.manager_ctx = ctypes.addressof(self.context)
        if not legacy:
            self.managed.version = Version(*fields.pop("version", MAX_VERSION))
            self.managed.flags = fields.pop("flags", 0)
        self.name: bytes | None = fields.pop("name", LEGACY if legacy else VERSIONED)
        self.says_device: Any = fields.pop("says_device", None)
        assert not fields, f"unknown fields {fields}"
        self.kept.append(self)

    @property
    def calls(self) -> int:
        """How often the deleter ran."""
        return self.context.calls

    def on_delete(self, callback: Callable[[], Any]) -> None:
        """Let the deleter call Python."""
        self._callback = callback
        self.context.callback = id(callback)

    def address(self) -> int:
        return ctypes.addressof(self.managed)

    def capsule(self) -> Any:
        destructor = native.address("destroy_legacy" if self.legacy else "destroy_versioned")
        return capsule_of(self.address(), self.name, destructor)

    def __dlpack_device__(self) -> Any:
        if self.says_device is not None:
            return self.says_device
        device = self.managed.dl_tensor.device
        return (device.device_type, device.device_id)

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.capsule()


def table(
    *, version: Sequence[int] = MAX_VERSION, prev: ExchangeAPI | None = None, **functions: Any
) -> ExchangeAPI:
    """Make an exchange-API table of the scripted functions of native.c, kept for good."""
    made = ExchangeAPI(
        version=Version(*version),
        prev_api=ctypes.addressof(prev) if prev is not None else None,
        allocator=native.address("scripted_allocate"),
        from_object=native.address("scripted_from_object"),
        to_object=native.address("scripted_to_object"),
        borrow=None,
        work_stream=native.address("scripted_work_stream"),
    )
    for name, value in functions.items():
        setattr(made, name, value)
    _kept_tables.append(made)
    return made


_kept_tables: list[ExchangeAPI] = []


def table_capsule(api: ExchangeAPI, name: bytes = b"dlpack_exchange_api") -> Any:
    return capsule_of(ctypes.addressof(api), name)


def table_of(cls: type) -> ExchangeAPI:
    """Read the exchange table that a type offers."""
    address = _api.PyCapsule_GetPointer(cls.__dlpack_c_exchange_api__, b"dlpack_exchange_api")
    return ExchangeAPI.from_address(address)


def call_from_object(x: Any) -> ManagedVersioned:
    """Export `x` by the table of its type, else of dlexchange.Producer; to be deleted."""
    from dlexchange import Producer

    convert = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(ctypes.c_void_p))
    managed = ctypes.c_void_p()
    table = table_of(type(x) if hasattr(type(x), "__dlpack_c_exchange_api__") else Producer)
    convert(table.from_object)(x, ctypes.byref(managed))
    return ManagedVersioned.from_address(managed.value)


class Reusable:
    """A producer that makes a new fake for each export; `last` is the newest."""

    #: Fakes outlive their producer, for results do; but not all of them, as in `Fake.kept`.
    recent: ClassVar[collections.deque[Fake]] = collections.deque(maxlen=16)

    def __init__(self, array: np.ndarray | None = None, **fields: Any):
        self.array, self.fields = array, fields

    def fake(self) -> Fake:
        self.last = Fake(self.array, **self.fields)
        self.recent.append(Fake.kept.pop())
        return self.last

    def __dlpack_device__(self) -> tuple[int, int]:
        return (CPU, 0)

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.fake().capsule()


class Tabled(Reusable):
    """The same by a C exchange API."""

    __dlpack_c_exchange_api__ = table_capsule(table())

    def managed(self) -> int:
        return self.fake().address()
