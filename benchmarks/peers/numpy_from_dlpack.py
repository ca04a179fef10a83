"""numpy's public import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.contract import Guarantees, require

label = "np.from_dlpack"
consumer = "numpy"
producers = ("numpy", "torch", "jax", "tvm")
guarantees = Guarantees(
    values="no",
    ordering="host",
    release="host",
    capture="host",
    why="takes what the producer's __dlpack__ gives, torch's neg bit included",
)


def setup() -> Callable[[Any], Any]:
    return require("numpy").from_dlpack
