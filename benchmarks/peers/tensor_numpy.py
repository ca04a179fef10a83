"""torch's own way out to numpy; no DLPack. It also pins the storage's size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.contract import Guarantees, require

label = "t.numpy()"
consumer = "numpy"
producers = ("torch",)
guarantees = Guarantees(
    values="yes",
    ordering="host",
    release="host",
    capture="host",
    why="refuses conj, neg, requires_grad and every device but the host",
)
call = "x.numpy()"
call_many = "[t.numpy() for t in x]"


def setup() -> Callable[[Any], Any]:
    return require("torch").Tensor.numpy
