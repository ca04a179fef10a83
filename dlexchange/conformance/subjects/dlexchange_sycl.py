"""dlexchange itself: its neutral tensor, over memory of a SYCL device (a CPU is one)."""

from ..subject import Subject


class DlexchangeSycl(Subject):
    name = "dlexchange-sycl"
    distribution = "dlexchange"
    ground = "SYCL"
    imports = "import dlexchange as dx, dpnp, dpctl, numpy as np"
    make_code = "dx.from_dlpack(dpnp.array(np.array({values}, dtype='{dtype}').reshape({shape})))"
    consume_code = "dx.from_dlpack({x}{options})"
    values_code = "dx.to_numpy({a}).ravel().tolist()"
    queue_code = "(q := dpctl.SyclQueue(), {a}.__dlpack__(stream=q, max_version=(1, 3)))[0]"
    dtypes = ("float32", "int8", "int32", "int64", "uint8", "bool", "complex64")
    layouts = {}  # noqa: RUF012
    device = (14, 0)
    stream_code = "dpctl.SyclQueue()"


subject = DlexchangeSycl()
