"""CuPy as a consumer, played by a stand-in with CuPy 14's streams over the simulated driver."""

from __future__ import annotations

import sys
import warnings
from contextlib import ExitStack
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import dlexchange as dx
from dlexchange.pipeline.currents import Currents
from dlexchange.testing import Simulation

from .conftest import driver_calls, other, warm


class CuPy(ModuleType):
    """As much of CuPy as the adapter calls: arrays and currents are a simulated framework's."""

    def __init__(self, sim: Simulation) -> None:
        super().__init__("cupy")
        self.framework = framework = other(sim)
        self.ndarray = framework.array_type

        class Stream:
            device_id = -1

            def __init__(self, ptr: int) -> None:
                self.ptr = ptr
                self.entered = ExitStack()

            @classmethod
            def from_external(cls, lender: Any) -> Stream:
                version, ptr = lender.__cuda_stream__()
                assert version == 0
                return cls(ptr)

            def __cuda_stream__(self) -> tuple[int, int]:
                return 0, self.ptr

            def __enter__(self) -> Stream:
                self.entered.enter_context(framework.use_handle(self.ptr, 0))
                return self

            def __exit__(self, *_: object) -> None:
                self.entered.close()

        class ExternalStream(Stream):
            def __init__(self, ptr: int, device_id: int = -1) -> None:
                warnings.warn("ExternalStream is deprecated", DeprecationWarning, stacklevel=2)
                super().__init__(ptr)

        def current(device_id: int = -1) -> Stream:
            return Stream(framework.current_stream(max(device_id, 0)).handle)

        self.cuda = SimpleNamespace(
            Stream=Stream,
            ExternalStream=ExternalStream,
            Device=sim.on_device,
            get_current_stream=current,
            runtime=SimpleNamespace(getDevice=lambda: 1),
        )

    def is_available(self) -> bool:
        return True

    def from_dlpack(self, x: Any) -> Any:
        return self.framework.from_dlpack(x)


@pytest.fixture
def cupy(sim: Simulation, monkeypatch: pytest.MonkeyPatch) -> CuPy:
    module = CuPy(sim)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


@pytest.mark.parametrize("speaks", ["exchange_api", "dlpack"])
def test_named_stream_is_one_hop_away(sim: Simulation, cupy: CuPy, speaks: str) -> None:
    p, c = sim.stream(), sim.stream()
    framework = sim.framework(speaks)
    x = framework.array(4, "int32", stream=p, fill=3)
    warm(sim)
    with framework.use_stream(p):
        y = dx.to_cupy(x, stream=c)
    made = 1 if speaks == "dlpack" else 0  # the producer has no pool of events
    assert driver_calls(sim).pop("cuEventCreate", 0) == made
    assert (sim.calls["cuEventRecord"], sim.calls["cuStreamWaitEvent"]) == (1, 1)
    assert y.stream.handle == c.handle
    assert y.tolist(stream=c) == [3] * 4


def test_one_stream_costs_no_driver_call(sim: Simulation, cupy: CuPy) -> None:
    p = sim.stream()
    framework = sim.framework("exchange_api")
    x = framework.array(4, "int32", stream=p, fill=3)
    warm(sim)
    with framework.use_stream(p), cupy.framework.use_stream(p):
        y = dx.to_cupy(x)
    assert driver_calls(sim) == {}
    assert y.tolist(stream=p) == [3] * 4


def test_own_array_is_read_before_the_named_stream_is_current(sim: Simulation, cupy: CuPy) -> None:
    p, c = sim.stream(), sim.stream()
    with cupy.framework.use_stream(p):
        y = dx.to_cupy(cupy.framework.array(4, "int32", fill=3), stream=c)
    assert y.tolist(stream=c) == [3] * 4


def test_copy_is_cupys_own_on_the_named_stream(sim: Simulation, cupy: CuPy) -> None:
    p, c = sim.stream(), sim.stream()
    x = sim.array(4, "int32", stream=p, fill=3, speaks="dlpack")
    for y in (
        dx.to_cupy(x, stream=c, copy=True),
        dx.convert(x, "cupy", device="cuda:0", stream=c, copy=True),
    ):
        assert y.data_ptr != x.data_ptr
        assert y.tolist(stream=c) == [3] * 4


def test_pinned_memory_is_the_hosts_to_cupy(sim: Simulation, cupy: CuPy) -> None:
    import numpy as np

    sim.set_device()
    p, address = sim.stream(), sim.pinned_word()
    cupy.asarray = np.array

    class Pinned(dx.Producer):
        def __dlexchange__(self) -> dx.Description:
            stream = dx.Stream.from_handle("cuda:0", p.handle, p)
            return dx.Description(address, (8,), "uint8", device=(3, 0), stream=stream)

    sim.driver("cuMemsetD8Async", address, 7, 8, p.handle)
    with pytest.raises(dx.CopyError, match="device memory only"):
        dx.to_cupy(Pinned())
    sim.driver("cuMemsetD8Async", address, 9, 8, p.handle)
    assert dx.to_cupy(Pinned(), copy=True).tolist() == [9] * 8


def test_stage_makes_its_stream_cupys_current_one(sim: Simulation, cupy: CuPy) -> None:
    stream = dx.Stream.create("cuda:0")
    currents = Currents(stream)
    currents.refresh()
    assert dx.current_stream("cupy") == stream
    currents.close()
    assert dx.current_stream("cupy") == dx.Stream.legacy_default("cuda:0")


def test_default_stream_is_that_of_the_current_device(
    two_devices: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = two_devices
    cupy = CuPy(sim)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    c = sim.stream(1)
    x = sim.array(4, "int32", stream=sim.legacy(1), fill=3)
    dx.push(cupy.cuda.Stream(0), c)  # its device_id is -1
    assert x.tolist(stream=c) == [3] * 4
