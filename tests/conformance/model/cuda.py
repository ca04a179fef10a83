"""The model on a CUDA driver: it tracks which streams have pending work on an array."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from dlexchange.conformance import _probe
from dlexchange.conformance.cuda import LEGACY, PER_THREAD, Cuda, CudaError
from dlexchange.conformance.fakes import HostMemory, contiguous
from dlexchange.conformance.looking import decode, encode, item_size, positions

from .array import Array
from .consumer import Owner, check_struct, claim, layout, managed_of
from .subject import Model
from .table import by_table

DEVICE = (2, 0)


class Stream:
    """A stream that is destroyed with this object."""

    def __init__(self, cuda: Cuda, handle: int = 0) -> None:
        self.cuda = cuda
        self.handle = handle or cuda.stream()
        self.owned = not handle
        self.context = cuda.current()

    def __del__(self) -> None:
        if self.owned and self.cuda.simulator.is_active:
            with contextlib.suppress(CudaError):
                self.cuda.destroy_stream(self.handle)


class DeviceMemory:
    """Device memory that goes with this object, in whatever context that happens."""

    def __init__(self, model: CudaModel, nbytes: int) -> None:
        assert model.cuda is not None
        self.model, self.cuda = model, model.cuda
        self.address = self.cuda.allocate(nbytes + 4096) if nbytes else 0
        self.streams: dict[int, Stream] = {}
        self.consumer = 0

    def __del__(self) -> None:
        if not self.address or not self.cuda.simulator.is_active:
            return
        fault = self.model.fault
        if fault == "stream.not-kept" and self.consumer:
            with contextlib.suppress(CudaError):
                self.cuda.order(self.consumer, LEGACY)
        before = self.cuda.current()
        self.cuda.use(0)
        if fault == "deleter.no-host-synchronisation":
            self.cuda.call("cuCtxSynchronize")
        with self.cuda.simulator.relaxed():  # whatever is being captured
            self.cuda.free(self.address)
        if before or fault != "deleter.any-context":
            self.cuda.call("cuCtxSetCurrent", before)


class CudaArray(Array):
    """An array in device memory."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.device = DEVICE
        self.memory: DeviceMemory | None = None

    @property
    def cuda(self) -> Cuda:
        cuda: Cuda = self.model.cuda
        return cuda

    def pending(self) -> dict[int, Stream]:
        """The streams with pending work on the memory."""
        base: Any = self
        while isinstance(base.owner, Array):
            base = base.owner
        return base.owner.streams if isinstance(base.owner, DeviceMemory) else {}

    def values(self) -> list[Any]:
        for handle in self.pending():
            self.cuda.synchronize(handle)
        size = item_size(self.dtype)
        found = []
        host = HostMemory(size)
        for position in positions(self.shape, self.strides):
            self.cuda.call("cuMemcpyDtoH_v2", host.address, self.address + position * size, size)
            found.append(decode(host.read(), self.dtype))
        return [-v for v in found] if self.odd == "negated" else found

    def write(self, value: float) -> None:
        for position in positions(self.shape, self.strides):
            at = self.address + position * item_size(self.dtype)
            self.cuda.write(at, encode(value, self.dtype))

    # --- as a producer

    def _check_stream(self, stream: Any) -> None:
        fault = self.model.fault
        if stream is None:
            return
        if not isinstance(stream, int):
            if fault != "stream.bad-values-refused":
                raise TypeError("stream is an int or None")
            return
        if stream < -1 and fault != "stream.bad-values-refused":
            raise ValueError(f"no stream {stream}")
        if stream == 0 and fault != "stream.zero-refused":
            raise ValueError("stream=0 is ambiguous: pass 1 or 2")
        if stream >= 2**63 and fault == "stream.handles-to-64-bits":
            raise OverflowError("Python int too large to convert to C long")

    def _check(self, asked: dict[str, Any]) -> None:
        host = asked.get("dl_device") == (1, 0) and self.model.fault != "copy.to-host"
        super()._check(dict(asked, dl_device=None) if host else asked)

    def _exported(self, asked: dict[str, Any]) -> Any:
        fault = self.model.fault
        if asked.get("dl_device") == (1, 0):
            return self._on_host(asked)
        restored = fault == "device.context-restored"
        with contextlib.nullcontext() if restored else self.model.context_kept():
            self.cuda.use(0)
            return super()._exported(asked)

    def _on_host(self, asked: dict[str, Any]) -> Any:
        count = 1
        for extent in self.shape:
            count *= extent
        memory = HostMemory(count * item_size(self.dtype))
        if self.model.fault == "stream.host-copy-complete":
            memory.fill(encode(1, self.dtype) * count)
        else:
            memory.fill(b"".join(encode(v, self.dtype) for v in self.values()))
        fields = dict(self.fields(copied=True), data=memory.address, owner=memory)
        fields.update(device=(1, 0), byte_offset=0, strides=contiguous(self.shape, ...))
        return _probe.Fake(versioned=self._versioned(asked.get("max_version")), **fields).capsule()

    def _copied(self) -> Array:
        if self.model.fault != "stream.copy-ordered":
            return super()._copied()
        made = self.model.make([0] * 6, self.shape, self.dtype)
        self.cuda.copy(made.address, self.address, 24, PER_THREAD)
        return made  # type: ignore[no-any-return]

    def _order(self, asked: dict[str, Any]) -> None:
        """Order every stream with pending work into the consumer's."""
        fault, stream = self.model.fault, asked.get("stream")
        if not isinstance(stream, int) and stream is not None:
            return
        if stream is not None and stream < 0:
            self._order_silently()
            return
        if fault == "stream.no-device-synchronisation" and stream is None:
            self.cuda.call("cuCtxSynchronize")
        target = LEGACY if stream is None or stream == 0 else stream
        self._note(target)
        skipped = {
            "stream.pending-work-seen": target > PER_THREAD,
            "stream.none-is-legacy": stream is None,
            "stream.one-is-legacy": stream == LEGACY,
            "stream.two-is-per-thread": target == PER_THREAD,
        }
        if skipped.get(fault, False):
            return
        for first in self._to_order():
            if first == target and fault != "stream.same-stream-elided":
                continue
            self._order_one(first, target)

    def _to_order(self) -> list[int]:
        if self.model.fault == "stream.every-writing-stream":
            return [self.model.current_handle()]
        return list(self.pending())

    def _note(self, target: int) -> None:
        memory = self.owner
        if isinstance(memory, DeviceMemory):
            memory.consumer = target

    def _order_silently(self) -> None:
        fault = self.model.fault
        current = self.model.current_handle()
        if fault == "capture.silent-when-unordered" and self.cuda.capture_status(current):
            self.cuda.status("cuStreamQuery", current)
        for first in self.pending():
            if fault == "stream.minus-one-is-silent" and not self.cuda.capture_status(first):
                self.cuda.order(first, first)

    def _order_one(self, first: int, target: int) -> None:
        fault, cuda = self.model.fault, self.cuda
        capturing = cuda.capture_status(first)
        if capturing and first != target:
            if fault == "capture.refused-before-harm":
                cuda.status("cuStreamQuery", first)
            raise BufferError("the producer's stream is being captured, the consumer's is not")
        if fault == "stream.idle-needs-nothing" and cuda.is_idle(first):
            cuda.synchronize(first)
        if fault == "stream.host-not-blocked" and not cuda.is_idle(first):
            cuda.synchronize(first)
            return
        if fault == "stream.two-in-calling-thread" and target == PER_THREAD and _in_thread():
            thread = threading.Thread(target=self._push, args=(first, target))
            thread.start()
            thread.join()
            return
        self._push(first, target)

    def _push(self, first: int, target: int) -> None:
        fault, cuda = self.model.fault, self.cuda
        cuda.use(0)
        event = cuda._made("cuEventCreate", 2)
        done = False
        try:
            if fault == "stream.pending-reads-covered" and first in self.model.written_events:
                cuda.call("cuStreamWaitEvent", target, self.model.written_events[first], 0)
            else:
                cuda.call("cuEventRecord", event, first)
                cuda.call("cuStreamWaitEvent", target, event, 0)
            done = True
        except CudaError:
            if fault != "stream.driver-error-raises":
                raise
        finally:
            if done or fault != "stream.events-returned":
                cuda.call("cuEventDestroy_v2", event)

    def __dlpack_device__(self) -> Any:
        if self.model.fault == "device.owner-of-pointer":
            ordinal = 0 if self.cuda.current() == self.cuda.context(0) else 1
            return (2, ordinal)
        return super().__dlpack_device__()

    @property
    def __cuda_array_interface__(self) -> Any:
        fault = self.model.fault
        if not self.model.speaks_cai:
            raise AttributeError("__cuda_array_interface__")
        strides = tuple(s * item_size(self.dtype) for s in self.strides)
        home = LEGACY
        if fault == "cai.stream-outlives":
            home = next(iter(self.pending()), LEGACY)
        for first in self.pending():
            if first != home and fault != "cai.stream-covers-all":
                self.cuda.order(first, home)
        said: dict[str, Any] = {
            "shape": self.shape,
            "typestr": "<f4",
            "data": (self.address, not self.writable),
            "version": 3,
            "strides": strides,
            "stream": home,
        }
        if fault == "cai.fields":
            said["version"] = "3"
        if fault == "cai.pointer" and 0 in self.shape:
            said["data"] = (0x1000, False)
        if fault == "cai.strides":
            said["strides"] = None
        if fault == "cai.stream-never-zero" and not self.pending():
            said["stream"] = 0
        if fault == "cai.none-when-idle" and self.pending():
            for first in self.pending():
                self.cuda.order(first, LEGACY)
            said["stream"] = None
        return said


