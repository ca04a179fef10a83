"""A real asynchronous device: SYCL's CPU (or whatever dpctl finds first), with dpnp."""

from __future__ import annotations

import ctypes
import importlib.util
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import dlexchange as dx
from dlexchange.stream import as_stream
from dlexchange.testing import drain

from .. import grounds
from . import N

SOURCE = """
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
    that waits for some other kernel, and helps out meanwhile, might take this one.
    """

    def __init__(self, kernel: Any, queue: Any) -> None:
        import dpctl.memory

        self.memory = dpctl.memory.MemoryUSMShared(64, queue=queue)
        self.word = (ctypes.c_int32 * 2).from_address(self.memory._pointer)
        self.word[0] = self.word[1] = 0
        event = queue.submit_async(kernel, [self.memory], [1], None, [])
        queue.submit_barrier([event])  # an out-of-order queue is held by that alone
        while not self.word[1]:
            pass

    def open(self) -> None:
        self.word[0] = 1


class Ground(grounds.Ground):
    name = "sycl"
    kinds = ("in_order", "out_of_order")

    @staticmethod
    def absent() -> str:
        if importlib.util.find_spec("dpnp") is None:
            return "dpnp is not installed (pip install 'dlexchange[sycl]')"
        import dpctl

        if not dpctl.get_devices():
            return "SYCL finds no device"
        if dpctl.SyclDevice().max_compute_units < 2:
            return "the latch's kernel needs a compute unit of its own, and the device has one"
        return ""

    def open(self) -> None:
        import dpctl
        import dpctl.program

        self.dpctl = dpctl
        queue = self.stream("in_order")
        program = dpctl.program.create_program_from_source(queue, SOURCE, "-cl-std=CL3.0")
        self.hold = program.get_sycl_kernel("hold")

    def close(self) -> None:
        drain()

    def stream(self, kind: str) -> Any:
        return self.dpctl.SyclQueue(property="in_order" if kind == "in_order" else 0)

    def named(self, stream: Any) -> Any:
        return as_stream(stream)

    def current(self, stream: Any) -> AbstractContextManager[Any]:
        return nullcontext()  # an array belongs to its stream

    def array(self, stream: Any, value: int) -> Any:
        import dpnp

        array = dpnp.full(N, value, dtype="int32", sycl_queue=stream)
        stream.wait()
        return array

    def latch(self, stream: Any) -> Latch:
        return Latch(self.hold, stream)

    def fill(self, array: Any, value: int, stream: Any) -> None:
        array.fill(value)

    def take(self, x: Any, stream: Any) -> Any:
        return dx.convert(x, "dpnp", stream=stream)

    def double(self, array: Any, stream: Any) -> Any:
        return array + array

    def read(self, array: Any, stream: Any) -> list[int]:
        import dpnp

        return list(dpnp.asnumpy(array).tolist())

    def bad_streams(self) -> list[tuple[Any, str]]:
        dpctl = self.dpctl
        device = dpctl.SyclDevice()
        part = device.create_sub_devices(partition=1)[0]
        alone = dpctl.SyclContext((device,))
        gone = dx.Stream.from_handle("oneapi:0", self.stream("in_order")).handle
        return [
            (dpctl.SyclQueue(part), "sub-device"),
            (dpctl.SyclQueue(alone, device), "context of its own"),
            (gone, "names no stream, or one that is gone"),
        ]
