"""TensorFlow, on the host."""

from ..subject import Subject

BY_USER = "its from_dlpack takes a capsule: its user asks the producer for it"


class TensorFlow(Subject):
    name = "tensorflow"
    distribution = ("tensorflow", "tensorflow-cpu")
    imports = "import numpy as np, tensorflow as tf"
    make_code = "tf.constant(np.array({values}, dtype='{dtype}').reshape({shape}))"
    consume_code = "tf.experimental.dlpack.from_dlpack({x}.__dlpack__())"
    values_code = "{a}.numpy().ravel().tolist()"
    dtypes = (
        "float32", "float64", "float16", "int8", "int16", "int32", "int64",
        "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128",
    )  # fmt: skip
    immutable = True
    refuses = {  # noqa: RUF012
        "copy.false-impossible": BY_USER,
        "import.device-first": BY_USER,
        "import.missing-methods": BY_USER,
        "import.own-array": BY_USER,
        "import.producer-errors-propagate": BY_USER,
        "import.unknown-target-device": BY_USER,
        "keywords.from-dlpack": BY_USER,
        "keywords.sent-when-asked": BY_USER,
        "version.asked-first": BY_USER,
        "version.retry-hides-nothing": BY_USER,
        "stream.host-consumer-passes-none": BY_USER,
    }


subject = TensorFlow()
