"""The suite's hands on SYCL, through dpctl: memory, and queues that a latch holds."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from .fakes import HostMemory

__all__ = ["Latch", "Sycl"]

_HOLD = """
kernel void hold(global int *word) {
    atomic_store_explicit((global atomic_int *)(word + 1), 1, memory_order_release,
                          memory_scope_all_svm_devices);
    for (long i = 0; i < 100000000000L; i++)
        if (atomic_load_explicit((global atomic_int *)word, memory_order_acquire,
                                 memory_scope_all_svm_devices) != 0)
            return;
}
"""


class Latch:
    """A kernel that spins until a word of shared memory is set.

    It has begun when this returns, in a thread of the runtime's. Otherwise a host thread
    that waits for some other kernel, and helps out meanwhile, might take this one. The device
    needs a compute unit for it alone.

    Attributes
    ----------
    event : dpctl.SyclEvent
        Of the kernel.
    """

    def __init__(self, queue: Any) -> None:
        import dpctl.memory

        self._memory = dpctl.memory.MemoryUSMShared(64, queue=queue)
        self._word = (ctypes.c_int32 * 2).from_address(self._memory._pointer)
        self._word[0] = self._word[1] = 0
        self.event = queue.submit_async(_kernel(), [self._memory], [1], None, [])
        queue.submit_barrier([self.event])  # an out-of-order queue is held by that alone
        while not self._word[1]:
            pass

    def open(self) -> None:
        """Let the queue go."""
        self._word[0] = 1


@functools.cache
def _kernel() -> Any:
    import dpctl.program

    program = dpctl.program.create_program_from_source(dpctl.SyclQueue(), _HOLD, "-cl-std=CL3.0")
    return program.get_sycl_kernel("hold")


class _SharedMemory(HostMemory):
    """Zeroed shared memory of a queue's device."""

    def __init__(self, queue: Any, nbytes: int, misalign: int = 0) -> None:
        import dpctl.memory

        self._usm = dpctl.memory.MemoryUSMShared(nbytes + misalign, queue=queue)
        self.address = self._usm._pointer + misalign
        self.nbytes = nbytes
        ctypes.memset(self.address, 0, nbytes)


class Sycl:
    """What checks do on the device that dpctl finds first."""

    def queue(self) -> Any:
        """A new queue."""
        import dpctl

        return dpctl.SyclQueue()

    def memory(self, nbytes: int, misalign: int = 0) -> HostMemory:
        """Zeroed memory that device and host may use."""
        return _SharedMemory(self.queue(), nbytes, misalign)

    def foreign_memory(self, nbytes: int, misalign: int = 0) -> HostMemory:
        """The same of a context that is not the default one."""
        import dpctl

        device = dpctl.SyclDevice()
        queue = dpctl.SyclQueue(dpctl.SyclContext((device,)), device)
        return _SharedMemory(queue, nbytes, misalign)

    def latch(self) -> Any:
        """Something that queues can be made to wait for; None where the device is too small."""
        queue = self.queue()
        return Latch(queue) if queue.sycl_device.max_compute_units > 1 else None

    def order(self, latch: Any, queue: Any) -> None:
        """Make later work of a queue wait for a latch."""
        queue.submit_barrier([latch.event])

    def is_held(self, queue: Any) -> bool:
        """Whether new work of a queue waits, even when that of another has run a while."""
        import dpctl

        mark, other = queue.submit_barrier(), self.queue()
        for _ in range(100):
            other.submit_barrier().wait()
        return bool(mark.execution_status != dpctl.event_status_type.complete)
