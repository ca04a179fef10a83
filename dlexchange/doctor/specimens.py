"""An array of each framework, and how to look at it by the framework's own means.

Nothing here goes through dlexchange: these are the two sides of the proof, so each must
be what a user of that framework would see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["SHAPE", "SPECIMENS", "VALUES", "Specimen"]

SHAPE = (4, 8)
VALUES = [float(i) for i in range(32)]

#: Where a framework lets one choose, memory starts at a multiple of this: the largest
#: alignment that a consumer asks for.
ALIGNMENT = 64


class Specimen(NamedTuple):
    """How arrays of one framework are made, read, found and written."""

    make: Callable[[], Any]
    """Return a float32 array of SHAPE with VALUES."""
    read: Callable[[Any], list[float]]
    """Return the values, row by row."""
    address: Callable[[Any], int]
    """Return the address of element zero."""
    write: Callable[[Any, float], None] | None = None
    """Set element zero in place; None where nothing in Python can."""
    sealed: str = ""
    """Why there is no `write`."""


def _flat(rows: Any) -> list[float]:
    return [float(value) for row in rows for value in row]


def _set_item(x: Any, value: float) -> None:
    x[0, 0] = value


def _numpy_array() -> Any:
    import numpy

    nbytes = 4 * len(VALUES)
    raw: Any = numpy.zeros(nbytes + ALIGNMENT, numpy.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    array: Any = raw[start : start + nbytes].view(numpy.float32).reshape(SHAPE)
    array[...] = numpy.array(VALUES, numpy.float32).reshape(SHAPE)
    return array


def _as_numpy(x: Any) -> Any:
    import numpy

    return numpy.from_dlpack(x)


def _torch_make() -> Any:
    import torch

    return torch.tensor(VALUES).reshape(SHAPE)


def _jax_make() -> Any:
    import jax

    return jax.numpy.asarray(VALUES, dtype="float32").reshape(SHAPE)


def _cupy_make() -> Any:
    import cupy

    return cupy.asarray(_numpy_array())


def _tvm_ffi_make() -> Any:
    import tvm_ffi

    return tvm_ffi.from_dlpack(_numpy_array())


def _array_api_strict_make() -> Any:
    import array_api_strict

    return array_api_strict.asarray(_numpy_array())


def _pyarrow_make() -> Any:
    import pyarrow

    return pyarrow.Tensor.from_numpy(_numpy_array())


def _awkward_make() -> Any:
    import awkward

    return awkward.from_numpy(_numpy_array())


def _mlx_make() -> Any:
    import mlx.core

    return mlx.core.array(VALUES).reshape(SHAPE)


def _mlx_address(x: Any) -> int:
    import numpy

    return int(numpy.array(x, copy=False).ctypes.data)


def _tensorflow_make() -> Any:
    import tensorflow

    return tensorflow.reshape(tensorflow.constant(VALUES), SHAPE)


def _tensorflow_address(x: Any) -> int:
    import numpy

    return int(numpy.asarray(memoryview(x)).ctypes.data)


def _paddle_make() -> Any:
    import paddle

    return paddle.to_tensor(_numpy_array())


def _onnxruntime_make() -> Any:
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_numpy(_numpy_array())


def _onnxruntime_write(x: Any, value: float) -> None:
    values = x.numpy().copy()
    values[0, 0] = value
    x.update_inplace(values)


def _warp_make() -> Any:
    import warp

    warp.config.quiet = True
    return warp.array(_numpy_array(), dtype=warp.float32, device="cpu")


def _drjit_make() -> Any:
    import drjit.llvm

    return drjit.llvm.TensorXf(_numpy_array())


def _drjit_write(x: Any, value: float) -> None:
    import drjit
    import drjit.llvm

    drjit.scatter(x.array, drjit.llvm.Float(value), drjit.llvm.UInt32(0))
    drjit.eval(x)
    drjit.sync_thread()


def _drjit_read(x: Any) -> list[float]:
    return _flat(x.numpy().tolist())


def _cuda_core_make() -> Any:
    from cuda.core.utils import StridedMemoryView

    return StridedMemoryView.from_dlpack(_numpy_array(), -1)


def _numba_cuda_make() -> Any:
    import numba.cuda

    return numba.cuda.to_device(_numpy_array())


def _dpnp_make() -> Any:
    import dpnp

    return dpnp.asarray(_numpy_array())


#: By the names that `convert` takes.
SPECIMENS = {
    "numpy": Specimen(
        _numpy_array, lambda x: _flat(x.tolist()), lambda x: int(x.ctypes.data), _set_item
    ),
    "torch": Specimen(
        _torch_make, lambda x: _flat(x.tolist()), lambda x: int(x.data_ptr()), _set_item
    ),
    "jax": Specimen(
        _jax_make,
        lambda x: _flat(x.tolist()),
        lambda x: int(x.unsafe_buffer_pointer()),
        sealed="jax arrays are immutable",
    ),
    "cupy": Specimen(
        _cupy_make, lambda x: _flat(x.get().tolist()), lambda x: int(x.data.ptr), _set_item
    ),
    "tvm_ffi": Specimen(
        _tvm_ffi_make,
        lambda x: _flat(_as_numpy(x).tolist()),
        lambda x: int(x.data_ptr()),
        sealed="tvm_ffi has no element access in Python",
    ),
    "array_api_strict": Specimen(
        _array_api_strict_make,
        lambda x: [float(x[i, j]) for i in range(SHAPE[0]) for j in range(SHAPE[1])],
        lambda x: int(_as_numpy(x).ctypes.data),
        _set_item,
    ),
    "pyarrow": Specimen(
        _pyarrow_make,
        lambda x: _flat(x.to_numpy().tolist()),
        lambda x: int(x.to_numpy().ctypes.data),
        sealed="pyarrow has no item assignment",
    ),
    "awkward": Specimen(
        _awkward_make,
        lambda x: _flat(x.to_list()),
        lambda x: int(x.layout.data.ctypes.data),
        sealed="awkward arrays are immutable",
    ),
    "mlx": Specimen(
        _mlx_make,
        lambda x: _flat(x.tolist()),
        _mlx_address,
        sealed="mlx writes into a new buffer",
    ),
    "tensorflow": Specimen(
        _tensorflow_make,
        lambda x: _flat(x.numpy().tolist()),
        _tensorflow_address,
        sealed="tensorflow tensors are immutable",
    ),
    "paddle": Specimen(
        _paddle_make, lambda x: _flat(x.tolist()), lambda x: int(x.data_ptr()), _set_item
    ),
    "onnxruntime": Specimen(
        _onnxruntime_make,
        lambda x: _flat(x.numpy().tolist()),
        lambda x: int(x.data_ptr()),
        _onnxruntime_write,
    ),
    "warp": Specimen(
        _warp_make,
        lambda x: _flat(x.numpy().tolist()),
        lambda x: int(x.ptr),
        lambda x, value: x[0:1, 0:1].fill_(value),
    ),
    "drjit": Specimen(
        _drjit_make, _drjit_read, lambda x: int(_as_numpy(x).ctypes.data), _drjit_write
    ),
    "cuda_core": Specimen(
        _cuda_core_make,
        lambda x: _flat(_as_numpy(x).tolist()),
        lambda x: int(x.ptr),
        sealed="cuda.core views have no element access",
    ),
    "numba_cuda": Specimen(
        _numba_cuda_make,
        lambda x: _flat(x.copy_to_host().tolist()),
        lambda x: int(x.__cuda_array_interface__["data"][0]),
        _set_item,
    ),
    "dpnp": Specimen(
        _dpnp_make,
        lambda x: _flat(x.asnumpy().tolist()),
        lambda x: int(x.__sycl_usm_array_interface__["data"][0]),
        _set_item,
    ),
}
