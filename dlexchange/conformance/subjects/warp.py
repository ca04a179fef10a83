"""NVIDIA Warp, on the host."""

from ..subject import Subject


class Warp(Subject):
    name = "warp"
    distribution = "warp-lang"
    imports = "import numpy as np, warp as wp; wp.config.quiet = True; wp.init()"
    make_code = "wp.array(np.array({values}, dtype='{dtype}').reshape({shape}), device='cpu')"
    consume_code = "wp.from_dlpack({x}{options})"
    values_code = "{a}.numpy().ravel().tolist()"
    dtypes = (
        "float32", "float64", "float16", "int8", "int16", "int32", "int64",
        "uint8", "uint16", "uint32", "uint64", "bool",
    )  # fmt: skip
    write_code = "{a}.fill_({value})"
    refuses = {  # noqa: RUF012
        "import.missing-methods": "its from_dlpack is not the array API's",
        "keywords.from-dlpack": "its from_dlpack is not the array API's: no device, no copy",
        "import.unknown-target-device": "its from_dlpack takes no device",
    }


subject = Warp()
