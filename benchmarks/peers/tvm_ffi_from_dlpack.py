"""tvm-ffi's import: torch through the C exchange API, others through ``__dlpack__()``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.contract import Guarantees, require

label = "tvm_ffi.from_dlpack"
consumer = "tensor"
producers = ("numpy", "torch", "jax", "tvm")
guarantees = Guarantees(
    values="no",
    ordering="no",
    release="no",
    capture="no",
    why="torch's C exchange API exports conj and neg raw; __dlpack__ is asked without a stream",
)


def setup() -> Callable[[Any], Any]:
    return require("tvm_ffi").from_dlpack
