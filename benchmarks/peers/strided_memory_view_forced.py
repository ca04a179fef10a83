"""cuda.core's private torch bridge, forced: as shipped it is not taken on this torch.

It reads torch's object layout through torch's stable C ABI; the symbols must be made
visible to the whole process first, which no library should do to its user.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers.contract import Guarantees, require

label = "cuda.core bridge, forced"
consumer = "tensor"
producers = ("torch",)
guarantees = Guarantees(
    values="no",
    ordering="caller",
    release="no",
    capture="no",
    why="reads torch's raw fields, conj and neg bits unseen; no order asked here (-1)",
)
call = "f(x, -1)"
call_many = "[f(t, -1) for t in x]"


def setup() -> Callable[[Any], Any]:
    torch = require("torch")
    require("cuda.core.utils")
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    return require("cuda.core._tensor_bridge").view_as_torch_tensor
