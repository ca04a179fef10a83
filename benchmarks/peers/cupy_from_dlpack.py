"""CuPy's public import; absent without a CUDA device, since it copies host memory to one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.contract import Absent, Guarantees, require

label = "cupy.from_dlpack"
consumer = "cupy"
producers = ("torch",)
guarantees = Guarantees(
    values="no",
    ordering="yes",
    release="no",
    capture="no",
    why="takes what the producer's __dlpack__ gives; a new event at each call",
)


def setup() -> Callable[[Any], Any]:
    cupy = require("cupy")
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise Absent(f"no CUDA device: {error}") from error
    if devices == 0:
        raise Absent("no CUDA device")
    return cupy.from_dlpack
