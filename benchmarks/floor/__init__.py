"""The floor of a pair: one C call that does the frameworks' own C calls and no more.

What it leaves out is what ours adds: guards of values (conj, neg, requires_grad), of
dtype and device, dispatch on the argument's type, streams, counters, several
interpreters. What it includes: managed export, import, and release.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import build

_HERE = Path(__file__).resolve().parent
_ABI = _HERE.parents[1] / "dlexchange" / "include"


@cache
def extension() -> ModuleType:
    """The compiled floor; `function` sets up the frameworks that it needs."""
    import numpy

    module = build.load_extension(
        "_floor",
        sorted(_HERE.glob("*.c")),
        [_ABI, Path(numpy.get_include())],
        depends=[_HERE / "floor.h", _ABI / "dlexchange" / "dlpack_abi.h"],
        stamp=numpy.__version__,
    )
    return module


@cache
def _set_up(framework: str) -> None:
    module = extension()
    if framework == "torch":
        import torch

        module.setup_torch(torch.Tensor.__dlpack_c_exchange_api__)
    elif framework == "jax":
        import jax
        from jax._src.lib import _jax

        module.setup_jax(
            _jax.ArrayImpl._fully_replicated_shard,
            _jax.buffer_to_dlpack_managed_tensor,
            _jax.dlpack_managed_tensor_to_buffer,
            jax.devices("cpu")[0],
        )
    elif framework == "cupy":
        from cupy._core import dlpack

        module.setup_cupy(dlpack.__pyx_capi__["_toDlpack"], dlpack.from_dlpack)
    elif framework == "tvm":
        import tvm_ffi

        module.setup_tvm(tvm_ffi.Tensor.__dlpack__)


def function(producer: str, consumer: str) -> Callable[[Any], Any]:
    """The floor of one pair; `consumer` may be ``"tensor"``, a neutral owner."""
    _set_up(producer)
    _set_up(consumer)
    return getattr(extension(), f"{producer}_to_{consumer}")
