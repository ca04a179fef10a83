"""tensorflow."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from layouts import COMPLEX, FLOATS, INTEGERS, Peer

import dlexchange as dx

_DTYPES = ("bool", *INTEGERS, *FLOATS, *COMPLEX, "bfloat16")

PEER = Peer(
    name="tensorflow",
    takes=_DTYPES,
    read=lambda x: x.numpy(),
    address=lambda x: dx.from_dlpack(x).data_ptr,
    make=tf.constant,
    makes=_DTYPES,
    views=lambda x: [x[1:, ::2], x[::-1], x[2]],
)


def test_kernels_run_on_memory_that_was_misaligned() -> None:
    # tensorflow aborts the process in the first kernel that meets misaligned memory.
    raw = np.zeros(4 * 100 + 64, np.uint8)
    start = -raw.ctypes.data % 64 + 4
    array = raw[start : start + 400].view(np.float32)
    array[...] = 2
    ours = dx.convert(array, "tensorflow")
    assert float(tf.reduce_sum(ours)) == 200
    assert tf.matmul(tf.reshape(ours, (10, 10)), tf.ones((10, 1))).numpy().tolist() == [[20]] * 10


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_exports_are_read_only(dtype: type) -> None:
    assert dx.from_dlpack(tf.constant(np.ones(3, dtype))).readonly


def test_read_only_memory_arrives_unmoved() -> None:
    raw = np.zeros(256, np.uint8)
    start = -raw.ctypes.data % 64
    array = raw[start : start + 64].view(np.float32)
    array.flags.writeable = False
    with dx.strict():
        ours = dx.convert(array, "tensorflow", copy=False)
    assert dx.from_dlpack(ours).data_ptr == array.ctypes.data


def test_a_variable_is_read_as_it_is_now() -> None:
    variable = tf.Variable([1.0, 2.0])
    ours = dx.to_numpy(variable)
    variable.assign_add([1.0, 1.0])
    assert ours.tolist() == [1.0, 2.0]
    assert not ours.flags.writeable


@pytest.mark.parametrize(
    "tensor",
    [
        tf.constant(["a"]),
        tf.cast([1, 2], tf.qint8),
        tf.raw_ops.EmptyTensorList(element_shape=[2], max_num_elements=2, element_dtype=tf.float32),
    ],
    ids=["string", "quantised", "variant"],
)
def test_values_that_are_not_plain_memory_are_refused(tensor: tf.Tensor) -> None:
    # The export of a string tensor aborts the process: the adapter never asks for it.
    with pytest.raises(dx.ExchangeError, match="not plain memory"):
        dx.from_dlpack(tensor)


def test_symbolic_tensors_are_refused() -> None:
    @tf.function
    def traced(x: tf.Tensor) -> tf.Tensor:
        with pytest.raises(dx.ExchangeError, match="symbolic"):
            dx.from_dlpack(x)
        return x

    traced(tf.constant([1.0]))
