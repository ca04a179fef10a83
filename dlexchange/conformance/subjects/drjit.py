"""Dr.Jit, its LLVM backend: tensors of float32."""

from ..subject import Subject


class DrJit(Subject):
    name = "drjit"
    imports = "import numpy as np, drjit as dr; from drjit.llvm import TensorXf"
    make_code = "TensorXf(np.array({values}, dtype='{dtype}').reshape({shape}))"
    consume_code = "TensorXf({x}{options})"
    values_code = "{a}.numpy().ravel().tolist()"
    layouts = {}  # noqa: RUF012
    refuses = {  # noqa: RUF012
        "keywords.from-dlpack": "it has no from_dlpack but a constructor that takes many things",
        "import.unknown-target-device": "its constructor takes no device",
        "import.missing-methods": "its constructor takes many things",
        "import.producer-errors-propagate": "its constructor tries many things",
        "version.retry-hides-nothing": "its constructor tries many things",
    }


subject = DrJit()
