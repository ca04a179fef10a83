"""cuda.core's Buffer, on the simulated driver: bytes, exported as a row of them."""

from ..subject import Subject


class CudaCore(Subject):
    name = "cuda.core"
    distribution = "cuda-core"
    ground = "simulated CUDA"
    imports = (
        "import cuda.core as cc, numpy as np; d = cc.Device(); d.set_current(); "
        "new = lambda n: d.allocate(n, stream=d.default_stream)"
    )
    make_code = "new(4 * len({values}))"
    stream_code = "d.create_stream()"
    handle_code = "int({s}.handle)"
    fill_code = "{a}.fill(np.float32({value}).tobytes(), stream={s})"
    address_code = "int({a}.handle)"
    device = (2, 0)
    refuses = {"copy.to-host": "a buffer of bytes, no array of an array library"}  # noqa: RUF012
    judged = (  # a Buffer is a row of bytes: what asks for shapes and values says nothing of it
        "stream", "capture", "keywords", "device.pair", "device.context-restored", "copy.to-host",
        "deleter.no-host-synchronisation",
    )  # fmt: skip


subject = CudaCore()
