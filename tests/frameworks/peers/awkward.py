"""awkward."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
from layouts import COMPLEX, FLOATS, INTEGERS, Peer

import dlexchange as dx

_DTYPES = ("bool", *INTEGERS, *FLOATS, *COMPLEX)

PEER = Peer(
    name="awkward",
    takes=_DTYPES,
    read=ak.to_numpy,
    address=lambda x: x.layout.data.__array_interface__["data"][0],
    make=ak.from_numpy,
    makes=_DTYPES,
    views=lambda x: [x[1:], x[:, 1:3], x[::2]],
    refuses=("scalar",),
)


def test_nested_regular_arrays_share_their_buffer() -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    nested = ak.from_numpy(array, regulararray=True)
    tensor = dx.from_dlpack(nested)
    assert tensor.shape == (2, 3, 4)
    assert tensor.data_ptr == array.ctypes.data
    assert dx.to_numpy(nested[1:]).tolist() == array[1:].tolist()


@pytest.mark.parametrize(
    "array",
    [
        ak.Array([[1, 2], [3]]),
        ak.Array([1, None]),
        ak.Array([{"x": 1}]),
        ak.Array(["ab", "cd"]),
        ak.to_regular(ak.Array([b"ab", b"cd"])),
        ak.Array(
            ak.contents.NumpyArray(np.frombuffer(b"ab", np.uint8), parameters={"__array__": "char"})
        ),
        ak.Array([]),
    ],
    ids=["ragged", "option", "record", "strings", "regular bytes", "characters", "untyped"],
)
def test_what_is_not_one_block_is_refused(array: ak.Array) -> None:
    with pytest.raises(dx.ExchangeError, match="not one strided block"):
        dx.from_dlpack(array)
