"""Apache Arrow: pyarrow.Tensor, its n-dimensional array."""

from ..subject import Subject


class PyArrow(Subject):
    name = "pyarrow"
    imports = "import numpy as np, pyarrow as pa"
    make_code = "pa.Tensor.from_numpy(np.array({values}, dtype='{dtype}').reshape({shape}))"
    consume_code = "pa.Tensor.from_dlpack({x}{options})"
    values_code = "{a}.to_numpy().ravel().tolist()"
    dtypes = (
        "float32", "float64", "float16", "int8", "int16", "int32", "int64",
        "uint8", "uint16", "uint32", "uint64",
    )  # fmt: skip
    layouts = {}  # noqa: RUF012
    host_only = True
    read_only_code = "pa.Tensor.from_numpy(np.broadcast_to({a}.to_numpy(), (2, 3)))"
    is_writable_code = "{a}.is_mutable"


subject = PyArrow()
