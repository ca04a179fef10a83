"""jax's public import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.contract import Guarantees, require

label = "jax.dlpack.from_dlpack"
consumer = "jax"
producers = ("numpy", "torch", "jax", "tvm")
guarantees = Guarantees(
    values="no",
    ordering="yes",
    release="no",
    capture="no",
    why="takes what the producer's __dlpack__ gives, torch's neg bit included; jax's stream "
    "waits for the producer's, nothing is known to wait for jax's",
)


def setup() -> Callable[[Any], Any]:
    return require("jax.dlpack").from_dlpack
