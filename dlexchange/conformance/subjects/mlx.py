"""MLX, its CPU build."""

from ..subject import Subject


class Mlx(Subject):
    name = "mlx"
    imports = "import mlx.core as mx, numpy as np"
    make_code = "mx.array(np.array({values}, dtype='{dtype}').reshape({shape}))"
    consume_code = "mx.from_dlpack({x}{options})"
    values_code = "np.array({a}).ravel().tolist()"
    dtypes = (
        "float32", "float16", "int8", "int16", "int32", "int64",
        "uint8", "uint16", "uint32", "uint64", "bool", "complex64",
    )  # fmt: skip
    refuses = {  # noqa: RUF012
        "import.missing-methods": "its from_dlpack is not the array API's",
        "keywords.from-dlpack": "its from_dlpack is not the array API's: no device, no copy",
        "import.unknown-target-device": "its from_dlpack takes no device",
    }


subject = Mlx()
