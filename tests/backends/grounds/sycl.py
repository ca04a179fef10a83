"""A real asynchronous device: SYCL's CPU (or whatever dpctl finds first), with dpnp."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import dlexchange as dx
from dlexchange.conformance.sycl import Latch
from dlexchange.stream import as_stream
from dlexchange.testing import drain

from .. import grounds
from . import N


class Ground(grounds.Ground):
    name = "sycl"
    kinds = ("in_order", "out_of_order")

    @staticmethod
    def absent() -> str:
        if importlib.util.find_spec("dpnp") is None:
            return "dpnp is not installed (pip install 'dlexchange[sycl]')"
        import dpctl

        if not dpctl.get_devices():
            return "SYCL finds no device"
        if dpctl.SyclDevice().max_compute_units < 2:
            return "the latch's kernel needs a compute unit of its own, and the device has one"
        return ""

    def open(self) -> None:
        import dpctl

        self.dpctl = dpctl

    def close(self) -> None:
        drain()

    def stream(self, kind: str) -> Any:
        return self.dpctl.SyclQueue(property="in_order" if kind == "in_order" else 0)

    def named(self, stream: Any) -> Any:
        return as_stream(stream)

    def current(self, stream: Any) -> AbstractContextManager[Any]:
        return nullcontext()  # an array belongs to its stream

    def array(self, stream: Any, value: int) -> Any:
        import dpnp

        array = dpnp.full(N, value, dtype="int32", sycl_queue=stream)
        stream.wait()
        return array

    def latch(self, stream: Any) -> Latch:
        return Latch(stream)

    def fill(self, array: Any, value: int, stream: Any) -> None:
        array.fill(value)

    def take(self, x: Any, stream: Any) -> Any:
        return dx.convert(x, "dpnp", stream=stream)

    def double(self, array: Any, stream: Any) -> Any:
        return array + array

    def read(self, array: Any, stream: Any) -> list[int]:
        import dpnp

        return list(dpnp.asnumpy(array).tolist())

    def bad_streams(self) -> list[tuple[Any, str]]:
        dpctl = self.dpctl
        device = dpctl.SyclDevice()
        part = device.create_sub_devices(partition=1)[0]
        alone = dpctl.SyclContext((device,))
        gone = dx.Stream.from_handle("oneapi:0", self.stream("in_order")).handle
        return [
            (dpctl.SyclQueue(part), "sub-device"),
            (dpctl.SyclQueue(alone, device), "context of its own"),
            (gone, "names no stream, or one that is gone"),
        ]
