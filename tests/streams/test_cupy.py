"""CuPy as a consumer, played by a stand-in with CuPy 14's streams over the simulated driver."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import dlexchange as dx
from dlexchange.pipeline.currents import Currents
from dlexchange.testing import Simulation

from .conftest import other


class CuPy(ModuleType):
    """As much of CuPy as the adapter calls: its arrays are a simulated framework's."""

    def __init__(self, sim: Simulation) -> None:
        super().__init__("cupy")
        self.framework = framework = other(sim)
        self.ndarray = framework.array_type
        self.streams: list[Any] = []
        cupy = self

        class Stream:
            device_id = -1

            def __init__(self, ptr: int = 0) -> None:
                self.ptr = ptr

            @classmethod
            def from_external(cls, lender: Any) -> Stream:
                version, ptr = lender.__cuda_stream__()
                assert version == 0
                return cls(ptr)

            def __cuda_stream__(self) -> tuple[int, int]:
                return 0, self.ptr

            def __enter__(self) -> Stream:
                cupy.streams.append(self)
                return self

            def __exit__(self, *_: object) -> None:
                cupy.streams.pop()

        class ExternalStream(Stream):
            def __init__(self, ptr: int, device_id: int = -1) -> None:
                warnings.warn("ExternalStream is deprecated", DeprecationWarning, stacklevel=2)
                super().__init__(ptr)

        @contextmanager
        def device(number: int) -> Iterator[None]:
            with sim.on_device(number):
                yield

        self.cuda = SimpleNamespace(
            Stream=Stream,
            ExternalStream=ExternalStream,
            Device=device,
            get_current_stream=lambda device_id=-1: self.streams[-1] if self.streams else Stream(),
        )

    def is_available(self) -> bool:
        return True

    def from_dlpack(self, x: Any) -> Any:
        """Ask for CuPy's current stream, as CuPy does."""
        with self.framework.use_handle(self.cuda.get_current_stream().ptr or 1, 0):
            return self.framework.from_dlpack(x)


@pytest.fixture
def cupy(sim: Simulation, monkeypatch: pytest.MonkeyPatch) -> CuPy:
    module = CuPy(sim)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def test_named_stream_is_made_current_without_a_warning(sim: Simulation, cupy: CuPy) -> None:
    p, c = sim.stream(), sim.stream()
    x = sim.array(4, "int32", stream=p, fill=3, speaks="dlpack")
    y = dx.to_cupy(x, stream=c)
    assert y.stream.handle == c.handle
    assert y.tolist(stream=c) == [3] * 4


def test_stage_makes_its_stream_cupys_current_one(sim: Simulation, cupy: CuPy) -> None:
    stream = dx.Stream.create("cuda:0")
    currents = Currents(stream)
    currents.refresh()
    assert dx.current_stream("cupy") == stream
    currents.close()
    assert cupy.streams == []
