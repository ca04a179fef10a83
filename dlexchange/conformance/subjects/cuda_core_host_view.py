"""cuda.core's StridedMemoryView over host memory."""

from ..subject import Subject


class CudaCoreHostView(Subject):
    name = "cuda.core-host-view"
    distribution = "cuda-core"
    imports = (
        "import ctypes, numpy as np; from cuda.core.utils import StridedMemoryView as View; "
        "at = lambda v: (ctypes.c_char * 4096).from_address(v.ptr); "
        "steps = lambda v: v.strides and tuple(s * v.dtype.itemsize for s in v.strides)"
    )
    consume_code = "View.from_dlpack({x}, stream_ptr=-1)"
    values_code = "np.ndarray({a}.shape, {a}.dtype, at({a}), 0, steps({a})).ravel().tolist()"
    dtypes = (
        "float32", "float64", "float16", "int8", "int16", "int32", "int64",
        "uint8", "uint16", "uint32", "uint64", "bool", "complex64",
    )  # fmt: skip
    is_writable_code = "not {a}.readonly"
    refuses = {  # noqa: RUF012
        "keywords.from-dlpack": "its from_dlpack is not the array API's: no device, no copy",
        "import.unknown-target-device": "its from_dlpack takes no device",
    }


subject = CudaCoreHostView()
