"""Streams, events, graphs and latches of the simulated driver, for tests to hold on to."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_int32, c_uint32, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any

from dlexchange.testing.driver import HOST_FUNCTION, SimulatedDriverError

if TYPE_CHECKING:
    from dlexchange.testing.simulation import Simulation

LEGACY = 1
PER_THREAD = 2
CAPTURE_MODES = {"global": 0, "thread_local": 1, "relaxed": 2}
NOT_READY = 600
NON_BLOCKING = 1
DISABLE_TIMING = 2


def handle_of(stream: Any) -> int:
    """Return the driver's handle of a stream: of ours, or an integer as it is."""
    return stream if isinstance(stream, int) else int(stream.handle)


class _Owned:
    """A driver object with a handle, destroyed with the Python object or before."""

    _destroy = ""

    def __init__(self, sim: Simulation, handle: int, device: int) -> None:
        self.sim = sim
        self.handle = handle
        self.device = device

    def destroy(self) -> None:
        """Destroy the driver's object now; a second call does nothing."""
        if self.handle and self._destroy and self.sim.is_active:
            handle, self.handle = self.handle, 0
            with self.sim.on_device(self.device):
                self.sim.driver(self._destroy, handle)

    def __del__(self) -> None:
        try:
            self.destroy()
        except (SimulatedDriverError, TypeError, AttributeError):
            pass  # the context is in error, or the interpreter is going down

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.handle:#x} of simulated device {self.device}>"


class SimEvent(_Owned):
    """An event without timing."""

    _destroy = "cuEventDestroy_v2"

    def query(self) -> bool:
        """Say whether what the event marks is done, without blocking."""
        return self.sim.query("cuEventQuery", self.handle, self.device)

    def synchronize(self) -> None:
        """Block until what the event marks is done."""
        with self.sim.on_device(self.device):
            self.sim.driver("cuEventSynchronize", self.handle)


class SimGraph(_Owned):
    """A captured graph, instantiated at its first launch.

    Ownership
    ---------
    Objects that its nodes use, such as Python host functions, are kept with it.
    """

    _destroy = "cuGraphDestroy"

    def __init__(self, sim: Simulation, handle: int, device: int, kept: list[Any]) -> None:
        super().__init__(sim, handle, device)
        self._kept = kept
        self._executable = c_void_p()

    @property
    def node_count(self) -> int:
        """Number of nodes."""
        count = ctypes.c_size_t()
        self.sim.driver("cuGraphGetNodes", self.handle, None, ctypes.byref(count))
        return count.value

    def launch(self, stream: SimStream) -> None:
        """Put a run of the graph into a stream."""
        with self.sim.on_device(stream.device):
            if not self._executable:
                self.sim.driver(
                    "cuGraphInstantiateWithFlags",
                    ctypes.byref(self._executable),
                    self.handle,
                    0,
                )
            self.sim.driver("cuGraphLaunch", self._executable, stream.handle)

    def destroy(self) -> None:
        """Destroy graph and executable; runs under way go on."""
        if self._executable and self.sim.is_active:
            executable, self._executable = self._executable, c_void_p()
            self.sim.driver("cuGraphExecDestroy", executable)
        super().destroy()


