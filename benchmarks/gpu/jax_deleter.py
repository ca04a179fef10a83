"""When does jax run the deleter of foreign memory: at once, or after the work that reads it?

A capsule made by hand is given to jax, a long computation of jax reads it, and every Python
reference is dropped while that runs. Seen is what comes first, the deleter or the computation's
end. ``python -m benchmarks.gpu.jax_deleter [cpu]`` prints one line of JSON.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from typing import Any

from dlexchange.testing import dlpack_structs as dl

SIZE = 2048
REPEATS = {"cpu": 6, "gpu": 200}
#: Nearer than this part of the whole wait, the deleter came with the computation's end.
NEAR = 0.05
CPU, CUDA = 1, 2


class Foreign:
    """Memory with a deleter that notes when, and on which thread, it ran."""

    def __init__(self, address: int, device_type: int, shape: tuple[int, ...]) -> None:
        self.deleted_at = 0
        self._shape = (ctypes.c_int64 * len(shape))(*shape)
        self._managed = dl.Managed(deleter=dl.DELETER(self._note))
        tensor = self._managed.tensor
        tensor.data, tensor.device_type, tensor.ndim = address, device_type, len(shape)
        tensor.code, tensor.bits, tensor.lanes = dl.CODES["float"], 32, 1
        tensor.shape = ctypes.cast(self._shape, type(tensor.shape))

    def _note(self, _managed: int) -> None:
        self.deleted_at = time.perf_counter_ns()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._managed.tensor.device_type, 0

    def __dlpack__(self, **_: Any) -> Any:
        return dl.capsule_new(ctypes.addressof(self._managed), dl.LEGACY, dl.no_destructor)


def memory(kind: str) -> tuple[Any, int]:
    """An owner of SIZE x SIZE floats, and its address."""
    if kind == "cpu":
        import numpy as np

        raw = np.zeros(SIZE * SIZE * 4 + 64, np.uint8)
        return raw, raw.ctypes.data + -raw.ctypes.data % 64
    import torch

    owner = torch.zeros(SIZE, SIZE, device="cuda")
    torch.cuda.synchronize()
    return owner, owner.data_ptr()


def ask(kind: str) -> dict[str, Any]:
    """Run the experiment on "cpu" or "gpu"."""
    import jax

    device = jax.local_devices(backend=kind)[0]
    owner, address = memory(kind)

    def work(x: Any) -> Any:
        return jax.lax.fori_loop(0, REPEATS[kind], lambda _, y: (y @ x) * 0.5, x)

    compiled = jax.jit(work)
    compiled(jax.device_put(jax.numpy.ones((SIZE, SIZE)), device)).block_until_ready()
    foreign = Foreign(address, CPU if kind == "cpu" else CUDA, (SIZE, SIZE))
    x = jax.dlpack.from_dlpack(foreign)
    shared = x.unsafe_buffer_pointer() == address
    result = compiled(x)
    del x
    gc.collect()
    dropped_at, pending = time.perf_counter_ns(), not result.is_ready()
    at_once = foreign.deleted_at != 0
    result.block_until_ready()
    ready_at = time.perf_counter_ns()
    end = time.monotonic() + 5
    while not foreign.deleted_at and time.monotonic() < end:
        gc.collect()
    del owner
    return {
        "id": "jax-deleter",
        "asks": "When does jax run the deleter of foreign memory?",
        "device": device.device_kind,
        "answer": _in_words(shared, pending, at_once, foreign.deleted_at, dropped_at, ready_at),
        "ns_from_drop_to_deleter": foreign.deleted_at and foreign.deleted_at - dropped_at,
        "ns_from_drop_to_result": ready_at - dropped_at,
        "jax": jax.__version__,
    }


def _in_words(
    shared: bool, pending: bool, at_once: bool, deleted: int, dropped: int, ready: int
) -> str:
    if not shared:
        return "not seen: jax copied the memory"
    if not pending:
        return "not seen: the computation was over before the array was dropped"
    if not deleted:
        return "not within 5 s after the work that reads it"
    if at_once:
        return "at once, while the work that reads it is pending"
    if ready - deleted > NEAR * (ready - dropped):
        return "before the work that reads it is done"
    return "when the work that reads it is done"


if __name__ == "__main__":
    print("result: " + json.dumps(ask("cpu" if "cpu" in sys.argv[1:] else "gpu")))
