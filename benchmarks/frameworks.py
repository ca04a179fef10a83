"""The frameworks of the suite: which are here, how to make their arrays, what they show."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

PRODUCERS = ("numpy", "torch", "jax", "tvm")
CONSUMERS = ("tensor", "numpy", "torch", "jax")
_PACKAGES = {"numpy": "numpy", "torch": "torch", "jax": "jax", "tvm": "tvm_ffi"}


@cache
def has(framework: str) -> bool:
    """Whether `framework` can be imported; ``"tensor"`` is ours and always here."""
    return framework == "tensor" or importlib.util.find_spec(_PACKAGES[framework]) is not None


@dataclass(frozen=True)
class Source:
    """One array to hand over, and what keeps its ownership state."""

    array: Any
    address: int
    values: Any  # numpy
    alias: Any = None  # a second C++ owner of a torch tensor


def numpy_array(nbytes: int) -> Any:
    """float32, counting up, on a 64-byte border: jax copies what lies elsewhere."""
    import numpy as np

    memory = np.empty(nbytes + 64, dtype=np.uint8)
    offset = -memory.ctypes.data % 64
    array = memory[offset : offset + nbytes].view(np.float32)
    array[:] = np.arange(array.size, dtype=np.float32)
    return array


def strided_array() -> Any:
    """A 4-d float32 view with holes and permuted axes."""
    base = numpy_array(4 * 4 * 6 * 8 * 10).reshape(4, 6, 8, 10)
    return base[::2, 1:, ::2, ::3].transpose(3, 1, 0, 2)


def from_numpy(producer: str, array: Any) -> Any:
    """The `producer`'s own array with these values; shares no memory with a numpy array
    that anybody else holds, and keeps its strides (jax has none)."""
    if producer == "numpy":
        return array
    if producer == "torch":
        import torch

        flat = torch.empty(array.base.nbytes // 4 + 16)
        view = flat.as_strided(array.shape, [s // array.itemsize for s in array.strides])
        view.copy_(torch.from_numpy(array))
        return view if array.ndim > 1 else view.clone()
    if producer == "jax":
        import jax
        import jax.numpy as jnp

        with jax.default_device(jax.devices("cpu")[0]):
            return jnp.array(array, copy=True).block_until_ready()
    if producer == "tvm":
        import tvm_ffi

        return tvm_ffi.from_dlpack(array)
    raise ValueError(f"no producer {producer!r}; known: {', '.join(PRODUCERS)}")


def make_source(producer: str, make: Callable[[], Any], *, aliased: bool = False) -> Source:
    """An array of `producer`. A torch tensor has one owner, or with `aliased` two."""
    values = make()
    array = from_numpy(producer, values)
    alias = None
    if producer == "torch":
        import torch

        alias = torch.utils.dlpack.to_dlpack(array) if aliased else None
        owners = array._use_count()
        if (owners > 1) != aliased:
            raise AssertionError(f"the tensor has {owners} owners; aliased={aliased}")
    return Source(array, address_of(array), values.copy(), alias)


def address_of(x: Any) -> int:
    """Address of element zero, asked of the framework itself."""
    if hasattr(x, "unsafe_buffer_pointer"):
        return x.unsafe_buffer_pointer()
    if hasattr(x, "ctypes"):
        return x.ctypes.data
    for name in ("data_ptr", "ptr"):
        found = getattr(x, name, None)
        if found is not None:
            return found() if callable(found) else found
    raise TypeError(f"no way to ask {type(x).__name__} for its address")


def show(x: Any) -> Any:
    """The values as numpy, by the framework's own public means; None if it has none."""
    import numpy as np

    module = type(x).__module__.partition(".")[0]
    if module in ("numpy", "jaxlib"):
        return np.asarray(x)
    if module == "torch":
        return x.resolve_conj().resolve_neg().numpy()
    if hasattr(x, "__dlpack__"):
        return np.from_dlpack(x)
    return None
