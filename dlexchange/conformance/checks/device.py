"""Devices and contexts on CUDA, and the exchange API's work stream there."""

from __future__ import annotations

from typing import Any

from .. import _probe
from ..asking import NEWEST, Raised, ask, device_pair, export
from ..cuda import ORDERING
from ..engine import ON_CUDA, ON_SIMULATOR, checks
from ..looking import read_managed
from ..subject import Subject
from ..verdict import Failed, Untested
from .exchange_api import _release, _working
from .stream import array_on, busy

CUDA = 2


@checks("device.context-restored", "producer", ON_CUDA)
def context_restored(subject: Subject) -> None:
    it = busy(subject)
    c = it.cuda.stream()
    if it.cuda.devices < 2:
        raise Untested("there is one device only")
    for keywords in ({"stream": c}, {"stream": -1}, {"dl_device": (99, 0)}):
        with subject.using(it.p):  # some let a stream be used beside its own device alone
            it.cuda.use(1)
            before = it.cuda.current()
            answer: Any = ask(subject, it.x, max_version=NEWEST, **keywords)
            after = it.cuda.current()
            it.cuda.use(0)
        if after != before:
            raise Failed(f"the same current context after {keywords}", "another one")
        del answer


@checks("device.owner-of-pointer", "producer", ON_CUDA)
def owner_of_pointer(subject: Subject) -> None:
    cuda = subject.stage()
    if cuda.devices < 2:
        raise Untested("there is one device only")
    p = subject.new_stream()
    x = array_on(subject, p)
    cuda.use(1)
    try:
        said = device_pair(subject, x)
        answer = ask(subject, x, max_version=NEWEST, stream=-1)
    finally:
        cuda.use(0)
    owner = cuda.owner_of(subject.address(x))
    if said != (CUDA, owner):
        raise Failed(f"device {(CUDA, owner)} whatever is current", f"{said}")
    if isinstance(answer, Raised):
        raise Untested(f"it exports nothing while another device is current: {answer}")
    device = export(subject, x, 2, max_version=NEWEST, stream=-1).managed.device
    if device != (CUDA, owner):
        raise Failed(f"device {(CUDA, owner)} in the capsule", f"{device}")


@checks("api.no-synchronisation", "producer", ON_SIMULATOR)
def no_synchronisation(subject: Subject) -> None:
    it = busy(subject)
    table = _working(it.x)
    with it.cuda.counting() as calls, subject.using(it.p):
        status, address, _ = _probe.call_from_py(table.from_py, it.x)
        if table.dltensor:
            _probe.call_dltensor(table.dltensor, it.x)
        _probe.call_work_stream(table.work_stream, CUDA, 0)
    if status != 0 or not address:
        raise Untested("from_py_object describes no array with pending work")
    made = {name: calls[name] for name in ORDERING if calls[name]}
    _release(read_managed(address, True))
    if made:
        raise Failed("no call that orders or waits", f"{made}")


@checks("api.work-stream", "producer", ON_CUDA)
def work_stream(subject: Subject) -> None:
    cuda = subject.stage()
    if not subject.has_current_stream:
        raise Untested("it has no current stream")
    p = subject.new_stream()
    x = array_on(subject, p)
    table = _working(x)
    handle = subject.handle(p)
    with subject.using(p):
        status, stream, error = _probe.call_work_stream(table.work_stream, CUDA, 0)
    if status != 0:
        raise Failed("the current stream", repr(error))
    if stream != handle:
        raise Failed(f"the current stream {handle:#x}", f"{stream or 0:#x}")
    status, stream, error = _probe.call_work_stream(table.work_stream, 1, 0)
    if status == 0 and stream:
        raise Failed("NULL as work stream of the host", f"{stream:#x}")
    del cuda
