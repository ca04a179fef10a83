"""A stand-in for dlexchange: a neutral tensor with a ready event, in a few lines of Python."""

from __future__ import annotations

import threading
from typing import Any

from dlexchange.conformance import _probe
from dlexchange.conformance.checks.exchange_api import ATTRIBUTE, read_table
from dlexchange.conformance.cuda import LEGACY, Cuda
from dlexchange.conformance.looking import read_managed

from .consumer import Owner
from .cuda import CudaModel


class Neutral:
    """Memory and the event after which it is ready."""

    def __init__(self, model: NeutralModel, owner: Any, work: int) -> None:
        self.model, self.owner, self.work = model, owner, work
        self.cuda: Cuda = model.driver
        self.used_on: list[Any] = []
        self.thread = threading.get_ident()
        self.event = model.take_event()
        self.cuda.call("cuEventRecord", self.event, work)
        if model.fault == "push.one-record-one-wait":
            self.cuda.call("cuEventRecord", self.event, work)

    def __dlpack__(self, *, stream: Any, max_version: Any = None) -> Any:
        fault, target = self.model.fault, int(stream)
        if fault == "tensor.any-thread" and threading.get_ident() != self.thread:
            raise RuntimeError("this tensor belongs to another thread")
        if target != self.work or fault == "push.same-stream-silent":
            self._wait(target)
        managed = self.owner.managed
        return _probe.Fake(
            data=managed.data,
            device=managed.device,
            dtype=managed.dtype,
            shape=managed.shape,
            strides=managed.strides,
            owner=self.owner,
        ).capsule()

    def _wait(self, target: int) -> None:
        fault = self.model.fault
        capturing = self.cuda.capture_status(target)
        if capturing and fault != "capture.refused-before-calls":
            raise BufferError("the stream is being captured")
        if fault == "push.host-not-blocked":
            self.cuda.status("cuEventQuery", self.event)
        if fault == "tensor.ready-at-import":
            self.cuda.call("cuEventRecord", self.event, self.work)
        if self.cuda.status("cuStreamWaitEvent", target, self.event, 0):
            raise BufferError("the driver refused the wait")

    def record_stream(self, stream: Any) -> None:
        self.used_on.append(stream)

    def close(self) -> None:
        if self.model.fault != "release.close-is-enough":
            self._release()

    def _release(self) -> None:
        owner, self.owner = self.owner, None
        if owner is None:
            if self.model.fault == "release.deleter-once" and self.event:
                _probe.call_deleter(self.address, True, "here")
            return
        self.address = owner.managed.address
        fault = self.model.fault
        if fault == "push.legacy-untouched":
            self.cuda.call("cuEventRecord", self.event, LEGACY)
        if fault != "push.events-reused":
            self.model.free_events.append(self.event)
        if self.used_on and fault != "release.after-recorded-stream":
            self.model.parked.append((list(self.used_on), owner))

    def __del__(self) -> None:
        if self.cuda.simulator.is_active:
            self._release()


class NeutralModel(CudaModel):
    """The model that makes neutral tensors of what comes through an exchange API table."""

    name = "model of dlexchange"

    def __init__(self, fault: str = "") -> None:
        super().__init__(fault)
        self.free_events: list[int] = []
        self.parked: list[Any] = []

    @property
    def driver(self) -> Cuda:
        assert self.cuda is not None
        return self.cuda

    def take_event(self) -> int:
        return self.free_events.pop() if self.free_events else self.driver._made("cuEventCreate", 2)

    def from_dlpack(self, x: Any, **options: Any) -> Any:
        capsule = getattr(type(x), ATTRIBUTE, None)
        if capsule is None or isinstance(x, self.kind):
            return super().from_dlpack(x, **options)
        table = read_table(_probe.capsule_content(capsule)[0])
        _, address, _ = _probe.call_from_py(table.from_py, x)
        managed = read_managed(address or 0, True)
        _, work, _ = _probe.call_work_stream(table.work_stream, *managed.device)
        return Neutral(self, Owner(self, managed, by_table=True), work or LEGACY)

    def import_on(self, x: Any, stream: Any) -> Any:
        array = super().import_on(x, stream)
        if isinstance(array, Neutral):
            return array, array.__dlpack__(stream=stream.handle)
        return array

    def settle(self) -> None:
        super().settle()
        for streams, _ in self.parked:
            for stream in streams:
                self.driver.synchronize(stream.handle)
        self.parked.clear()
