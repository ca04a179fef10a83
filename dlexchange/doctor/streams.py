"""The stream demonstration: a hand-off between two streams, with the push and without it.

Runs in a child process on the driver API itself, through ctypes: the same calls on a GPU and,
where there is none, on the simulated CUDA driver, which is always called simulated.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

__all__ = ["Outcome", "demonstrate"]

OLD, NEW = 1, 7
GREATER_OR_EQUAL = 0


class Outcome(NamedTuple):
    """What the demonstration saw."""

    device: str
    """The GPU, or "simulated CUDA driver"."""
    returned_while_closed: bool
    """The hand-off returned although the producer's stream was held."""
    consumer_waited: bool
    """The consumer's stream had not run before the latch was opened."""
    unrelated_finished: bool
    """Another stream finished meanwhile: nothing was synchronised device-wide."""
    with_push: int
    """What the consumer read with the push; 7 is right."""
    without_push: int
    """What it read with ``stream=-1``; 1 is stale."""
    why: str = ""
    """Why there is no outcome."""

    @property
    def is_right(self) -> bool:
        """True where the push gave the right value and its absence the stale one."""
        seen = self.returned_while_closed and self.consumer_waited and self.unrelated_finished
        return seen and (self.with_push, self.without_push) == (NEW, OLD)


def demonstrate(limit_s: float = 60.0) -> Outcome:
    """Run the demonstration in a child process."""
    command = [sys.executable, "-c", f"from {__name__} import run; run()"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return Outcome("", False, False, False, -1, -1, f"no answer within {limit_s:g} s")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return Outcome("", False, False, False, -1, -1, last)
    return Outcome(**json.loads(done.stdout))


# ---- in the child ----------------------------------------------------------------------


class _Driver:
    """The few driver calls that the demonstration makes beside the library's own."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)

    def __call__(self, name: str, *args: Any) -> None:
        status = getattr(self._library, name)(*args)
        if status != 0:
            raise RuntimeError(f"{name} failed with status {status}")

    def pinned(self) -> ctypes.c_uint32:
        """Four bytes of pinned memory, at one address for host and device."""
        address = ctypes.c_void_p()
        self("cuMemHostAlloc", ctypes.byref(address), ctypes.c_size_t(4), 3)
        word = ctypes.c_uint32.from_address(address.value or 0)
        word.value = 0
        return word

    def is_done(self, stream: Any) -> bool:
        return bool(self._library.cuStreamQuery(ctypes.c_void_p(stream.handle)) == 0)


class _Produced:
    """One integer in device memory, shown by the CUDA Array Interface."""

    def __init__(self, address: int, stream: Any) -> None:
        self.__cuda_array_interface__ = {
            "shape": (1,),
            "typestr": "<i4",
            "data": (address, False),
            "strides": None,
            "stream": stream.handle,
            "version": 3,
        }


@contextmanager
def _device() -> Iterator[tuple[str, _Driver]]:
    """Open the GPU, or the simulated driver where there is none."""
    from .. import _core

    try:
        _core._driver_load(2)
        has_gpu = True
    except (BufferError, RuntimeError):
        has_gpu = False
    if not has_gpu:
        from ..testing import simulated_cuda

        with simulated_cuda(policy="lazy") as simulation:
            simulation.set_device(0)
            _core._driver_load(2)
            yield "simulated CUDA driver", _Driver(_core._driver_info(2)["library"])
        return
    driver = _Driver(_core._driver_info(2)["library"])
    context, name = ctypes.c_void_p(), ctypes.create_string_buffer(100)
    driver("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
    driver("cuCtxSetCurrent", context)
    driver("cuDeviceGetName", name, 100, 0)
    simulated = _core._driver_info(2)["is_simulated"]
    yield "simulated CUDA driver" if simulated else name.value.decode(), driver


def _hand_off(driver: _Driver, memory: int, *, push: bool) -> tuple[bool, bool, bool, int]:
    """Write on one stream behind a closed latch, hand over, read on another stream."""
    import dlexchange as dx

    producer, consumer, unrelated = (dx.Stream.create("cuda:0") for _ in range(3))
    latch, seen = driver.pinned(), driver.pinned()
    at, on = ctypes.c_uint64(memory), ctypes.c_void_p

    driver("cuMemsetD32Async", at, OLD, ctypes.c_size_t(1), on(producer.handle))
    producer.synchronize()
    gate = ctypes.c_uint64(ctypes.addressof(latch))
    driver("cuStreamWaitValue32_v2", on(producer.handle), gate, 1, GREATER_OR_EQUAL)
    driver("cuMemsetD32Async", at, NEW, ctypes.c_size_t(1), on(producer.handle))

    tensor = dx.from_dlpack(_Produced(memory, producer))
    capsule = tensor.__dlpack__(stream=consumer.handle if push else -1, max_version=(1, 3))
    returned = latch.value == 0

    target = ctypes.c_void_p(ctypes.addressof(seen))
    driver("cuMemcpyDtoHAsync_v2", target, at, ctypes.c_size_t(4), on(consumer.handle))
    spare = ctypes.c_uint64(memory + 256)
    driver("cuMemsetD32Async", spare, 0, ctypes.c_size_t(1), on(unrelated.handle))
    unrelated.synchronize()
    finished = driver.is_done(unrelated)
    if not push:
        consumer.synchronize()  # nothing holds it: it reads what is there
    waited = not driver.is_done(consumer) and seen.value == 0
    latch.value = 1
    consumer.synchronize()
    producer.synchronize()
    del capsule, tensor
    return returned, waited, finished, seen.value


def run() -> None:
    """Run here, and print the outcome as JSON."""
    with _device() as (name, driver):
        memory = ctypes.c_uint64()
        driver("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(512))
        returned, waited, finished, right = _hand_off(driver, memory.value, push=True)
        *_, stale = _hand_off(driver, memory.value, push=False)
    outcome = Outcome(name, returned, waited, finished, right, stale)
    print(json.dumps(outcome._asdict()))
