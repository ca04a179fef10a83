"""dlexchange itself: its neutral tensor, on host memory."""

from ..subject import Subject


class Dlexchange(Subject):
    name = "dlexchange"
    imports = "import dlexchange as dx, numpy as np"
    make_code = "dx.from_dlpack(np.array({values}, dtype='{dtype}').reshape({shape}))"
    consume_code = "dx.from_dlpack({x}{options})"
    values_code = "np.from_dlpack({a}).ravel().tolist()"
    dtypes = (
        "float32", "float64", "float16", "int8", "int16", "int32", "int64",
        "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128",
    )  # fmt: skip
    layouts = {}  # noqa: RUF012
    read_only_code = "dx.from_dlpack(np.broadcast_to(np.from_dlpack({a}), (2, 3)))"
    is_writable_code = "not {a}.readonly"


subject = Dlexchange()
