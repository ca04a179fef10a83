"""The worked authors over memory of the simulated driver, as subjects."""

from __future__ import annotations

import importlib
import math
from typing import Any, ClassVar

from dlexchange.conformance import Subject


class OnDevice(Subject):
    """An author who is told on which stream its memory is being written."""

    ground = "simulated CUDA"
    imports = "framework = sim.framework('dlpack')"
    stream_code = "sim.stream()"
    handle_code = "{s}.handle"
    written_code = "show(framework.array((2, 3), fill={value}, stream={s}), [{s}])"
    settle_code = "from dlexchange.testing import drain; drain()"
    dtypes = ("float32",)
    layouts: ClassVar = {}
    device = (2, 0)
    version = "0"  # type: ignore[assignment]
    refuses: ClassVar = {"copy.to-host": "dlexchange.h describes memory and copies none"}

    def __init__(self, author: str) -> None:
        super().__init__()
        self.author = author
        self.name = f"{author.replace('_', ' ')} on a device"  # type: ignore[misc]

    def load(self) -> None:
        """Import the author, who is built then."""
        super().load()
        assert self._namespace is not None
        self._namespace.setdefault("show", self.show)
        self.module = importlib.import_module(f"authors.{self.author}")

    def make(self, values: Any, shape: tuple[int, ...], dtype: str) -> Any:
        """An array whose elements are all the first value."""
        fill = (list(values) or [0])[0]
        memory = self.evaluate("framework").array(shape, dtype, fill=fill)
        return self.show(memory, [memory.stream])

    def show(self, memory: Any, streams: list[Any]) -> Any:
        """The author's array over memory with work pending on streams."""
        strides = tuple(math.prod(memory.shape[i + 1 :]) for i in range(len(memory.shape)))
        handles = [stream.handle for stream in streams]
        where = (memory.data_ptr, memory.shape, strides)
        if self.author == "c_extension":
            return self.module.module.over(*where, (2, 0), tuple(handles), memory, False)
        if self.author == "cython_extension":
            return self.module.module.Strip(*where, memory, False, "cuda:0", streams)
        return self.module.module.over(*where, 2, 0, handles, memory, False)

    def address(self, array: Any) -> int:
        """Where the memory is."""
        return int(array.address)


class Pure(Subject):
    """The author in pure Python."""

    name = "pure Python author on a device"
    ground = "simulated CUDA"
    imports = (
        "from authors.simulated import Chart; from dlexchange.testing import drain; "
        "made = lambda shape, fill: Chart(sim, shape, fill, streams=[sim.legacy()])"
    )
    make_code = "made({shape}, ({values} or [0])[0])"
    stream_code = "sim.stream()"
    handle_code = "{s}.handle"
    written_code = "Chart(sim, (2, 3), {value}, streams=[{s}])"
    address_code = "{a}.memory.data_ptr"
    settle_code = "drain()"
    layouts: ClassVar = {}
    device = (2, 0)
    version = "0"  # type: ignore[assignment]


class Reading(OnDevice):
    """The author in C, who also imports."""

    consume_code = "author.from_dlpack({x})"
    import_on_code = "author.from_dlpack({x}, {s}.handle)"

    def load(self) -> None:
        """Import the author, who is built then."""
        super().load()
        assert self._namespace is not None
        self._namespace["author"] = self.module.module


pure_python = Pure()
c_extension = Reading("c_extension")
nanobind_extension = OnDevice("nanobind_extension")
pybind11_extension = OnDevice("pybind11_extension")
cython_extension = OnDevice("cython_extension")
