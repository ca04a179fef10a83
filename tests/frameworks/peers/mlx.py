"""mlx."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from layouts import INTEGERS, Peer

import dlexchange as dx


def _read(x: mx.array) -> np.ndarray:
    if x.dtype == mx.bfloat16:
        return np.array(x.astype(mx.float32))
    return np.array(x)


PEER = Peer(
    name="mlx",
    takes=("bool", *INTEGERS, "float16", "float32", "float64", "bfloat16", "complex64"),
    read=_read,
    address=lambda x: dx.from_dlpack(x).data_ptr,
    make=mx.array,
    makes=("bool", *INTEGERS, "float16", "float32", "complex64"),
    views=lambda x: [x.T, x[1:, ::2], x[::-1], x[2]],
    always_copies=True,
)


def test_float64_is_not_rounded() -> None:
    array = np.array([0.1, 1e300])
    ours = dx.convert(array, "mlx")
    assert ours.dtype == mx.float64
    assert ours.tolist() == array.tolist()
    assert mx.from_dlpack(array).dtype == mx.float32, "mlx keeps float64 now: simplify"


def test_complex128_is_not_rounded() -> None:
    with pytest.raises(dx.ExchangeError, match="complex128"):
        dx.convert(np.array([1 + 2j]), "mlx")


def test_lazy_work_is_done_before_the_export() -> None:
    x = mx.arange(6) * 2 + 1
    assert dx.to_numpy(x).tolist() == [1, 3, 5, 7, 9, 11]
