"""Dr.Jit, on its LLVM backend."""

from __future__ import annotations

import drjit as dr
import drjit.llvm
import drjit.llvm.ad
import numpy as np
import pytest
from layouts import FLOATS, Peer

import dlexchange as dx

_TENSORS = {
    "float16": drjit.llvm.TensorXf16,
    "float32": drjit.llvm.TensorXf,
    "float64": drjit.llvm.TensorXf64,
    "int8": drjit.llvm.TensorXi8,
    "int32": drjit.llvm.TensorXi,
    "int64": drjit.llvm.TensorXi64,
    "uint8": drjit.llvm.TensorXu8,
    "uint32": drjit.llvm.TensorXu,
    "uint64": drjit.llvm.TensorXu64,
    "bool": drjit.llvm.TensorXb,
}
_DTYPES = tuple(_TENSORS)

PEER = Peer(
    name="drjit",
    takes=_DTYPES,
    read=lambda x: x.numpy(),
    address=lambda x: np.from_dlpack(x).__array_interface__["data"][0],
    make=lambda array: _TENSORS[array.dtype.name](array),
    makes=_DTYPES,
    keeps_read_only=False,
)


def test_work_in_flight_is_waited_for() -> None:
    x = dr.arange(drjit.llvm.Float, 1 << 18)
    for _ in range(20):
        x = dr.sin(x) + 1
    early = dx.to_numpy(x).copy()
    dr.sync_thread()
    assert early.tolist() == x.numpy().tolist()


def test_kernels_read_misaligned_memory_after_a_copy() -> None:
    raw = np.zeros(4 * 64 + 1, np.uint8)
    array = raw[1:].view(np.float32)
    array[...] = 3
    assert (dx.convert(array, "drjit") + 1).numpy().tolist() == [4.0] * 64
    with pytest.raises(dx.CopyError):
        dx.convert(array, "drjit", copy=False)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_type_of_another_dtype_is_refused(dtype: str) -> None:
    wrong = {"float16": "float32", "float32": "float64", "float64": "float16"}[dtype]
    with pytest.raises(dx.ExchangeError, match="refused"):
        dx.convert(np.zeros(3, dtype), _TENSORS[wrong])


def test_nested_arrays_arrive_component_by_component() -> None:
    nested = drjit.llvm.ad.Array3f([1, 2], [3, 4], [5, 6])
    assert dx.to_numpy(nested).tolist() == [[1, 2], [3, 4], [5, 6]]
