"""apache-tvm-ffi."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tvm_ffi
from layouts import COMPLEX, FLOATS, INTEGERS, Peer

import dlexchange as dx

_DTYPES = ("bool", *INTEGERS, *FLOATS, *COMPLEX, "bfloat16", "float8_e4m3fn", "float8_e5m2")

PEER = Peer(
    name="tvm_ffi",
    takes=_DTYPES,
    read=dx.to_numpy,
    address=lambda x: x.data_ptr(),
    make=tvm_ffi.from_dlpack,
    makes=("bool", *INTEGERS, *FLOATS, *COMPLEX),
    keeps_read_only=False,
)


def test_conjugated_tensors_do_not_arrive_raw() -> None:
    torch = pytest.importorskip("torch", reason="absent: torch is not installed")
    x = torch.tensor([1 + 2j, 3 + 4j]).conj()
    with pytest.raises(dx.ExchangeError, match="conjugate"):
        dx.convert(x, "tvm_ffi")
    ours = dx.convert(x, "tvm_ffi", copy=True)
    assert np.from_dlpack(ours).tolist() == x.tolist()


def test_padded_values_below_a_byte_are_refused() -> None:
    # tvm_ffi ignores the flag that says so, and would show other values.
    with pytest.raises(dx.ExchangeError, match="one element a byte"):
        dx.convert(np.ones(3, ml_dtypes.int4), "tvm_ffi")
