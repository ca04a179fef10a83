"""The suite's own hands on a CUDA driver: the simulated one, or a real one.

Everything goes through the driver API by its C names, so that the same check runs on both.
What only the simulation can tell (counts of calls, races) is Untested on a real device.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from ctypes import c_int32, c_uint32, c_uint64, c_void_p
from typing import Any

from .verdict import Untested

__all__ = ["LEGACY", "PER_THREAD", "Cuda", "CudaError", "Pending"]

LEGACY, PER_THREAD = 1, 2
NON_BLOCKING, DISABLE_TIMING = 1, 2
NOT_READY = 600
DEVICE_ORDINAL = 9
#: Calls by which the host waits for the device.
HOST_WAITS = ("cuStreamSynchronize", "cuEventSynchronize", "cuCtxSynchronize")
#: Calls that order streams, or block.
ORDERING = (*HOST_WAITS, "cuEventRecord", "cuEventRecordWithFlags", "cuStreamWaitEvent")
#: Seconds after which a held stream is let go, so that a host that blocks on it returns.
LATCH_LIMIT = 2.0


class CudaError(RuntimeError):
    """A driver call of the suite's own failed."""

    def __init__(self, call: str, status: int) -> None:
        super().__init__(f"{call} returned {status}")
        self.status = status


