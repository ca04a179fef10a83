"""A small array framework over simulated memory, with current streams like a real one."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from ctypes import c_uint64
from typing import TYPE_CHECKING, Any

from dlexchange import Stream, Tensor
from dlexchange.testing import dlpack_structs as dl
from dlexchange.testing.arrays import DTYPES, SimArray, call_site, dtype_of
from dlexchange.testing.dialects import DIALECTS
from dlexchange.testing.streams import SimStream

if TYPE_CHECKING:
    from dlexchange.testing.simulation import Simulation


class Framework:
    """Stands in for a GPU framework: arrays of a type of its own, one protocol, streams.

    Attributes
    ----------
    name, speaks : str
    array_type : type
        The type of its arrays; a C exchange API, where spoken, is an attribute of this type.
    """

    def __init__(self, sim: Simulation, speaks: str, name: str) -> None:
        if speaks not in DIALECTS:
            raise ValueError(f"speaks must be one of {', '.join(DIALECTS)}, not {speaks!r}")
        if speaks == "cai" and sim.is_hip:
            raise ValueError("the CUDA Array Interface has no streams of ROCm")
        self.sim = sim
        self.speaks = speaks
        self.name = name
        self._current = threading.local()
        self._to_free: list[tuple[int, SimStream]] = []
        self._kernels: dict[str, ctypes.c_void_p] = {}
        self._module = ctypes.c_void_p()
        namespace = {"framework": self, "__module__": __name__, "__doc__": SimArray.__doc__}
        base = DIALECTS[speaks]
        self.array_type: type[SimArray] = type(f"SimArray_{name}", (base,), namespace)
        base.prepare(self.array_type)

    # --- current streams: a thread has its own, for each device ---

    def current_stream(self, device: int = 0) -> SimStream:
        """Return the calling thread's current stream: at first the legacy default stream."""
        streams = getattr(self._current, "streams", {})
        return streams.get(device) or self.sim.legacy(device)

    @contextmanager
    def use_stream(self, stream: SimStream | Stream) -> Iterator[SimStream]:
        """Make a stream the current one of the calling thread in the body."""
        if isinstance(stream, Stream):
            stream = SimStreamView(self.sim, stream.handle, stream.device.id)
        streams = dict(getattr(self._current, "streams", {}))
        self._current.streams = {**streams, stream.device: stream}
        try:
            yield stream
        finally:
            self._current.streams = streams

    def use_handle(self, handle: int, device: int) -> AbstractContextManager[SimStream]:
        """The same for a stream that somebody else owns."""
        return self.use_stream(SimStreamView(self.sim, handle, device))

    # --- making arrays ---

    def array(
        self,
        shape: int | Sequence[int],
        dtype: str = "float32",
        *,
        stream: SimStream | Sequence[SimStream] | None = None,
        fill: float | None = None,
        device: int | None = None,
    ) -> SimArray:
        """Allocate an array; without `fill` it is full of 0xCB.

        Parameters
        ----------
        shape : int or sequence of int
        dtype : str
            "float32", "float64", "int32", "int64" or "uint8".
        stream : SimStream or sequence of SimStream, optional
            Where memory is allocated and filled. Several: each fills a part, so that the
            array has pending work on all of them. Default: the current stream.
        fill : float, optional
            The value to fill it with, asynchronously.
        device : int, optional
            Default: the stream's, or 0.

        Returns
        -------
        SimArray

        Synchronization
        ---------------
        The allocation is ordered in the (first) stream. The host does not block.
        """
        given = [stream] if isinstance(stream, SimStream) else list(stream or ())
        if device is None:
            device = given[0].device if given else 0
        streams = given or [self.current_stream(device)]
        dims = (shape,) if isinstance(shape, int) else tuple(shape)
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
        if any(dim < 0 for dim in dims):
            raise ValueError(f"a shape has no negative extent: {dims}")
        kind = DTYPES[dtype]
        nbytes = kind.itemsize
        for dim in dims:
            nbytes *= dim
        address = c_uint64()
        self._free_what_waits()
        with self.sim.on_device(device), self.sim.label(call_site()):
            if nbytes:
                out = ctypes.byref(address)
                self.sim.driver("cuMemAllocAsync", out, nbytes, streams[0].handle)
        array = self.array_type(
            dims, kind, address.value, device, streams=streams[:1], release=_free
        )
        for other in streams[1:]:
            other.wait(streams[0])  # for the allocation
        if fill is not None and array.size:
            self._fill_in_parts(array, fill, streams)
        return array

    def _fill_in_parts(self, array: SimArray, value: float, streams: list[SimStream]) -> None:
        part = -(-array.size // len(streams))
        for i, stream in enumerate(streams):
            count = min(part, array.size - i * part)
            if count > 0:
                with array._on(stream):
                    self.launch_fill(array, value, i * part, count, stream)

    def from_dlpack(self, x: Any) -> SimArray:
        """Import through ``x.__dlpack__``, as a consumer on the current stream.

        Synchronization
        ---------------
        The producer is asked to order its work into the current stream.

        Ownership
        ---------
        The result keeps the producer's memory until it is collected.
        """
        _, device = x.__dlpack_device__()
        number = self.sim.number_of(self.current_stream(device))
        capsule = x.__dlpack__(stream=number, max_version=dl.VERSION)
        return self.adopt(*dl.consume(capsule))

    def copy_across(self, x: Tensor, stream: Stream) -> SimArray:
        """Copy memory of whichever device to that of a stream.

        Synchronization
        ---------------
        On `stream`, which must wait for `x` already. The host does not block.
        """
        view = SimStreamView(self.sim, stream.handle, stream.device.id)
        dtype = dtype_of(x.dtype.code, x.dtype.bits)
        made = self.array(x.shape, dtype.name, stream=view)
        contexts = self.sim.context(view.device), self.sim.context(x.device.id)
        arguments = (made.data_ptr, contexts[0], x.data_ptr, contexts[1], x.nbytes, view.handle)
        with self.sim.on_device(view.device), self.sim.label(call_site()):
            self.sim.driver("cuMemcpyPeerAsync", *arguments)
        return made

    def adopt(self, address: int, form: type[dl.Managed] | type[dl.ManagedVersioned]) -> SimArray:
        """Wrap a managed tensor; orders nothing.

        Ownership
        ---------
        Takes the managed tensor: its deleter runs when the result is collected.
        """
        tensor = form.from_address(address).tensor
        if tensor.device_type != self.sim.device_type:
            raise BufferError("the simulated framework holds memory of its own device type only")
        kind = dtype_of(tensor.code, tensor.bits)
        shape = [tensor.shape[i] for i in range(tensor.ndim)]
        expected = 1
        for i in reversed(range(tensor.ndim)):
            if tensor.strides and shape[i] > 1 and tensor.strides[i] != expected:
                raise BufferError("the simulated framework holds C-contiguous arrays only")
            expected *= shape[i]
        data = (tensor.data or 0) + tensor.byte_offset
        streams = [self.current_stream(tensor.device_id)]
        return self.array_type(
            shape,
            kind,
            data,
            tensor.device_id,
            streams=streams,
            release=lambda _array: dl.delete(address, form),
        )

    def from_cai(self, x: Any) -> SimArray:
        """Import through ``x.__cuda_array_interface__``, as a consumer on the current stream.

        Synchronization
        ---------------
        The current stream waits for the exported one; when the result is collected, the
        exported one waits for the streams that used it.

        Ownership
        ---------
        The result keeps `x`.
        """
        interface = x.__cuda_array_interface__
        if interface.get("strides") is not None or interface.get("mask") is not None:
            raise BufferError("the simulated framework holds dense C-contiguous arrays only")
        handle = interface.get("stream")
        device = getattr(x, "device", 0)
        stream = self.current_stream(device)
        exported = None if handle is None else SimStreamView(self.sim, handle, device)
        if exported is not None and handle != stream.handle:
            stream.wait(exported)
        kind = next(d for d in DTYPES.values() if d.typestr == interface["typestr"])

        def release(array: SimArray, keep: Any = x) -> None:
            if exported is not None:
                array.order_into(exported.handle)

        address = interface["data"][0]
        return self.array_type(
            interface["shape"], kind, address, device, streams=[stream], release=release
        )

    # --- kernels and memory ---

    def launch_add(self, out: SimArray, a: SimArray, b: SimArray, stream: SimStream) -> None:
        """Add two arrays, element by element."""
        addresses = [c_uint64(array.data_ptr) for array in (out, a, b)]
        self._launch(f"sim_add_{out._dtype.kernel}", [*addresses, c_uint64(out.size)], stream)

    def launch_fill(
        self, array: SimArray, value: float, start: int, count: int, stream: SimStream
    ) -> None:
        """Fill `count` elements from `start` on."""
        address = c_uint64(array.data_ptr + start * array._dtype.itemsize)
        filler = array._dtype.ctype(value if array._dtype.code == dl.CODES["float"] else int(value))
        self._launch(f"sim_fill_{array._dtype.kernel}", [address, filler, c_uint64(count)], stream)

    def _kernel(self, name: str) -> ctypes.c_void_p:
        if name not in self._kernels:
            with self.sim.relaxed():
                if not self._module:
                    self.sim.driver("cuModuleLoadData", ctypes.byref(self._module), b"simulated")
                function = ctypes.c_void_p()
                out = ctypes.byref(function)
                self.sim.driver("cuModuleGetFunction", out, self._module, name.encode())
            self._kernels[name] = function
        return self._kernels[name]

    def _launch(self, name: str, values: Sequence[Any], stream: SimStream) -> None:
        params = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
        ones = [1] * 6
        function = self._kernel(name)
        self.sim.driver("cuLaunchKernel", function, *ones, 0, stream.handle, params, None)

    def free_later(self, address: int, stream: SimStream) -> None:
        """Free memory at the next allocation: now is no time for driver calls."""
        self._to_free.append((address, stream))

    def _free_what_waits(self) -> None:
        while self._to_free:
            address, stream = self._to_free.pop()
            with self.sim.on_device(stream.device):
                self.sim.driver("cuMemFreeAsync", address, stream.handle)


class SimStreamView(SimStream):
    """A stream somebody else owns."""

    def destroy(self) -> None:
        """Leave it alone."""


def _free(array: SimArray) -> None:
    """Free in stream order: behind the work of every stream this framework used it on."""
    if array.data_ptr:
        array.order_into(array.stream.handle)
        sim = array.framework.sim
        with sim.on_device(array.device), sim.label("free of a simulated array"):
            sim.driver("cuMemFreeAsync", array.data_ptr, array.stream.handle)
