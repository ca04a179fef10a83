"""dlexchange itself: its neutral tensor, over simulated CUDA memory."""

from ..subject import Subject


class DlexchangeCuda(Subject):
    name = "dlexchange-cuda"
    distribution = "dlexchange"
    ground = "simulated CUDA"
    imports = (
        "import dlexchange as dx; from dlexchange.testing import drain; "
        "framework = sim.framework('exchange_api'); "
        "handed = lambda t, s: (t, t.__dlpack__(stream=s, max_version=(1, 3)))"
    )
    make_code = "dx.from_dlpack(framework.array({shape}, '{dtype}', fill=({values} or [0])[0]))"
    consume_code = "dx.from_dlpack({x}{options})"
    import_on_code = "handed(dx.from_dlpack({x}), {s})"
    from_cai_code = "handed(dx.from_dlpack({x}), {s})"
    layouts = {}  # noqa: RUF012
    stream_code = "sim.stream()"
    using_code = "framework.use_stream({s})"
    handle_code = "{s}.handle"
    written_code = "dx.from_dlpack(framework.array((2, 3), fill={value}, stream={s}))"
    address_code = "{a}.data_ptr"
    settle_code = "drain()"
    device = (2, 0)
    refuses = {"api.work-stream": "a neutral tensor works on no stream"}  # noqa: RUF012


subject = DlexchangeCuda()