class Pending:
    """Host memory that an asynchronous copy will have written."""

    def __init__(self, address: int, nbytes: int) -> None:
        self._address, self._nbytes = address, nbytes

    def floats(self) -> list[float]:
        """The values, once the copy is done."""
        return list((ctypes.c_float * (self._nbytes // 4)).from_address(self._address))


class Cuda:
    """Streams, copies, latches and counts, through the driver API."""

    def __init__(self, simulator: Any = None) -> None:
        self.simulator = simulator
        self._library = simulator.library if simulator else ctypes.CDLL("libcuda.so.1")
        self._contexts: dict[int, int] = {}
        self._pinned: list[int] = []

    # --- calls

    def status(self, call: str, *arguments: Any) -> int:
        """Call an entry point; its status."""
        function = getattr(self._library, call)
        function.restype = c_int32
        wide = (c_uint64(a & 2**64 - 1) if isinstance(a, int) else a for a in arguments)
        return int(function(*wide))

    def call(self, name: str, *arguments: Any) -> None:
        """Call an entry point; CudaError unless it succeeds."""
        status = self.status(name, *arguments)
        if status != 0:
            raise CudaError(name, status)

    def _made(self, name: str, *arguments: Any) -> int:
        out = c_void_p()
        self.call(name, ctypes.byref(out), *arguments)
        return out.value or 0

    # --- contexts and devices

    def begin(self) -> None:
        """A clean slate for a check: device 0 current, no findings."""
        self.use(0)
        if self.simulator is not None:
            self.simulator.run()
            self.simulator.clear_findings()

    def context(self, device: int) -> int:
        """The primary context of a device."""
        if device not in self._contexts:
            self.call("cuInit", 0)
            self._contexts[device] = self._made("cuDevicePrimaryCtxRetain", c_int32(device))
        return self._contexts[device]

    def use(self, device: int | None) -> None:
        """Make a device's primary context, or none, current in this thread."""
        self.call("cuCtxSetCurrent", 0 if device is None else self.context(device))

    def current(self) -> int:
        """The current context."""
        return self._made("cuCtxGetCurrent")

    @property
    def devices(self) -> int:
        """How many devices there are."""
        count = c_int32()
        self.call("cuInit", 0)
        self.call("cuDeviceGetCount", ctypes.byref(count))
        return count.value

    def owner_of(self, address: int) -> int:
        """The ordinal of the device that owns a pointer."""
        ordinal = c_int32(-1)
        self.call("cuPointerGetAttribute", ctypes.byref(ordinal), DEVICE_ORDINAL, address)
        return ordinal.value

    # --- streams

    def stream(self) -> int:
        """A new non-blocking stream of the current device."""
        return self._made("cuStreamCreate", NON_BLOCKING)

    def destroy_stream(self, stream: int) -> None:
        """Destroy a stream."""
        self.call("cuStreamDestroy_v2", stream)

    def synchronize(self, stream: int) -> None:
        """Block until a stream is idle."""
        self.call("cuStreamSynchronize", stream)

    def is_idle(self, stream: int) -> bool:
        """Whether a stream is idle."""
        status = self.status("cuStreamQuery", stream)
        if status not in (0, NOT_READY):
            raise CudaError("cuStreamQuery", status)
        return status == 0

    def order(self, first: int, then: int) -> None:
        """Make later work of `then` wait for the work of `first`."""
        event = self._made("cuEventCreate", DISABLE_TIMING)
        self.call("cuEventRecord", event, first)
        self.call("cuStreamWaitEvent", then, event, 0)
        self.call("cuEventDestroy_v2", event)

    @contextlib.contextmanager
    def holding(self, stream: int) -> Iterator[Callable[[], bool]]:
        """Hold what is submitted to a stream from now on until the body ends.

        Yields a function that says whether the host was blocked by it. On the simulator
        nothing runs that nobody asks for, so nothing has to be held and it says no.
        """
        if self.simulator is not None:
            yield lambda: False
            return
        word_at = self._made("cuMemHostAlloc", 8, 0)
        word, timed_out = c_uint32.from_address(word_at), threading.Event()
        word.value = 0
        self.call("cuStreamWaitValue32_v2", stream, word_at, 1, 0)

        def let_go() -> None:
            timed_out.set()
            word.value = 1

        timer = threading.Timer(LATCH_LIMIT, let_go)
        timer.start()
        try:
            yield timed_out.is_set
        finally:
            timer.cancel()
            word.value = 1

    # --- memory

    def allocate(self, nbytes: int) -> int:
        """Device memory of the current device."""
        return self._made("cuMemAlloc_v2", nbytes)

    def free(self, address: int) -> None:
        """Give device memory back."""
        self.call("cuMemFree_v2", address)

    def fill(self, address: int, value: float, count: int, stream: int) -> None:
        """Write a float32 `count` times, asynchronously."""
        bits = int.from_bytes(ctypes.c_float(value), "little")
        self.call("cuMemsetD32Async", address, c_uint32(bits), count, stream)

    def read(self, address: int, nbytes: int, stream: int) -> Pending:
        """Copy to pinned host memory, asynchronously."""
        host = self._made("cuMemHostAlloc", max(nbytes, 8), 0)
        self._pinned.append(host)
        self.call("cuMemcpyDtoHAsync_v2", host, address, nbytes, stream)
        return Pending(host, nbytes)

    def copy(self, to: int, source: int, nbytes: int, stream: int) -> None:
        """Copy device memory, asynchronously."""
        self.call("cuMemcpyDtoDAsync_v2", to, source, nbytes, stream)

    def write(self, address: int, content: bytes) -> None:
        """Copy bytes to the device, and wait."""
        self.call("cuMemcpyHtoD_v2", address, content, len(content))

    # --- capture

    def begin_capture(self, stream: int) -> None:
        """Begin a capture that only this thread is bound by."""
        self.call("cuStreamBeginCapture_v2", stream, c_uint32(1))

    def capture_status(self, stream: int) -> int:
        """0 none, 1 active, 2 invalidated."""
        status = c_int32()
        self.call("cuStreamIsCapturing", stream, ctypes.byref(status))
        return status.value

    def end_capture(self, stream: int) -> int:
        """End a capture; the status of the call."""
        graph = c_void_p()
        status = self.status("cuStreamEndCapture", stream, ctypes.byref(graph))
        if graph:
            self.call("cuGraphDestroy", graph)
        return status

    # --- what only the simulation knows

    def _simulated(self) -> Any:
        if self.simulator is None:
            raise Untested("only the simulated driver counts and keeps track")
        return self.simulator

    @contextlib.contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Count the driver calls of the body, and not those of older garbage."""
        simulator = self._simulated()
        calls: Counter[str] = Counter()
        collects = gc.isenabled()
        gc.disable()
        before = simulator.calls
        try:
            yield calls
            calls.update(simulator.calls - before)
        finally:
            if collects:
                gc.enable()

    def races(self) -> list[str]:
        """What the race tracker found since the check began; nothing on a real device."""
        if self.simulator is None:
            return []
        return [str(f).splitlines()[0] for f in self.simulator.findings if f.kind in RACES]

    def submitted(self, stream: int) -> int:
        """Operations put into a stream so far."""
        return int(self._simulated().library.simcuda_submitted(0, c_void_p(stream)))

    def alive(self, kind: str) -> int:
        """Objects of the driver alive now."""
        return int(self._simulated().live[kind])

    def fail(self, name: str, nth: int = 1) -> None:
        """Make the nth next call of an entry point fail; 0 takes that back."""
        self._simulated().fail(name, nth)


RACES = ("race", "use-after-free", "double-free", "wild-pointer", "out-of-bounds")
