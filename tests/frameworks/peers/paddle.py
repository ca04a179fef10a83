"""paddle."""

from __future__ import annotations

import sys

import ml_dtypes
import numpy as np
import paddle
import pytest
from layouts import COMPLEX, FLOATS, INTEGERS, Peer

import dlexchange as dx

_DTYPES = ("bool", *INTEGERS, *FLOATS, *COMPLEX)
_STORED = {
    paddle.bfloat16: ml_dtypes.bfloat16,
    paddle.float8_e4m3fn: ml_dtypes.float8_e4m3fn,
    paddle.float8_e5m2: ml_dtypes.float8_e5m2,
}


def _read(x: paddle.Tensor) -> np.ndarray:
    values = x.numpy()
    return values.view(_STORED[x.dtype]) if x.dtype in _STORED else values


PEER = Peer(
    name="paddle",
    takes=(*_DTYPES, "bfloat16", "float8_e4m3fn", "float8_e5m2"),
    read=_read,
    address=lambda x: x.data_ptr(),
    make=paddle.to_tensor,
    makes=tuple(name for name in _DTYPES if name not in ("uint16", "uint32", "uint64")),
    views=lambda x: [x.T, x[1:, ::2], x[::-1], x[2]],
    keeps_read_only=False,
)


def test_tensors_that_require_grad_are_refused() -> None:
    x = paddle.to_tensor([1.0, 2.0])
    x.stop_gradient = False
    with pytest.raises(dx.ExchangeError, match="detach"):
        dx.from_dlpack(x)
    with pytest.raises(dx.ExchangeError, match="detach"):
        dx.from_dlpack(paddle.nn.Linear(2, 2).weight)
    assert dx.to_numpy(x.detach()).tolist() == [1.0, 2.0]


def test_sparse_tensors_are_refused() -> None:
    sparse = paddle.sparse.sparse_coo_tensor([[0, 1], [1, 2]], [1.0, 2.0], [3, 3])
    with pytest.raises(dx.ExchangeError, match="sparse"):
        dx.from_dlpack(sparse)


def test_imported_tensors_record_no_gradient() -> None:
    assert dx.convert(np.arange(3.0), "paddle").stop_gradient


def test_paddle_itself_leaks_memory_that_it_imports_twice_at_a_time() -> None:
    array = np.arange(6.0)
    before = sys.getrefcount(array)
    one, two = paddle.from_dlpack(array), paddle.from_dlpack(array)
    del one, two
    assert sys.getrefcount(array) == before + 1, "paddle lets go now: drop the adapter's note"
