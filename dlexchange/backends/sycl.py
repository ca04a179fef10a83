"""SYCL (kDLOneAPI) through dpctl: queues are streams, barriers are events.

A barrier's event completes when all that was in the queue before it has; a barrier that
depends on an event holds the kernels that come behind it. Both are so for out-of-order
queues as for in-order ones. Copies by ``memcpy`` are another matter: on an out-of-order
queue the runtime (2026.2, OpenCL) does not hold them behind a barrier. dpnp's own get the
event through dpctl's order manager, on which nothing else here relies, since it differs
between releases and is shared between threads; ``queue.memcpy_async`` of one's own must be
given its events.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import StreamError
from .waiter import call_when

__all__ = ["SyclBackend", "Usm", "is_installed", "show_cpu"]


def is_installed() -> bool:
    """Tell whether dpctl can be imported."""
    return "dpctl" in sys.modules or importlib.util.find_spec("dpctl") is not None


def show_cpu() -> None:
    """Let SYCL find the CPU device of ``intel-opencl-rt``, whose wheel does not say it.

    The runtime reads the variable when it first looks for devices, so importing dlexchange
    before or after dpnp will do. A setting of the user's stays.
    """
    if "OCL_ICD_FILENAMES" in os.environ:
        return
    for folder in sys.path:
        if folder.endswith("site-packages"):  # <prefix>/lib/pythonX.Y/site-packages
            library = Path(folder).parent.parent / "libintelocl.so"
            if library.exists():
                os.environ["OCL_ICD_FILENAMES"] = str(library)
                return


class SyclBackend:
    """`dlexchange.backends.StreamBackend` for ``dpctl.SyclQueue``."""

    device_type = 14
    name = "oneapi"

    def __init__(self) -> None:
        show_cpu()
        import dpctl
        import dpctl.utils

        self._order_managers = getattr(dpctl.utils, "SequentialOrderManager", None)
        self._queue = dpctl.SyclQueue
        self._complete = dpctl.event_status_type.complete
        self._callbacks: dict[Any, Any] = {}

    # ---- streams

    def device_of(self, stream: Any) -> int | None:
        """Return the root device's number; refuse what DLPack memory can not be used on."""
        if not isinstance(stream, self._queue):
            return None
        device = stream.sycl_device
        if device.parent_device is not None:
            raise StreamError(
                f"{stream!r} is of a sub-device of {device.name}: DLPack knows whole devices "
                "only; use a queue of the device itself"
            )
        if stream.sycl_context != device.sycl_platform.default_context:
            raise StreamError(
                f"{stream!r} has a context of its own, in which memory of the default context "
                "cannot be used: make it with dpctl.SyclQueue(device)"
            )
        return int(device.get_device_id())

    def default(self, device_id: int) -> Any:
        """Return the queue that dpctl and dpnp use where none is named."""
        import dpctl

        return dpctl.get_device_cached_queue(self._device(device_id))

    def create(self, device_id: int) -> Any:
        """Make an in-order queue: what is copied there comes behind what it waits for."""
        return self._queue(self._device(device_id), property="in_order")

    @staticmethod
    def _device(device_id: int) -> Any:
        import dpctl

        try:
            return dpctl.SyclDevice(str(device_id))
        except Exception as error:
            raise StreamError(
                f"SYCL has no device {device_id} (see dpctl.get_devices())"
            ) from error

    # ---- events

    def record(self, stream: Any) -> Any:
        """Submit a barrier behind everything."""
        return stream.submit_barrier()

    def wait(self, stream: Any, event: Any) -> None:
        """Submit a barrier that depends on the event; tell dpnp's copies of it, too."""
        barrier = stream.submit_barrier([event])
        if self._order_managers is not None and not stream.is_in_order:
            self._order_managers[stream].add_event_pair(barrier, barrier)

    def query(self, event: Any) -> bool:
        """Ask for the event's execution status."""
        return bool(event.execution_status == self._complete)

    def synchronize(self, event: Any) -> None:
        """Wait in the runtime, which releases the GIL."""
        event.wait()

    def notify(self, event: Any, done: Callable[..., object]) -> None:
        """Queue a host task behind the event, in an out-of-order queue that is only ours.

        dpctl has no host tasks of one's own, but one that lets go of an object; dpnp uses it
        for the arguments of each kernel. Where a release has it no more, a thread waits.
        """
        keep = getattr(self._queue, "_submit_keep_args_alive", None)
        if keep is None:
            call_when(event.wait, done)
        else:
            keep(self._callback_queue(event), (_OnRelease(done),), [event])

    def _callback_queue(self, event: Any) -> Any:
        queue = self._callbacks.get(0)
        if queue is None:
            queue = self._callbacks.setdefault(0, self._queue(self._device(0)))
        return queue

    # ---- memory

    def copy_to_host(self, stream: Any, address: int, destination: memoryview) -> None:
        """Copy with the runtime's own ``memcpy``."""
        stream.memcpy_async(
            destination, self._memory(address, len(destination), stream), len(destination)
        )

    def is_host_accessible(self, device_id: int, address: int) -> bool:
        """Shared and host USM can be read by the host; device USM can not, by SYCL's rules."""
        usm = self._memory(address, 1, self.default(device_id))
        return usm.get_usm_type() in ("shared", "host")

    @staticmethod
    def _memory(address: int, nbytes: int, queue: Any) -> Any:
        import dpctl.memory

        try:
            return dpctl.memory.as_usm_memory(Usm(address, nbytes, queue))
        except ValueError as error:
            raise StreamError(
                f"the memory at {address:#x} is not of the default context of "
                f"{queue.sycl_device.name}, to which DLPack's memory belongs"
            ) from error


class _OnRelease:
    """Calls a function when it is let go of."""

    __slots__ = ("done",)

    def __init__(self, done: Callable[..., object]) -> None:
        self.done = done

    def __del__(self) -> None:
        self.done()


class Usm:
    """Some bytes of USM memory, as dpctl reads them; whoever does keeps the owner alive."""

    def __init__(self, address: int, nbytes: int, queue: Any, owner: Any = None) -> None:
        self.owner = owner
        self.__sycl_usm_array_interface__ = {
            "data": (address, False),
            "shape": (nbytes,),
            "strides": None,
            "typestr": "|u1",
            "version": 1,
            "syclobj": queue,
        }
