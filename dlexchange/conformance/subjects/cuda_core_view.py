"""cuda.core's StridedMemoryView: it imports, on the simulated driver."""

from ..subject import Subject


class CudaCoreView(Subject):
    name = "cuda.core-view"
    distribution = "cuda-core"
    ground = "simulated CUDA"
    imports = (
        "import cuda.core as cc; from cuda.core.utils import StridedMemoryView as View; "
        "d = cc.Device(); d.set_current()"
    )
    consume_code = "View.from_dlpack({x}, stream_ptr=int(cc.LEGACY_DEFAULT_STREAM.handle))"
    import_on_code = "View.from_dlpack({x}, stream_ptr=int({s}.handle))"
    from_cai_code = "View.from_cuda_array_interface({x}, stream_ptr=int({s}.handle))"
    stream_code = "d.create_stream()"
    handle_code = "int({s}.handle)"
    address_code = "{a}.ptr"
    device = (2, 0)


subject = CudaCoreView()
