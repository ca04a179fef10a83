"""NumPy."""

from ..subject import Subject


class NumPy(Subject):
    name = "numpy"
    imports = "import numpy as np"
    make_code = "np.array({values}, dtype='{dtype}').reshape({shape})"
    consume_code = "np.from_dlpack({x}{options})"
    values_code = "{a}.ravel().tolist()"
    dtypes = (
        "float32", "float64", "float16", "int8", "int16", "int32", "int64",
        "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128",
    )  # fmt: skip
    unexportable = {  # noqa: RUF012
        "byte-swapped": "np.arange(6, dtype='>f4')",
        "long-double": "np.zeros(6, dtype='longdouble')",
        "indivisible-strides": "np.zeros(6, dtype='f4,i1')['f0']",
        "of objects": "np.zeros(6, dtype=object)",
        "of dates": "np.zeros(6, dtype='M8[s]')",
    }
    write_code = "{a}.fill({value})"
    read_only_code = "np.broadcast_to({a}, (2, 3))"
    is_writable_code = "{a}.flags.writeable"
    host_only = True
    mutate_code = "{a}.shape = (3, 2)"


subject = NumPy()
