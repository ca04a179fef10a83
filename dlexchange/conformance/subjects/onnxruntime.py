"""ONNX Runtime: OrtValue, on the host."""

from ..subject import Subject


class OnnxRuntime(Subject):
    name = "onnxruntime"
    imports = "import numpy as np, onnxruntime as ort"
    make_code = (
        "ort.OrtValue.ortvalue_from_numpy(np.array({values}, dtype='{dtype}').reshape({shape}))"
    )
    consume_code = "ort.OrtValue.from_dlpack({x}{options})"
    values_code = "{a}.numpy().ravel().tolist()"
    dtypes = (
        "float32", "float64", "float16", "int8", "int16", "int32", "int64",
        "uint8", "uint16", "uint32", "uint64", "bool",
    )  # fmt: skip
    layouts = {}  # noqa: RUF012
    refuses = {  # noqa: RUF012
        "import.missing-methods": "its from_dlpack is not the array API's",
        "keywords.from-dlpack": "its from_dlpack is not the array API's: no device, no copy",
        "import.unknown-target-device": "its from_dlpack takes no device",
    }


subject = OnnxRuntime()
