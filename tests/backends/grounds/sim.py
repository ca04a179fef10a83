"""The simulated CUDA driver. Never a GPU."""

from __future__ import annotations

import gc
from contextlib import AbstractContextManager
from typing import Any

import dlexchange as dx
from dlexchange.stream import as_stream
from dlexchange.testing import SimLatch, SimStream, Simulation, drain, simulated_cuda

from .. import grounds
from . import N


class Ground(grounds.Ground):
    name = "sim"
    kinds = ("own", "blocking", "legacy")
    single = ("legacy",)
    implicit = frozenset({("legacy", "blocking"), ("blocking", "legacy")})

    @staticmethod
    def absent() -> str:
        return ""

    def simulation(self) -> AbstractContextManager[Simulation]:
        return simulated_cuda(devices=2)

    def open(self) -> None:
        self.context = self.simulation()
        self.sim = self.context.__enter__()
        self.producer = self.sim.framework("exchange_api")
        self.consumer = self.sim.framework("exchange_api", "other")

    def close(self) -> None:
        gc.collect()
        drain()
        assert [str(finding) for finding in self.sim.findings if finding.kind != "race"] == []
        assert self.races_expected or not self.sim.findings
        del self.producer, self.consumer
        self.context.__exit__(None, None, None)

    def stream(self, kind: str) -> SimStream:
        return self.sim.legacy() if kind == "legacy" else self.sim.stream(blocking=kind != "own")

    def named(self, stream: Any) -> Any:
        return as_stream(stream)

    def current(self, stream: SimStream) -> AbstractContextManager[Any]:
        return self.producer.use_stream(stream)

    def array(self, stream: SimStream, value: int) -> Any:
        array = self.producer.array(N, "int32", stream=stream, fill=value)
        stream.synchronize()
        return array

    def latch(self, stream: SimStream) -> SimLatch:
        return self.sim.latch(stream)

    def fill(self, array: Any, value: int, stream: SimStream) -> None:
        array.fill(value, stream=stream)

    def take(self, x: Any, stream: SimStream) -> Any:
        return dx.convert(x, self.consumer.array_type, stream=stream)

    def double(self, array: Any, stream: SimStream) -> Any:
        return array.add(array, stream=stream)

    def read(self, array: Any, stream: SimStream) -> list[int]:
        return array.tolist(stream=stream)

    def bad_streams(self) -> list[tuple[Any, str]]:
        return [(self.sim.stream(1), "device"), (-2, "is not a stream handle")]
