"""The arrays of the small framework over simulated memory, whatever protocol they speak."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_int64, c_uint64
from typing import TYPE_CHECKING, Any

from dlexchange.testing import dlpack_structs as dl
from dlexchange.testing.driver import SimulatedDriverError
from dlexchange.testing.streams import SimStream

if TYPE_CHECKING:
    from dlexchange.testing.framework import Framework

NOT_PERMITTED = 800


class DType:
    """One of the framework's element types."""

    def __init__(self, name: str, format_: str, kernel: str, ctype: Any) -> None:
        self.name = name
        self.format = format_
        self.kernel = kernel
        self.ctype = ctype
        self.itemsize = ctypes.sizeof(ctype)
        self.code = dl.CODES[name.rstrip("0123456789")]

    @property
    def typestr(self) -> str:
        """As the array interfaces spell it."""
        kind = {0: "i", 1: "u", 2: "f"}[self.code]
        return f"{'|' if self.itemsize == 1 else '<'}{kind}{self.itemsize}"


DTYPES = {
    dtype.name: dtype
    for dtype in (
        DType("float32", "f", "f32", ctypes.c_float),
        DType("float64", "d", "f64", ctypes.c_double),
        DType("int32", "i", "i32", ctypes.c_int32),
        DType("int64", "q", "i64", ctypes.c_int64),
        DType("uint8", "B", "u8", ctypes.c_uint8),
    )
}


def dtype_of(code: int, bits: int) -> DType:
    """Return the element type with a DLPack code and width."""
    for dtype in DTYPES.values():
        if dtype.code == code and dtype.itemsize * 8 == bits:
            return dtype
    raise BufferError(f"the simulated framework has no dtype with code {code} and {bits} bits")