class SimStream(_Owned):
    """A stream, or one of the two default streams (which are never destroyed).

    Has ``__cuda_stream__``, so it can be given wherever a stream is expected.
    """

    _destroy = "cuStreamDestroy_v2"

    def __init__(self, sim: Simulation, handle: int, device: int) -> None:
        super().__init__(sim, handle, device)
        self._kept: list[Any] = []

    def destroy(self) -> None:
        """Destroy the stream now; what it holds still runs."""
        if self.handle > PER_THREAD:
            super().destroy()

    def __cuda_stream__(self) -> tuple[int, int]:
        """Return the protocol's version and the handle (HIP's number on HIP)."""
        return (0, self.sim.number_of(self))

    def record(self, event: SimEvent | None = None) -> SimEvent:
        """Record an event (a new one if none is given) behind what the stream holds."""
        event = event or self.sim.event(self.device)
        with self.sim.on_device(self.device):
            self.sim.driver("cuEventRecord", event.handle, self.handle)
        return event

    def wait(self, what: SimEvent | SimStream) -> None:
        """Make later work of this stream wait for an event, or for a stream as it is now."""
        event = what.record() if isinstance(what, SimStream) else what
        with self.sim.on_device(self.device):
            self.sim.driver("cuStreamWaitEvent", self.handle, event.handle, 0)

    def query(self) -> bool:
        """Say whether the stream is idle, without blocking."""
        return self.sim.query("cuStreamQuery", self.handle, self.device)

    def synchronize(self) -> None:
        """Block until the stream is idle."""
        with self.sim.on_device(self.device):
            self.sim.driver("cuStreamSynchronize", self.handle)

    @property
    def submitted(self) -> int:
        """How many operations were submitted so far, whoever did."""
        return int(self.sim.library.simcuda_submitted(self.device, self.handle))

    def host_function(self, function: Callable[[], object]) -> None:
        """Run a Python function in stream order, on the driver's thread, under its lock.

        The function must not call the driver, and deadlocks with a thread that holds the GIL
        and does: exactly as on a device.
        """
        body = HOST_FUNCTION(lambda _user: function() and None)
        self._kept.append(body)
        with self.sim.on_device(self.device):
            self.sim.driver("cuLaunchHostFunc", self.handle, body, None)

    def begin_capture(self, mode: str = "global") -> None:
        """Begin a capture: "global", "thread_local" or "relaxed"."""
        with self.sim.on_device(self.device):
            self.sim.driver("cuStreamBeginCapture_v2", self.handle, c_uint32(CAPTURE_MODES[mode]))

    def end_capture(self) -> SimGraph:
        """End the capture and return its graph."""
        graph = c_void_p()
        with self.sim.on_device(self.device):
            self.sim.driver("cuStreamEndCapture", self.handle, ctypes.byref(graph))
        return SimGraph(self.sim, graph.value or 0, self.device, self._kept)

    @property
    def capture_status(self) -> str:
        """What ``cuStreamIsCapturing`` says: "none", "active" or "invalidated"."""
        status = c_int32()
        with self.sim.on_device(self.device):
            self.sim.driver("cuStreamIsCapturing", self.handle, ctypes.byref(status))
        return ("none", "active", "invalidated")[status.value]

    @property
    def is_capturing(self) -> bool:
        """Whether a capture that is still valid is under way."""
        return self.capture_status == "active"

    @contextmanager
    def capture(self, mode: str = "global") -> Iterator[list[SimGraph]]:
        """Capture the body; the list holds the graph afterwards."""
        graphs: list[SimGraph] = []
        self.begin_capture(mode)
        yield graphs
        graphs.append(self.end_capture())


class SimLatch:
    """Holds a stream: nothing submitted to it later runs before :meth:`open`.

    Made of the driver API alone, a wait for the value of a pinned word, so that the same test
    can hold a stream of a real device.
    """

    def __init__(self, sim: Simulation, stream: SimStream | int, device: int) -> None:
        self._sim = sim
        with sim.on_device(device), sim.relaxed():
            address = sim.pinned_word()
            self._word = c_uint32.from_address(address)
            self._word.value = 0
            sim.driver("cuStreamWaitValue32_v2", handle_of(stream), c_uint64(address), 1, 0)

    @property
    def is_open(self) -> bool:
        """Whether the stream has been let go."""
        return self._word.value == 1

    def open(self) -> None:
        """Let the stream go. Needs no driver call, from any thread."""
        self._word.value = 1
        self._sim._closed.discard(self)
        self._sim.library.simcuda_poke()

    def __enter__(self) -> SimLatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
