"""CuPy, on a real GPU: its wheels do not run on the simulated driver."""

from ..subject import Subject


class CuPy(Subject):
    name = "cupy"
    distribution = ("cupy-cuda13x", "cupy-cuda12x", "cupy")
    ground = "CUDA"
    imports = "import cupy as cp, numpy as np"
    make_code = "cp.asarray(np.array({values}, dtype='{dtype}').reshape({shape}))"
    consume_code = "cp.from_dlpack({x}{options})"
    from_cai_code = "cp.asarray({x})"
    values_code = "{a}.ravel().get().tolist()"
    stream_code = "cp.cuda.Stream(non_blocking=True)"
    handle_code = "{s}.ptr"
    using_code = "{s}"
    fill_code = "with {s}: {a}.fill({value})"
    address_code = "{a}.data.ptr"
    device = (2, 0)


subject = CuPy()
