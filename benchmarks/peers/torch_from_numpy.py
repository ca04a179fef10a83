"""torch's own way in from numpy; no DLPack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.contract import Guarantees, require

label = "torch.from_numpy"
consumer = "torch"
producers = ("numpy",)
guarantees = Guarantees(
    values="yes",
    ordering="host",
    release="host",
    capture="host",
    why="numpy's memory is the host's",
)


def setup() -> Callable[[Any], Any]:
    return require("torch").from_numpy
