"""Exports while a stream is being captured into a graph."""

from __future__ import annotations

from ..asking import NEWEST, Raised, ask
from ..cuda import HOST_WAITS, ORDERING
from ..engine import ON_CUDA, ON_SIMULATOR, checks
from ..subject import Subject
from ..verdict import Failed, Untested
from .stream import array_on, busy

ACTIVE = 1


@checks("capture.silent-when-unordered", "producer", ON_SIMULATOR)
def silent_when_unordered(subject: Subject) -> None:
    it = busy(subject)  # what is written on a stream belongs to that stream
    cuda, x, p, handle = it.cuda, it.x, it.p, subject.handle(it.p)
    cuda.synchronize(handle)
    subject.settle()  # garbage that is freed under capture would break it
    cuda.begin_capture(handle)
    try:
        for stream in (-1, handle):
            with cuda.counting() as calls, subject.using(p):
                answer = ask(subject, x, max_version=NEWEST, stream=stream)
            if isinstance(answer, Raised):
                raise Failed(f"an export under capture with stream={stream}", str(answer))
            made = {name: calls[name] for name in ORDERING if calls[name]}
            outside = {n: c for n, c in made.items() if n in HOST_WAITS or stream == -1}
            if outside:
                raise Failed(f"no call that orders or waits for stream={stream}", f"{outside}")
            if cuda.capture_status(handle) != ACTIVE:
                raise Failed("a capture that is still active", "an invalidated one")
    finally:
        status = cuda.end_capture(handle)
    if status != 0:
        raise Failed("a capture that can be ended", f"status {status}")


@checks("capture.refused-before-harm", "producer", ON_CUDA)
def refused_before_harm(subject: Subject) -> None:
    cuda = subject.stage()
    p = subject.new_stream()
    x = array_on(subject, p)
    handle, c = subject.handle(p), cuda.stream()
    subject.settle()
    cuda.begin_capture(handle)
    try:
        subject.fill(x, 7.0, p)
    except Exception as error:
        cuda.end_capture(handle)
        raise Untested(f"it can not be captured: {error!r}") from None
    with subject.using(p):
        ask(subject, x, max_version=NEWEST, stream=c)
    joined = cuda.capture_status(c) == ACTIVE
    if joined:
        cuda.order(c, handle)
    valid = cuda.capture_status(handle) == ACTIVE
    status = cuda.end_capture(handle)
    if not valid or status != 0:
        raise Failed("a capture that is joined legally or left alone", f"it ended with {status}")
