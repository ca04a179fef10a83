"""A simulation: the simulated driver in one configuration, and what a test asks of it."""

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_int32, c_size_t, c_uint32, c_void_p
from dataclasses import dataclass
from typing import Any

from dlexchange.testing import dlpack_structs as dl
from dlexchange.testing import driver as _driver
from dlexchange.testing.arrays import SimArray
from dlexchange.testing.framework import Framework
from dlexchange.testing.streams import (
    DISABLE_TIMING,
    LEGACY,
    NON_BLOCKING,
    NOT_READY,
    PER_THREAD,
    SimEvent,
    SimLatch,
    SimStream,
)

KINDS = (
    "context",
    "stream",
    "event",
    "pool",
    "graph",
    "graph_exec",
    "graph_node",
    "library",
    "kernel",
    "block",
    "op",
)
ILLEGAL_ADDRESS = 700
UNKNOWN = 999
_WORDS_BYTES = 4096


@dataclass(frozen=True)
class Finding:
    """Something a client did that a real driver would have let pass, or made wrong data of.

    Attributes
    ----------
    kind : str
        "race", "use-after-free", "out-of-bounds", "wild-pointer", "double-free",
        "free-with-pending-work", "gil-held", "call-in-host-function", "stalled",
        "unknown-kernel" or "not-implemented".
    message : str
        What happened, in a sentence.
    first, second : str
        The call sites: entry point, stream, and a label or a code address. May be empty.
    times : int
        How often these two sites did it.
    """

    kind: str
    message: str
    first: str
    second: str
    times: int

    def __str__(self) -> str:
        sites = "".join(f"\n  {site}" for site in (self.first, self.second) if site)
        return f"{self.kind}: {self.message}{sites}"


