"""numba-cuda, on the simulated driver, through the CUDA Array Interface."""

from ..subject import Subject


class NumbaCuda(Subject):
    name = "numba-cuda"
    ground = "simulated CUDA"
    imports = (
        "import numpy as np; from numba import cuda; host = cuda.pinned_array((2, 3), 'f4'); "
        "of = lambda v: (host.fill(v), host)[1]"
    )
    make_code = "cuda.to_device(np.array({values}, dtype='{dtype}').reshape({shape}))"
    from_cai_code = "cuda.as_cuda_array({x})"
    values_code = "{a}.copy_to_host().ravel().tolist()"
    layouts = {"transposed": "{a}.T"}  # noqa: RUF012
    stream_code = "cuda.stream()"
    handle_code = "int(getattr({s}.handle, 'value', {s}.handle))"
    fill_code = "{a}.copy_to_device(of({value}), stream={s})"
    written_code = "cuda.to_device(of({value}), stream={s})"
    address_code = "{a}.device_ctypes_pointer.value"
    device = (2, 0)
    speaks_dlpack = False
    refuses = {  # noqa: RUF012
        "cai.stream-covers-all": "by its documentation users order the work of other streams "
        "into the array's own",
    }


subject = NumbaCuda()