def call_site() -> str:
    """Return "file.py:12" of the nearest frame outside of this package."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(
        ("dlexchange.testing", "contextlib")
    ):
        frame = frame.f_back
    return f"{frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno}"


class SimArray:
    """A C-contiguous array in simulated device memory, written and read by streams.

    Work goes to the framework's current stream, or to the one given. As in real frameworks,
    using an array on several streams is the caller's to order.

    Attributes
    ----------
    shape : tuple of int
    dtype : str
    data_ptr : int
        Address in simulated device memory; the host cannot touch it.
    device : int
    """

    framework: Framework  # of the subclass that each framework makes for itself

    def __init__(
        self,
        shape: Sequence[int],
        dtype: DType,
        address: int,
        device: int,
        *,
        streams: Sequence[SimStream],
        release: Callable[[SimArray], None] | None,
    ) -> None:
        self.shape = tuple(shape)
        self.data_ptr = address
        self.device = device
        self._dtype = dtype
        self._release = release
        self._streams = {stream.handle: stream for stream in streams}
        self._home = streams[0]
        strides = [math.prod(self.shape[i + 1 :]) for i in range(len(self.shape))]
        self._shape_c = (c_int64 * max(len(self.shape), 1))(*self.shape)
        self._strides_c = (c_int64 * max(len(self.shape), 1))(*strides)

    @property
    def dtype(self) -> str:
        """Name of the element type."""
        return self._dtype.name

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self._dtype.itemsize

    @property
    def stream(self) -> SimStream:
        """The stream the memory was allocated on, and is freed on."""
        return self._home

    def __repr__(self) -> str:
        speaks = self.framework.speaks
        return f"<simulated array {self.shape} {self.dtype} on device {self.device}, {speaks}>"

    @contextmanager
    def _on(self, stream: SimStream | None, *, waits: bool = False) -> Iterator[SimStream]:
        """Enter device and call site; the stream then has pending work, unless the host waits."""
        sim = self.framework.sim
        used = stream or self.framework.current_stream(self.device)
        with sim.on_device(used.device), sim.label(call_site()):
            yield used
        if not waits:
            self._streams[used.handle] = used

    # --- work ---

    def fill(self, value: float, *, stream: SimStream | None = None) -> SimArray:
        """Write one value into every element.

        Synchronization
        ---------------
        Runs on `stream`, or the current one. The host does not block.
        """
        with self._on(stream) as used:
            self.framework.launch_fill(self, value, 0, self.size, used)
        return self

    def copy(self, *, stream: SimStream | None = None) -> SimArray:
        """Return a copy.

        Synchronization
        ---------------
        Runs on `stream`, or the current one. The host does not block.
        """
        with self._on(stream) as used:
            result = self.framework.array(self.shape, self.dtype, stream=used, device=self.device)
            if self.nbytes:
                self.framework.sim.driver(
                    "cuMemcpyDtoDAsync_v2",
                    result.data_ptr,
                    self.data_ptr,
                    self.nbytes,
                    used.handle,
                )
        return result

    def add(self, other: SimArray, *, stream: SimStream | None = None) -> SimArray:
        """Return the sum of two arrays of equal shape and dtype.

        Synchronization
        ---------------
        Runs on `stream`, or the current one. The host does not block.
        """
        if (self.shape, self.dtype) != (other.shape, other.dtype):
            raise ValueError("both arrays must have the same shape and dtype")
        with self._on(stream) as used, other._on(used):
            result = self.framework.array(self.shape, self.dtype, stream=used, device=self.device)
            self.framework.launch_add(result, self, other, used)
        return result

    def __add__(self, other: SimArray) -> SimArray:
        return self.add(other)

    def _to_host(self, stream: SimStream | None) -> Any:
        buffer = (self._dtype.ctype * max(self.size, 1))()
        with self._on(stream, waits=True) as used:
            if self.nbytes:
                self.framework.sim.driver(
                    "cuMemcpyDtoHAsync_v2", buffer, self.data_ptr, self.nbytes, used.handle
                )
        return buffer

    def tolist(self, *, stream: SimStream | None = None) -> list[Any]:
        """Return the elements, in C order, as a flat list.

        Synchronization
        ---------------
        Copies on `stream`, or the current one, and blocks until the copy is done. Work of
        other streams is not waited for.
        """
        return list(self._to_host(stream))[: self.size]

    def numpy(self, *, stream: SimStream | None = None) -> Any:
        """Return the values as a numpy array, or as a memoryview where numpy is missing.

        Synchronization
        ---------------
        As :meth:`tolist`.
        """
        view = memoryview(self._to_host(stream)).cast("B")[: self.nbytes]
        try:
            import numpy
        except ImportError:
            plain: Any = view
            return plain.cast(self._dtype.format, list(self.shape)) if self.nbytes else view
        return numpy.frombuffer(view, dtype=self.dtype).reshape(self.shape)

    # --- what the dialects need ---

    def describe(self, tensor: dl.Tensor) -> None:
        """Fill in a DLTensor; shape and strides belong to this array."""
        tensor.data = self.data_ptr
        tensor.device_type, tensor.device_id = self.framework.sim.device_type, self.device
        tensor.ndim = len(self.shape)
        tensor.code, tensor.bits, tensor.lanes = self._dtype.code, self._dtype.itemsize * 8, 1
        tensor.shape = ctypes.cast(self._shape_c, type(tensor.shape))
        tensor.strides = ctypes.cast(self._strides_c, type(tensor.strides))
        tensor.byte_offset = 0

    def order_into(self, handle: int) -> None:
        """Make a stream wait for this array's pending work, on whichever streams that is."""
        sim = self.framework.sim
        for stream in list(self._streams.values()):
            if stream.handle != handle:
                event = stream.record()
                with sim.on_device(self.device):
                    sim.driver("cuStreamWaitEvent", c_uint64(handle), event.handle, 0)

    def __del__(self) -> None:
        release, self._release = getattr(self, "_release", None), None
        if release is None or not self.framework.sim.is_active:
            return
        try:
            release(self)
        except SimulatedDriverError as error:
            if error.status == NOT_PERMITTED:  # inside a host function: later, elsewhere
                self.framework.free_later(self.data_ptr, self._home)
