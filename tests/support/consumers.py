"""The ways out of the library, each as one function of a producer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm_ffi

import dlexchange as dx

from .peers import torch

#: name -> hand-off. Each returns an object of the consumer.
CONSUMERS: dict[str, Callable[..., Any]] = {
    "tensor": dx.from_dlpack,
    "numpy": dx.to_numpy,
    "torch": dx.to_torch,
    "jax": dx.to_jax,
    "tvm_ffi": lambda x, **keywords: dx.convert(x, "tvm_ffi", **keywords),
    "array_api_strict": lambda x, **keywords: dx.convert(x, "array_api_strict", **keywords),
}


def values(result: Any) -> Any:
    """Read what a consumer made, by its own means, as (nested lists of) numbers."""
    if isinstance(result, tvm_ffi.Tensor):
        return np.from_dlpack(result).tolist()
    if isinstance(result, torch.Tensor):
        return result.tolist()
    return np.asarray(result).tolist()
