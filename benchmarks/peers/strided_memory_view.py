"""cuda.core's view as shipped: ``StridedMemoryView.from_dlpack`` without ordering (-1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.contract import Guarantees, require

label = "cuda.core StridedMemoryView"
consumer = "tensor"
producers = ("numpy", "torch", "jax", "tvm")
guarantees = Guarantees(
    values="no",
    ordering="caller",
    release="no",
    capture="no",
    why="orders where a stream is given (here -1: none); torch's neg bit comes through raw",
)
call = "f(x, stream_ptr=-1)"
call_many = "[f(t, stream_ptr=-1) for t in x]"


def setup() -> Callable[[Any], Any]:
    return require("cuda.core.utils").StridedMemoryView.from_dlpack
