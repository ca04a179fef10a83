"""CuPy as a consumer, played by a stand-in with CuPy 14's streams over the simulated driver.

A consumer is asked for once: naming it by its module makes each stand-in one of its own.
"""

from __future__ import annotations

import gc
import sys
import warnings
import weakref
from contextlib import ExitStack
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import dlexchange as dx
from dlexchange.adapters import cupy as adapter
from dlexchange.pipeline.currents import Currents
from dlexchange.testing import Simulation, dlpack_structs, drain

from .conftest import driver_calls, other, warm
from .test_capture import refused, survives


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
            stream = Stream(framework.current_stream(max(device_id, 0)).handle)
            self.told = weakref.ref(stream)
            return stream

        self.current: Any = current
        self.cuda = SimpleNamespace(
            Stream=Stream,
            ExternalStream=ExternalStream,
            Device=sim.on_device,
            get_current_stream=lambda device_id=-1: self.current(device_id),
            runtime=SimpleNamespace(getDevice=lambda: 1),
        )

    def is_available(self) -> bool:
        return True

    def from_dlpack(self, x: Any) -> Any:
        if hasattr(x, "__dlpack_device__"):
            return self.framework.from_dlpack(x)
        self.capsules += 1
        array = self.framework.adopt(*dlpack_structs.consume(x))
        array.data = SimpleNamespace(ptr=array.data_ptr)
        return array

    #: How many were taken; the first is the test of the fast route.
    capsules = 0


class OldCuPy(CuPy):
    """One that cannot import a capsule as it is."""

    def from_dlpack(self, x: Any) -> Any:
        return self.framework.from_dlpack(x)


@pytest.fixture(params=[CuPy, OldCuPy], ids=["fast", "slow"])
def cupy(sim: Simulation, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> CuPy:
    module: CuPy = request.param(sim)
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(adapter, "fallback_reason", None)
    return module


def load(sim: Simulation, cupy: CuPy) -> None:
    """Have the consumer made, and the pools filled."""
    dx.convert(sim.array(4, fill=1), cupy)
    warm(sim)


@pytest.mark.parametrize("speaks", ["exchange_api", "dlpack", "cai"])
def test_current_stream_is_one_hop_away(sim: Simulation, cupy: CuPy, speaks: str) -> None:
    p, c = sim.stream(), sim.stream()
    framework = sim.framework(speaks)
    x = framework.array(4, "int32", stream=p, fill=3)
    load(sim, cupy)
    taken = cupy.capsules
    with framework.use_stream(p), cupy.framework.use_stream(c):
        y = dx.convert(x, cupy)
    assert cupy.capsules == taken + (type(cupy) is CuPy)
    calls = driver_calls(sim)
    for name in ("cuEventCreate", "cuEventDestroy"):  # a producer without a pool
        calls.pop(name, None)
    asked = calls.pop("cuStreamGetCaptureInfo", 0)  # none where the producer pushes
    assert (calls, asked <= 2) == ({"cuEventRecord": 1, "cuStreamWaitEvent": 1}, True)
    assert cupy.framework.current_stream(0).handle != c.handle
    assert y.tolist(stream=c) == [3] * 4


def test_release_waits_for_the_current_stream_which_lives_till_then(
    sim: Simulation, cupy: CuPy
) -> None:
    p, c = sim.stream(), sim.stream()
    x = sim.array(4, "int32", stream=p, fill=3)
    load(sim, cupy)
    with sim.framework().use_stream(p), cupy.framework.use_stream(c):
        y = dx.convert(x, cupy)
    told = cupy.told
    gc.collect()
    assert told() is not None
    edges = dx.stats().edges
    sim.reset_calls()
    del y
    calls = driver_calls(sim)
    assert (calls["cuEventRecord"], calls["cuStreamWaitEvent"]) == (1, 1)
    assert dx.stats().edges == edges + 1
    assert told() is None


def test_tensor_is_ordered_into_the_current_stream(sim: Simulation, cupy: CuPy) -> None:
    p, c = sim.stream(), sim.stream()
    x = sim.array(4, "int32", stream=p, fill=3, speaks="dlpack")
    with sim.framework("dlpack").use_stream(p):
        t = dx.from_dlpack(x)
    load(sim, cupy)
    latch = sim.latch(c)
    sim.reset_calls()
    with cupy.framework.use_stream(c):
        y = dx.convert(t, cupy, copy=False)
    assert sim.calls["cuStreamWaitEvent"] == 1
    t.close()
    del x, y  # parked until c is done
    assert dx.stats().parked == 1
    latch.open()
    drain()
    assert dx.stats().parked == 0


def test_current_stream_that_does_not_capture_is_refused(sim: Simulation, cupy: CuPy) -> None:
    p, c = sim.stream(), sim.stream()
    x = sim.array(4, stream=p, fill=1)
    load(sim, cupy)
    p.begin_capture()
    with sim.framework().use_stream(p), cupy.framework.use_stream(c):
        refused(sim, partial(dx.convert, x, cupy), p, c)
    survives(p)
    del x
    gc.collect()  # the frames of the exception keep it, and it must go before its stream


def test_read_only_memory_is_warned_of(sim: Simulation, cupy: CuPy) -> None:
    p = sim.stream()
    x = sim.array(4, "int32", stream=p, fill=3)

    class Frozen(dx.Producer):
        def __dlexchange__(self) -> dx.Description:
            stream = dx.Stream.from_handle("cuda:0", p.handle, p)
            place: Any = {"device": "cuda:0", "stream": stream, "readonly": True}
            return dx.Description(x.data_ptr, (4,), "int32", **place)

    dx._core._forget_types()  # the warning is given once
    with warnings.catch_warnings():
        warnings.simplefilter("error", dx.errors.ReadOnlyWarning)
        with pytest.raises(dx.errors.ReadOnlyWarning, match="cupy, which cannot express"):
            dx.convert(Frozen(), cupy)


def test_device_cupy_does_not_know_is_cupys_refusal(sim: Simulation, cupy: CuPy) -> None:
    x = sim.array(4, fill=3)
    dx.convert(x, cupy)

    def fail(_device: int) -> Any:
        raise IndexError("no such device")

    cupy.current = fail
    with pytest.raises(dx.ExchangeError, match="cupy refused") as refusal:
        dx.convert(x, cupy)
    assert isinstance(refusal.value.__cause__, IndexError)


def test_the_route_into_cupy_is_told(sim: Simulation, cupy: CuPy) -> None:
    def note() -> str:
        return adapter.report(cupy).notes[0]

    assert note() == "fast route: tested at first use"
    load(sim, cupy)
    told = "yes" if type(cupy) is CuPy else "no, AttributeError"
    assert note().startswith(f"fast route: {told}")


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
        y = dx.convert(x, cupy)
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
        dx.convert(Pinned(), cupy)
    sim.driver("cuMemsetD8Async", address, 9, 8, p.handle)
    assert dx.convert(Pinned(), cupy, copy=True).tolist() == [9] * 8


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
