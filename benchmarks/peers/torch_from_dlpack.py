"""torch's public import: asks ``__dlpack_device__``, passes its current stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.contract import Guarantees, require

label = "torch.from_dlpack"
consumer = "torch"
producers = ("numpy", "torch", "jax", "tvm")
guarantees = Guarantees(
    values="no",
    ordering="yes",
    release="no",
    capture="no",
    why="torch's __dlpack__ exports the neg bit raw; its deleter frees at once",
)


def setup() -> Callable[[Any], Any]:
    return require("torch").from_dlpack
