"""Frameworks whose stream an adapter knows, played by stand-ins over the simulated driver."""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
from support import child

import dlexchange as dx
from dlexchange.testing import Simulation, drain

from .conftest import other


class WarpStream:
    """What warp's streams have in common with this: a handle, None for the legacy stream."""

    def __init__(self, device: str, cuda_stream: int | None) -> None:
        assert device == "cuda:0"
        self.cuda_stream = cuda_stream


@pytest.fixture
def warp(sim: Simulation, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stand in for warp, as far as the adapter calls it."""
    module: Any = ModuleType("warp")
    framework = other(sim)
    module.current = WarpStream("cuda:0", None)

    @contextmanager
    def scoped(stream: WarpStream, sync_enter: bool) -> Iterator[None]:
        assert not sync_enter
        before, module.current = module.current, stream
        yield
        module.current = before

    def from_dlpack(tensor: Any) -> Any:
        with framework.use_handle(module.current.cuda_stream or 1, 0):
            return framework.from_dlpack(tensor)

    module.init = lambda: None
    module.get_stream = lambda device: module.current
    module.Stream, module.ScopedStream, module.from_dlpack = WarpStream, scoped, from_dlpack
    monkeypatch.setitem(sys.modules, "warp", module)
    return module


@pytest.mark.parametrize("named", [False, True])
def test_warp_is_waited_for_at_the_release(sim: Simulation, warp: Any, named: bool) -> None:
    p, c = sim.stream(), sim.stream()
    x = sim.array(4, "int32", stream=p, fill=3, speaks="dlpack")
    if named:
        y = dx.convert(x, warp, stream=c)
    else:
        warp.current = WarpStream("cuda:0", c.handle)
        assert dx.current_stream("warp").handle == c.handle
        y = dx.convert(x, "warp")
    assert y.stream.handle == c.handle
    latch = sim.latch(c)
    z = y.copy(stream=c)
    del x, y
    gc.collect()
    assert dx.stats().parked == 1
    latch.open()
    drain()
    assert z.tolist(stream=c) == [3] * 4


def test_warps_null_stream_is_the_legacy_stream(sim: Simulation, warp: Any) -> None:
    assert dx.current_stream("warp") == dx.Stream.legacy_default("cuda:0")
    x = sim.array(4, "int32", stream=sim.stream(), fill=3)
    assert dx.convert(x, "warp").stream.handle == 1


def test_jax_without_that_device_refuses_its_memory(sim: Simulation) -> None:
    pytest.importorskip("jax")
    x = sim.array(4, "int32", stream=sim.stream(), fill=3, speaks="dlpack")
    with pytest.raises(dx.ExchangeError, match="jax refused") as error:
        dx.to_jax(x)
    assert "backend" in str(error.value.__cause__)


def test_cupys_current_stream_is_asked_in_c() -> None:
    if importlib.util.find_spec("cupy") is None:  # only a child may import the real one:
        pytest.skip("absent: cupy is not installed")  # pipelines ask it for devices
    done = child.run(
        """
        import cupy
        import dlexchange as dx
        from dlexchange.adapters import classify
        print("found", classify(cupy.ndarray).exchange_api is not None)
        try:
            dx._core._work_stream(cupy.ndarray, 2, 0)
        except Exception as error:  # without a GPU; CuPy's own, so it was called
            print("called", type(error).__module__.startswith("cupy"))
        else:
            print("called", True)
        """
    )
    assert done.splitlines() == ["found True", "called True"], done


def test_producer_whose_stream_c_tells_is_pushed_by_us() -> None:
    done = child.run(
        """
        import ctypes
        import dlexchange as dx
        from dlexchange.adapters import Route, simulated
        from dlexchange.testing import drain, simulated_cuda
        with simulated_cuda(devices=2) as sim:
            asked = []
            @ctypes.PYFUNCTYPE(ctypes.c_ssize_t, ctypes.c_int)
            def get_stream_ptr(device):
                asked.append(device)
                return producer.current_stream(device).handle if device else 0
            new = ctypes.pythonapi.PyCapsule_New
            new.restype = ctypes.py_object
            address = ctypes.cast(get_stream_ptr, ctypes.c_void_p)
            wrong = new(address, b"size_t (int)", None)
            print("wrong", dx._core._cupy_streams(wrong))
            signature = b"intptr_t (int)"
            table = dx._core._cupy_streams(new(address, signature, None))
            simulated.classify = lambda cls: Route("dlpack", "cupy", table)
            producer, consumer = sim.framework("dlpack"), sim.framework("exchange_api", "other")
            p, c = sim.stream(1), sim.stream(1)
            x = producer.array(4, "int32", stream=p, fill=7)
            with producer.use_stream(p), consumer.use_stream(c):
                dx.from_dlpack(x).close()
                sim.reset_calls()
                y = consumer.from_dlpack(dx.from_dlpack(x))
            print("counts", sim.calls["cuEventRecord"], sim.calls["cuStreamWaitEvent"])
            print("value", y.tolist(stream=c), asked)
            z = producer.array(4, "int32", stream=sim.legacy(), fill=7)
            print("default", dx.from_dlpack(z).ready_event.stream.handle)
            del x, y, z
            drain()
            print("findings", [str(f) for f in sim.findings])
        """
    )
    assert done.splitlines() == [
        "wrong None",
        "counts 1 1",
        "value [7, 7, 7, 7] [1, 1]",
        "default 1",
        "findings []",
    ], done
