"""The simulated driver's own array framework, speaking "dlpack"."""

from ..subject import Subject


class SimDlpack(Subject):
    name = "sim.array-dlpack"
    distribution = "dlexchange"
    ground = "simulated CUDA"
    imports = "framework = sim.framework('dlpack')"
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
    consume_code = "framework.from_dlpack({x})"
    refuses = {"copy.to-host": "made for tests, it exports its own memory alone"}  # noqa: RUF012


subject = SimDlpack()
