"""dlexchange itself: its neutral tensor, over memory of a SYCL device (a CPU is one)."""

from ..subject import Subject


class DlexchangeSycl(Subject):
    name = "dlexchange-sycl"
    distribution = "dlexchange"
    ground = "SYCL"
    imports = "import dlexchange as dx, dpnp, dpctl, numpy as np"
    make_code = "dx.from_dlpack(dpnp.array(np.array({values}, dtype='{dtype}').reshape({shape})))"
    consume_code = "dx.from_dlpack({x}{options})"
    dtypes = ("float32", "int8", "int32", "int64", "uint8", "bool", "complex64")
    layouts = {}  # noqa: RUF012
    device = (14, 0)
    stream_code = "dpctl.SyclQueue()"


subject = DlexchangeSycl()
