"""The protocols that a simulated framework can speak, each as a good library speaks it."""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable
from ctypes import c_void_p
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from dlexchange.testing import dlpack_structs as dl
from dlexchange.testing.arrays import SimArray, dtype_of
from dlexchange.testing.streams import LEGACY

if TYPE_CHECKING:
    from dlexchange.testing.framework import Framework


class _Dialect(SimArray):
    @classmethod
    def prepare(cls, array_type: type[SimArray]) -> None:
        """Give a framework's array type what it needs beyond methods."""


class DLPackArray(_Dialect):
    """Offers ``__dlpack__`` only: the producer makes the consumer's stream wait."""

    def __dlpack_device__(self) -> tuple[int, int]:
        """Return the DLPack device."""
        return (self.framework.sim.device_type, self.device)

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Export.

        Synchronization
        ---------------
        `stream` waits for every stream with pending work on the array; None is the (legacy)
        default stream, -1 orders nothing.
        """
        if dl_device not in (None, self.__dlpack_device__()) or copy:
            raise BufferError("the simulated framework exports its own memory, uncopied")
        if stream != -1:
            self.order_into(self.framework.sim.handle_of(stream))
        versioned = max_version is not None and max_version[0] >= 1
        return dl.Export(self, versioned=versioned).capsule()


class CAIArray(_Dialect):
    """Offers ``__cuda_array_interface__`` version 3 only: it names a stream to wait for."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Describe the memory; all pending work is joined into the named stream."""
        self.order_into(self.stream.handle)
        return {
            "shape": self.shape,
            "typestr": self._dtype.typestr,
            "data": (self.data_ptr, False),
            "version": 3,
            "strides": None,
            "stream": self.stream.handle,
        }


class ExchangeArray(DLPackArray):
    """Offers the C exchange API, whose work stream is the framework's current stream.

    It has ``__dlpack__`` too, as the protocol demands.
    """

    @classmethod
    def prepare(cls, array_type: type[SimArray]) -> None:
        """Put the table into a capsule on the type."""
        name = array_type.framework.name
        _speakers[name] = array_type.framework
        if name not in _tables:
            _tables[name] = _make_table(name)
        table = _tables[name]
        address = ctypes.addressof(table)
        capsule = dl.capsule_new(address, dl.EXCHANGE_API, dl.no_destructor)
        array_type.__dlpack_c_exchange_api__ = capsule  # type: ignore[attr-defined]


# Consumers may keep a table until the process ends. So there is one for each name, which serves
# the framework that has the name now.
_tables: dict[str, dl.ExchangeTable] = {}
_speakers: weakref.WeakValueDictionary[str, Framework] = weakref.WeakValueDictionary()


def _make_table(name: str) -> dl.ExchangeTable:
    def framework() -> Framework:
        found = _speakers.get(name)
        if found is None:
            raise RuntimeError("the simulation this table belongs to is over")
        return found

    def allocate(prototype: Any, out: Any, _context: int, _set_error: int) -> int:
        tensor = prototype.contents
        shape = [tensor.shape[i] for i in range(tensor.ndim)]
        kind = dtype_of(tensor.code, tensor.bits)
        array = framework().array(shape, kind.name, device=tensor.device_id)
        out[0] = dl.Export(array, versioned=True).address
        return 0

    def from_py(array: int, out: Any) -> int:
        out[0] = dl.Export(_object_at(array), versioned=True).address
        return 0

    def to_py(managed: int, out: Any) -> int:
        array = framework().adopt(managed, dl.ManagedVersioned)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(array))
        out[0] = id(array)
        return 0

    def view(array: int, out: Any) -> int:
        _object_at(array).describe(out.contents)
        return 0

    def work_stream(device_type: int, device: int, out: Any) -> int:
        speaker = framework()
        handle = None
        if device_type == speaker.sim.device_type:
            handle = speaker.current_stream(device).handle
        out[0] = None if handle == LEGACY else handle
        return 0

    return dl.ExchangeTable(
        dl.Version(*dl.VERSION),
        None,
        dl.ALLOCATOR(_guarded(allocate)),
        dl.FROM_PY(_guarded(from_py)),
        dl.TO_PY(_guarded(to_py)),
        dl.VIEW_FROM_PY(_guarded(view)),
        dl.WORK_STREAM(_guarded(work_stream)),
    )


def _object_at(address: int) -> Any:
    return ctypes.cast(c_void_p(address), ctypes.py_object).value


def _guarded(function: Callable[..., int]) -> Callable[..., int]:
    """Return -1 for an exception, which is shown but cannot be passed on through ctypes."""

    def call(*arguments: Any) -> int:
        try:
            return function(*arguments)
        except Exception:
            sys.unraisablehook(
                SimpleNamespace(
                    exc_type=sys.exc_info()[0],
                    exc_value=sys.exc_info()[1],
                    exc_traceback=sys.exc_info()[2],
                    err_msg="in a simulated framework's exchange API",
                    object=function,
                )
            )
            return -1

    return call


DIALECTS: dict[str, type[_Dialect]] = {
    "exchange_api": ExchangeArray,
    "dlpack": DLPackArray,
    "cai": CAIArray,
}
