"""dpnp, on a SYCL device (a CPU is one)."""

from ..subject import Subject


class Dpnp(Subject):
    name = "dpnp"
    ground = "SYCL"
    imports = "import dpnp, dpctl, numpy as np; dpctl.SyclQueue()"
    make_code = "dpnp.array(np.array({values}, dtype='{dtype}').reshape({shape}))"
    consume_code = "dpnp.from_dlpack({x}{options})"
    values_code = "dpnp.asnumpy({a}).ravel().tolist()"
    dtypes = (
        "float32", "int8", "int16", "int32", "int64",
        "uint8", "uint16", "uint32", "uint64", "bool", "complex64",
    )  # fmt: skip
    device = (14, 0)
    unexportable = {  # noqa: RUF012
        "on a SYCL sub-device": "dpnp.arange(6, sycl_queue=dpctl.SyclQueue("
        "dpctl.SyclDevice().create_sub_devices(partition=1)[0]))",
    }
    queue_code = "{a}.sycl_queue"
    stream_code = "dpctl.SyclQueue()"
    write_code = "{a}.fill({value})"
    mutate_code = "{a}.shape = (3, 2)"


subject = Dpnp()
