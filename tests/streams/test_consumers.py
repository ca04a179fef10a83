"""Consumers whose stream an adapter knows, played by stand-ins over the simulated driver."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

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
