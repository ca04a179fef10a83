"""pyarrow."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from layouts import FLOATS, INTEGERS, Peer

import dlexchange as dx

PEER = Peer(
    name="pyarrow",
    takes=(*INTEGERS, *FLOATS),
    read=lambda x: x.to_numpy(),
    address=lambda x: x.to_numpy().__array_interface__["data"][0],
    make=pa.Tensor.from_numpy,
    makes=(*INTEGERS, *FLOATS),
)


def test_read_only_tensors_stay_read_only() -> None:
    array = np.arange(3.0)
    array.flags.writeable = False
    assert not dx.convert(array, "pyarrow").is_mutable
    assert dx.from_dlpack(pa.Tensor.from_numpy(array)).readonly


def test_arrays_cross_both_ways() -> None:
    array = pa.array([1, 2, 3, 4])[1:]
    tensor = dx.from_dlpack(array)
    assert tensor.readonly
    assert dx.to_numpy(array).tolist() == [2, 3, 4]
    back = dx.convert(np.arange(3), pa.Array)
    assert isinstance(back, pa.Int64Array)
    assert back.to_pylist() == [0, 1, 2]


def test_fixed_shape_tensors_arrive_whole() -> None:
    values = np.arange(12.0).reshape(3, 2, 2)
    array = pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    assert dx.to_numpy(array).tolist() == values.tolist()


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1, None]),
        pa.array([True, False]),
        pa.array(["a"]),
        pa.array([1, 2], pa.timestamp("s")),
        pa.array([1, 1]).dictionary_encode(),
        pa.chunked_array([[1, 2], [3]]),
    ],
    ids=["nulls", "bits", "strings", "times", "dictionary", "chunks"],
)
def test_values_that_are_not_plain_memory_are_refused(array: pa.Array) -> None:
    with pytest.raises((dx.ExchangeError, pa.ArrowException)):
        dx.from_dlpack(array)
