"""The simulated driver's own array frameworks, as subjects."""

from __future__ import annotations

from typing import ClassVar

from dlexchange.conformance import Subject

IN_CTYPES = "its deleters and tables are Python functions, given to C by ctypes"


class Simulated(Subject):
    """A framework of `dlexchange.testing`, speaking one of its dialects."""

    distribution = "dlexchange"
    ground = "simulated CUDA"
    make_code = "framework.array({shape}, '{dtype}', fill=({values} or [0])[0])"
    values_code = "{a}.tolist()"
    layouts: ClassVar = {}
    stream_code = "sim.stream()"
    handle_code = "{s}.handle"
    using_code = "framework.use_stream({s})"
    fill_code = "{a}.fill({value}, stream={s})"
    touch_code = "{a}.copy(stream={s})"
    address_code = "{a}.data_ptr"
    device = (2, 0)
    refuses: ClassVar = {
        "copy.to-host": "made for tests, it exports its own memory alone",
        "release.after-consumer-work": "it releases at once, as frameworks do: that dlexchange "
        "orders the release all the same is tested with it",
        "capsule.destructor-keeps-exception": IN_CTYPES,
        "deleter.after-finalization": IN_CTYPES,
        "api.errors-are-python": IN_CTYPES,
        "api.allocator-error-once": IN_CTYPES,
    }

    def __init__(self, dialect: str) -> None:
        super().__init__()
        self.name = f"simulated {dialect}"  # type: ignore[misc]
        self.imports = f"framework = sim.framework({dialect!r})"  # type: ignore[misc]
        if dialect == "cai":
            self.speaks_dlpack = False  # type: ignore[misc]
            self.from_cai_code = "framework.from_cai({x})"  # type: ignore[misc]
        else:
            self.consume_code = "framework.from_dlpack({x})"  # type: ignore[misc]


dlpack, exchange_api, cai = map(Simulated, ("dlpack", "exchange_api", "cai"))
