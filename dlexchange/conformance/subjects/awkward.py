"""Awkward Array: it imports, and exports nothing."""

from ..subject import Subject


class Awkward(Subject):
    name = "awkward"
    imports = "import awkward as ak"
    consume_code = "ak.from_dlpack({x}{options})"
    values_code = "ak.to_numpy(ak.flatten({a}, axis=None)).tolist()"
    dtypes = (
        "float32", "float64", "int8", "int16", "int32", "int64",
        "uint8", "uint16", "uint32", "uint64", "bool",
    )  # fmt: skip
    layouts = {"column": "{a}[:, 1]"}  # noqa: RUF012
    refuses = {  # noqa: RUF012
        "import.missing-methods": "its from_dlpack is not the array API's",
        "keywords.from-dlpack": "its from_dlpack is not the array API's: no device, no copy",
        "import.unknown-target-device": "its from_dlpack takes no device",
    }


subject = Awkward()
