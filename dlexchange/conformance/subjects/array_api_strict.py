"""array-api-strict: the reference implementation of the Python array API."""

from ..subject import Subject


class ArrayAPIStrict(Subject):
    name = "array-api-strict"
    distribution = "array_api_strict"
    imports = "import array_api_strict as xp"
    make_code = "xp.reshape(xp.asarray({values}, dtype=xp.{dtype}), {shape})"
    consume_code = "xp.from_dlpack({x}{options})"
    values_code = "xp.reshape({a}, (-1,))._array.tolist()"
    dtypes = (
        "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
        "uint64", "bool", "complex64", "complex128",
    )  # fmt: skip
    host_only = True
    write_code = "{a}[...] = {value}"


subject = ArrayAPIStrict()