class Simulation:
    """Controls of the simulated driver, as given by :func:`simulated_cuda`.

    Attributes
    ----------
    driver : Driver
        Calls the driver API by name: ``sim.driver("cuStreamSynchronize", handle)``.
    library : ctypes.CDLL
        The simulated driver itself.
    is_hip : bool
        Whether arrays say they are ROCm's and streams have HIP's numbers at protocol borders.
    device_type : int
        DLPack's, 2 or 10.
    """

    def __init__(self, config: _driver.Config, *, hip: bool = False) -> None:
        self.is_hip = hip
        self.device_type = dl.ROCM if hip else dl.CUDA
        self.library = _driver.load()
        self.driver = _driver.Driver(self.library)
        self.is_active = False
        self._config = config
        self._contexts: dict[int, int] = {}
        self._frameworks: dict[str, Framework] = {}
        self._kept: list[Any] = []
        self._closed: set[SimLatch] = set()
        self._words: list[int] = []
        self._word_blocks = 0
        self._lock = threading.Lock()

    # --- what happened ---

    @property
    def calls(self) -> Counter[str]:
        """Calls since the last reset, by the name one asks ``cuGetProcAddress`` for.

        Names carry no version or variant: ``cuMemAlloc``, not ``cuMemAlloc_v2``.
        """
        names = enumerate(_driver.names())
        calls = ((name, self.library.simcuda_calls(i)) for i, name in names)
        return Counter({name: count for name, count in calls if count})

    def reset_calls(self) -> None:
        """Set every count to zero."""
        self.library.simcuda_reset_calls()

    @property
    def findings(self) -> list[Finding]:
        """What was found so far, oldest first, once for each pair of call sites."""
        found = []
        raw = _driver.RawFinding()
        for i in range(self.library.simcuda_finding_count()):
            if self.library.simcuda_finding_get(i, ctypes.byref(raw)) == 0:
                sites = (raw.first.decode(), raw.second.decode())
                found.append(Finding(raw.kind.decode(), raw.message.decode(), *sites, raw.times))
        return found

    def clear_findings(self) -> None:
        """Forget what was found."""
        self.library.simcuda_findings_clear()

    @property
    def live(self) -> dict[str, int]:
        """Objects of the driver alive now: "event", "stream", "block", "op" and others."""
        return self._count(self.library.simcuda_live)

    @property
    def peak(self) -> dict[str, int]:
        """The most there were at any time."""
        return self._count(self.library.simcuda_peak)

    def _count(self, function: Callable[[bytes], int]) -> dict[str, int]:
        counts = {kind: function(kind.encode()) for kind in KINDS}
        counts["block"] -= self._word_blocks  # ours, not the test's
        return counts

    @property
    def effort(self) -> int:
        """Steps of searching and comparing so far: what work costs here, without a clock."""
        return int(self.library.simcuda_effort())

    # --- making things happen ---

    def run(self) -> int:
        """Run whatever can run; return how many operations closed gates still hold."""
        return int(self.library.simcuda_run())

    def fail(self, name: str, nth: int = 1, status: int = UNKNOWN) -> None:
        """Make the nth call from now of an entry point do nothing and return `status`.

        Parameters
        ----------
        name : str
            As in :attr:`calls`.
        nth : int
            1 is the next call; 0 takes the order back.
        status : int
            The ``CUresult`` to return.
        """
        if self.library.simcuda_fail(name.encode(), nth, status) != 0:
            raise ValueError(f"the driver API has no {name!r}: names carry no _v2 or _ptsz")

    def kill_context(self, device: int = 0, status: int = ILLEGAL_ADDRESS) -> None:
        """Put every context of a device in error, for good.

        Later calls return `status`; pending work never runs, host functions are not called,
        stream callbacks are called with the error.
        """
        self.library.simcuda_kill(device, status)

    def host_access(self, address: int, nbytes: int, *, writes: bool) -> None:
        """Tell the race tracker that the host itself touches pinned or managed memory."""
        self.library.simcuda_host_access(address, nbytes, writes)

    def host_pointer(self, address: int) -> int:
        """Return where simulated memory lies in the host's memory (for kernel bodies)."""
        pointer = self.library.simcuda_host_pointer(address)
        if pointer is None:
            raise ValueError(f"{address:#x} is not simulated memory")
        return int(pointer)

    def register_kernel(
        self, name: str, body: Callable[..., None], modes: str, sizes: Sequence[int] | None = None
    ) -> None:
        """Give a kernel name a body: ``body(*values)``, run on the driver's thread.

        Parameters
        ----------
        name : str
            As it will be asked of a module or library; any image can be loaded.
        body : callable
            Gets one integer a parameter. Read memory through :meth:`host_pointer`.
        modes : str
            One letter a parameter: "r", "w" or "b" for a pointer read, written or both, "-"
            for anything else.
        sizes : sequence of int, optional
            Bytes of each parameter. Default 8.
        """
        widths = list(sizes or [8] * len(modes))

        def call(_user: int | None, params: Any) -> None:
            values = (
                int.from_bytes(ctypes.string_at(params[i], n), "little")
                for i, n in enumerate(widths)
            )
            body(*values)

        trampoline = _driver.KERNEL_BODY(call)
        self._kept.append(trampoline)
        array = (c_size_t * len(widths))(*widths)
        arguments = (trampoline, None, len(widths), array, modes.encode())
        if self.library.simcuda_register_kernel(name.encode(), *arguments) != 0:
            raise ValueError("modes and sizes must have one entry a parameter, at most 32")

    @contextmanager
    def label(self, text: str) -> Iterator[None]:
        """Name the call site of what this thread submits in the body."""
        before = self.library.simcuda_label(text.encode())
        try:
            yield
        finally:
            self.library.simcuda_label(before)

    # --- devices, contexts, streams, events ---

    def context(self, device: int = 0) -> int:
        """Return the primary context of a device, retained until the simulation ends."""
        with self._lock:
            if device not in self._contexts:
                context = c_void_p()
                self.driver("cuInit", 0)
                self.driver("cuDevicePrimaryCtxRetain", ctypes.byref(context), c_int32(device))
                self._contexts[device] = context.value or 0
            return self._contexts[device]

    def set_device(self, device: int = 0) -> None:
        """Make a device's primary context current in the calling thread, as a framework would."""
        self.driver("cuCtxSetCurrent", self.context(device))

    @contextmanager
    def on_device(self, device: int) -> Iterator[None]:
        """Have the primary context of a device current in the body."""
        self.driver("cuCtxPushCurrent_v2", self.context(device))
        try:
            yield
        finally:
            self.driver("cuCtxPopCurrent_v2", None)

    @contextmanager
    def relaxed(self) -> Iterator[None]:
        """Have the thread's capture mode relaxed in the body."""
        mode = c_uint32(2)
        self.driver("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))
        try:
            yield
        finally:
            self.driver("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))

    def query(self, call: str, handle: int, device: int) -> bool:
        """Ask ``cuStreamQuery`` or ``cuEventQuery``; True if done."""
        with self.on_device(device):
            status = self.driver.status(call, handle)
        if status in (0, NOT_READY):
            return status == 0
        raise _driver.SimulatedDriverError(call, status, self.driver.error_name(status))

    def stream(self, device: int = 0, *, blocking: bool = False, priority: int = 0) -> SimStream:
        """Create a stream; a blocking one synchronises with the legacy default stream."""
        handle = c_void_p()
        with self.on_device(device):
            self.driver(
                "cuStreamCreateWithPriority",
                ctypes.byref(handle),
                c_uint32(0 if blocking else NON_BLOCKING),
                c_int32(priority),
            )
        return SimStream(self, handle.value or 0, device)

    def legacy(self, device: int = 0) -> SimStream:
        """Return the legacy default stream of a device."""
        return SimStream(self, LEGACY, device)

    def per_thread(self, device: int = 0) -> SimStream:
        """Return the per-thread default stream: of whichever thread uses it."""
        return SimStream(self, PER_THREAD, device)

    def event(self, device: int = 0) -> SimEvent:
        """Create an event without timing."""
        handle = c_void_p()
        with self.on_device(device):
            self.driver("cuEventCreate", ctypes.byref(handle), c_uint32(DISABLE_TIMING))
        return SimEvent(self, handle.value or 0, device)

    def number_of(self, stream: SimStream) -> int:
        """Return a stream as a protocol's integer: HIP's default stream is 0, CUDA's 1."""
        return 0 if self.is_hip and stream.handle == LEGACY else stream.handle

    def handle_of(self, number: int | None) -> int:
        """Return the driver's handle of a protocol's stream integer; None is the default."""
        refused = (1, 2) if self.is_hip else (0,)
        if number in refused:
            raise ValueError(f"stream={number} is no stream of {'ROCm' if self.is_hip else 'CUDA'}")
        return number or LEGACY

    def latch(self, stream: SimStream | int, device: int | None = None) -> SimLatch:
        """Hold a stream: what is submitted to it from now on waits for ``latch.open()``."""
        if device is None:
            device = 0 if isinstance(stream, int) else stream.device
        latch = SimLatch(self, stream, device)
        self._closed.add(latch)
        return latch

    def pinned_word(self) -> int:
        """Return the address of eight bytes of pinned memory, kept until the simulation ends."""
        with self._lock:
            if not self._words:
                block = c_void_p()
                self.driver("cuMemHostAlloc", ctypes.byref(block), _WORDS_BYTES, 0)
                start = block.value or 0
                self._words = list(range(start, start + _WORDS_BYTES, 8))
                self._word_blocks += 1
            return self._words.pop()

    # --- the small array framework ---

    def framework(self, speaks: str = "exchange_api", name: str | None = None) -> Framework:
        """Return an array framework over simulated memory, with current streams of its own.

        Parameters
        ----------
        speaks : str
            "exchange_api", "dlpack" or "cai": the one protocol its arrays offer.
        name : str, optional
            Frameworks with different names are different, also if they speak the same.
        """
        key = name or speaks
        if key not in self._frameworks:
            self._frameworks[key] = Framework(self, speaks, key)
        return self._frameworks[key]

    def array(
        self,
        shape: int | Sequence[int],
        dtype: str = "float32",
        *,
        stream: SimStream | Sequence[SimStream] | None = None,
        speaks: str = "exchange_api",
        fill: float | None = None,
        device: int | None = None,
    ) -> SimArray:
        """Make an array whose pending work is on `stream`. See :meth:`Framework.array`."""
        return self.framework(speaks).array(shape, dtype, stream=stream, fill=fill, device=device)

    # --- beginning and ending ---

    def _begin(self) -> None:
        self.library.simcuda_reset(ctypes.byref(self._config))
        self.is_active = True

    def _end(self) -> None:
        self.is_active = False
        self.library.simcuda_reset(ctypes.byref(_driver.Config(devices=0)))