def _in_thread() -> bool:
    return threading.current_thread() is not threading.main_thread()


class CudaModel(Model):
    """The model with arrays on a (simulated) CUDA device, and current streams."""

    ground = "simulated CUDA"
    device = DEVICE
    also_imports = (2,)
    dtypes = ("float32",)

    def __init__(self, fault: str = "", *, speaks_cai: bool = True) -> None:
        super().__init__(fault)
        attributes = {"__dlpack_c_exchange_api__": self.kind.__dict__["__dlpack_c_exchange_api__"]}
        self.kind = type("CudaModelArray", (CudaArray,), attributes)
        self.speaks_cai = speaks_cai
        self.streams: list[Any] = []
        self.written_events: dict[int, int] = {}
        self.side: Stream | None = None

    # --- streams

    def new_stream(self) -> Stream:
        assert self.cuda is not None
        return Stream(self.cuda)

    def handle(self, stream: Any) -> int:
        return int(stream.handle)

    @contextlib.contextmanager
    def using(self, stream: Any) -> Iterator[None]:
        assert self.cuda is not None
        assert not stream.owned or stream.context == self.cuda.current()  # as CuPy demands
        self.streams.append(stream)
        try:
            yield
        finally:
            self.streams.pop()

    def current(self) -> Stream:
        assert self.cuda is not None
        return self.streams[-1] if self.streams else Stream(self.cuda, LEGACY)

    def current_handle(self) -> int:
        return self.current().handle

    @contextlib.contextmanager
    def context_kept(self) -> Iterator[None]:
        assert self.cuda is not None
        before = self.cuda.current()
        try:
            yield
        finally:
            self.cuda.call("cuCtxSetCurrent", before)

    # --- arrays

    def make(self, values: Any, shape: tuple[int, ...], dtype: str) -> Any:
        assert self.cuda is not None
        _probe.set_handler(self.handler)
        with self.context_kept():
            self.cuda.use(0)
            content = b"".join(encode(value, dtype) for value in values)
            memory = DeviceMemory(self, len(content))
            array = self.kind(self, memory.address, shape, contiguous(shape, ...), dtype)
            array.owner = memory
            if content:
                self.cuda.write(memory.address, content)
        return array

    def address(self, array: Any) -> int:
        return int(array.address)

    def fill(self, array: Any, value: float, stream: Any) -> None:
        assert self.cuda is not None
        kept = Kept(stream) if self.fault == "cai.stream-outlives" else stream
        array.pending()[stream.handle] = kept
        self.cuda.fill(array.address, value, 6, stream.handle)
        if self.fault == "stream.pending-reads-covered":
            event = self.cuda._made("cuEventCreate", 2)
            self.cuda.call("cuEventRecord", event, stream.handle)
            self.written_events[stream.handle] = event

    def touch(self, array: Any, stream: Any) -> Any:
        assert self.cuda is not None
        made = self.make([0] * 6, (2, 3), "float32")
        array.pending()[stream.handle] = made.pending()[stream.handle] = stream
        self.cuda.copy(made.address, array.address, 24, stream.handle)
        return made

    # --- as a consumer

    def _import(self, x: Any, options: dict[str, Any]) -> Any:
        assert self.cuda is not None
        if self.fault == "device.context-restored@consumer":
            self.cuda.use(0)
            return self._taken(x, options)
        with self.context_kept():
            self.cuda.use(0)
            return self._taken(x, options)

    def _taken(self, x: Any, options: dict[str, Any]) -> Any:
        assert self.cuda is not None
        x.__dlpack_device__()
        current = self.current_handle()
        table = self._by_table(x, current)
        if table is not None:
            return table
        capsule = x.__dlpack__(stream=self._passed(current), max_version=(1, 3))
        if self.fault == "stream.consumer-passes-stream" and current > PER_THREAD:
            self.cuda.order(LEGACY, current)
        managed = managed_of(self, capsule, True)
        array = self._array(managed)
        claim(self, capsule, managed)
        array.owner = ConsumedOn(self, managed, self.current())
        return array

    def _array(self, managed: Any) -> Any:
        dtype = check_struct(self, managed)
        shape, strides, address = layout(self, managed, dtype)
        array = self.kind(self, address, shape, strides, dtype)
        array.imported = True
        return array

    def _passed(self, current: int) -> int | None:
        assert self.cuda is not None
        if self.fault == "stream.consumer-passes-stream" and current > PER_THREAD:
            return None
        if self.fault == "stream.consumer-stream-current" and current > PER_THREAD:
            self.side = self.side or Stream(self.cuda)
            return self.side.handle
        if self.fault == "stream.consumer-never-zero" and current == LEGACY:
            return 0
        if self.fault == "stream.default-passed-explicitly" and current == LEGACY:
            return None
        return current

    def _by_table(self, x: Any, current: int) -> Any:
        """An import through the table of x's type, ordered by its work stream."""
        assert self.cuda is not None
        taken: list[Any] = []
        array = by_table(self, x, taken.append)
        if array is None:
            return None
        work = taken[0]
        if not work and self.fault == "api.null-stream-not-zero":
            x.__dlpack__(stream=0)
        if self.fault != "api.consumer-orders" and (work or LEGACY) != current:
            self.cuda.order(work or LEGACY, current)
        array.owner = ConsumedOn(self, array.owner.take(), self.current())
        return array

    def from_cai(self, x: Any, stream: Any) -> Any:
        assert self.cuda is not None
        fault = self.fault
        said = x.__cuda_array_interface__
        if said.get("mask") is not None and fault != "cai.mask-refused":
            raise BufferError("masked arrays are not supported")
        if said["version"] < 3 and fault == "cai.older-versions":
            said = dict(said, data=(said["data"][0] + 4, False))
        exported = said.get("stream")
        if exported is None and fault == "cai.none-used-at-once":
            self.cuda.call("cuCtxSynchronize")
        if exported is not None and fault != "cai.consumer-orders":
            self.cuda.order(exported, stream.handle)
        shape = tuple(said["shape"])
        array = self.kind(self, said["data"][0], shape, contiguous(shape, ...), "float32")
        array.owner = None if fault == "cai.consumer-keeps-alive" else x
        return array


class Kept:
    """The fault of an array that keeps the number of a stream and not the stream."""

    def __init__(self, stream: Any) -> None:
        self.handle = stream.handle


class ConsumedOn(Owner):
    """A managed tensor used on a stream: released when that stream has done with it."""

    def __init__(self, model: Any, managed: Any, stream: Stream) -> None:
        super().__init__(model, managed)
        self.stream = stream
        self.streams: dict[int, Stream] = {}

    def __del__(self) -> None:
        cuda: Cuda = self.model.cuda
        if self.model.fault != "release.after-consumer-work" and cuda.simulator.is_active:
            cuda.synchronize(self.stream.handle)
        super().__del__()
