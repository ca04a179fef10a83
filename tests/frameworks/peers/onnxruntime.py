"""onnxruntime: OrtValue."""

from __future__ import annotations

import gc

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest
from layouts import FLOATS, INTEGERS, Peer

import dlexchange as dx

_DTYPES = ("bool", *INTEGERS, *FLOATS)


def _read(x: ort.OrtValue) -> np.ndarray:
    return dx.to_numpy(x) if x.data_type() == "tensor(bfloat16)" else x.numpy()


PEER = Peer(
    name="onnxruntime",
    takes=(*_DTYPES, "bfloat16"),
    read=_read,
    address=lambda x: x.data_ptr(),
    make=ort.OrtValue.ortvalue_from_numpy,
    makes=_DTYPES,
    keeps_read_only=False,
)


def test_a_value_over_numpy_memory_keeps_it_alive() -> None:
    # onnxruntime's own capsule keeps neither the value nor the numpy array: reading what it
    # exports after both are gone crashes.
    value = ort.OrtValue.ortvalue_from_numpy(np.arange(1 << 20, dtype=np.float64))
    ours = dx.to_numpy(value)
    del value
    gc.collect()
    _ = [np.full(1 << 20, -1.0) for _ in range(4)]
    assert ours[:3].tolist() == [0.0, 1.0, 2.0]
    assert ours[-1] == (1 << 20) - 1


def test_bool_stays_bool() -> None:
    value = ort.OrtValue.ortvalue_from_numpy(np.array([True, False]))
    assert dx.from_dlpack(value).dtype.name == "bool"


@pytest.mark.parametrize(
    ("number", "dtype"), [(16, "bfloat16"), (17, "float8_e4m3fn"), (19, "float8_e5m2")]
)
def test_dtypes_that_numpy_lacks(number: int, dtype: str) -> None:
    stored = np.arange(5).astype(getattr(ml_dtypes, dtype))
    bits = stored.view(f"u{stored.itemsize}")
    value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, number)
    tensor = dx.from_dlpack(value)
    assert tensor.dtype.name == dtype
    assert dx.to_numpy(tensor).tobytes() == stored.tobytes()


def test_a_read_only_array_behind_a_value_stays_read_only() -> None:
    array = np.arange(3.0)
    array.flags.writeable = False
    assert dx.from_dlpack(ort.OrtValue.ortvalue_from_numpy(array)).readonly


def test_sparse_values_are_refused() -> None:
    sparse = ort.SparseTensor.sparse_coo_from_numpy(
        np.array([3, 3], np.int64),
        np.array([1.0, 2.0]),
        np.array([0, 4], np.int64),
        ort.OrtDevice.make("cpu", 0),
    )
    with pytest.raises(dx.ExchangeError, match="dense"):
        dx.from_dlpack(ort.OrtValue.ort_value_from_sparse_tensor(sparse))
