"""apache-tvm-ffi: the reference of the C exchange API."""

from ..subject import Subject


class TvmFfi(Subject):
    name = "tvm-ffi"
    distribution = "apache-tvm-ffi"
    imports = "import numpy as np, tvm_ffi"
    make_code = "tvm_ffi.from_dlpack(np.array({values}, dtype='{dtype}').reshape({shape}))"
    consume_code = "tvm_ffi.from_dlpack({x}{options})"
    values_code = "np.from_dlpack({a}).ravel().tolist()"
    dtypes = (
        "float32", "float64", "float16", "int8", "int16", "int32", "int64",
        "uint8", "uint16", "uint32", "uint64", "bool", "complex64",
    )  # fmt: skip
    layouts = {}  # noqa: RUF012
    refuses = {  # noqa: RUF012
        "import.missing-methods": "its from_dlpack is not the array API's",
        "keywords.from-dlpack": "its from_dlpack is not the array API's: no device, no copy",
        "import.ext-dev-refused": "kDLExtDev is TVM's own extension device",
        "import.unknown-target-device": "its from_dlpack takes no device",
    }


subject = TvmFfi()
