"""PaddlePaddle, on the host."""

from ..subject import Subject


class Paddle(Subject):
    name = "paddle"
    distribution = "paddlepaddle"
    imports = "import numpy as np, paddle"
    make_code = "paddle.to_tensor(np.array({values}, dtype='{dtype}').reshape({shape}))"
    consume_code = "paddle.from_dlpack({x}{options})"
    values_code = "{a}.numpy().ravel().tolist()"
    dtypes = (
        "float32", "float64", "float16", "int8", "int16", "int32", "int64",
        "uint8", "bool", "complex64", "complex128",
    )  # fmt: skip
    write_code = "{a}.fill_({value})"
    unexportable = {  # noqa: RUF012
        "with a gradient": "paddle.to_tensor([1.0, 2.0], stop_gradient=False)",
        "sparse": "paddle.eye(3).to_sparse_coo(2)",
    }


subject = Paddle()
