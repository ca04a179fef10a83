"""The simulated driver's own array framework, speaking "cai"."""

from ..subject import Subject


class SimCai(Subject):
    name = "sim.array-cai"
    distribution = "dlexchange"
    ground = "simulated CUDA"
    imports = "framework = sim.framework('cai')"
    make_code = "framework.array({shape}, '{dtype}', fill=({values} or [0])[0])"
    values_code = "{a}.tolist()"
    layouts = {}  # noqa: RUF012
    stream_code = "sim.stream()"
    handle_code = "{s}.handle"
    using_code = "framework.use_stream({s})"
    fill_code = "{a}.fill({value}, stream={s})"
    touch_code = "{a}.copy(stream={s})"
    address_code = "{a}.data_ptr"
    device = (2, 0)
    speaks_dlpack = False
    from_cai_code = "framework.from_cai({x})"


subject = SimCai()
