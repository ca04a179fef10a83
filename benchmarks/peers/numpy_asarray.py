"""``np.asarray``: the ``__array__`` method of torch and jax (which keeps its answer)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.contract import Guarantees, require

label = "np.asarray"
consumer = "numpy"
producers = ("torch", "jax")
guarantees = Guarantees(
    values="yes",
    ordering="host",
    release="host",
    capture="host",
    why="jax copies a device's array and blocks the host; torch refuses it",
)


def setup() -> Callable[[Any], Any]:
    return require("numpy").asarray
