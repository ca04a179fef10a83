"""What dlexchange promises beyond the standards, on the simulated driver.

Each check imports memory with a pending write through an exchange API table, so that the
producer orders nothing and every call that is counted is the subject's own.
"""

from __future__ import annotations

import gc
import threading
from collections import Counter
from typing import Any

from ..asking import Raised, eventually
from ..cuda import HOST_WAITS, LEGACY, ORDERING
from ..engine import ON_SIMULATOR, checks
from ..fakes import TableHandler, tabled
from ..subject import Subject
from ..verdict import Failed, Untested
from .stream import NBYTES, must_see
from .stream_consumer import Source, source

QUERIES = ("cuEventQuery", "cuStreamQuery")


def _source(subject: Subject) -> tuple[Source, TableHandler]:
    kind, handler = tabled()
    it = source(subject, kind)
    handler.stream = it.p
    return it, handler


def _warm(subject: Subject) -> None:
    """Make what is made once: pools, streams, tables."""
    for _ in range(3):
        it, _ = _source(subject)
        tensor = subject.from_dlpack(it.fake)
        tensor.__dlpack__(stream=it.cuda.stream(), max_version=(1, 3))
        del tensor
        subject.settle()


def _made(calls: Counter[str], names: tuple[str, ...]) -> dict[str, int]:
    return {name: calls[name] for name in names if calls[name]}


@checks("push.one-record-one-wait", "consumer", ON_SIMULATOR)
def one_record_one_wait(subject: Subject) -> None:
    _warm(subject)
    it, _ = _source(subject)
    with it.cuda.counting() as importing:
        tensor = subject.from_dlpack(it.fake)
    if _made(importing, ORDERING) != {"cuEventRecord": 1}:
        raise Failed("one record at the import", f"{_made(importing, ORDERING)}")
    for _ in range(2):
        with it.cuda.counting() as handing:
            tensor.__dlpack__(stream=it.cuda.stream(), max_version=(1, 3))
        if _made(handing, ORDERING) != {"cuStreamWaitEvent": 1}:
            raise Failed("one wait for a consuming stream", f"{_made(handing, ORDERING)}")


@checks("push.events-reused", "consumer", ON_SIMULATOR)
def events_reused(subject: Subject) -> None:
    _warm(subject)
    created = 0
    for _ in range(16):
        it, _ = _source(subject)
        c = it.cuda.stream()
        with it.cuda.counting() as calls:
            tensor = subject.from_dlpack(it.fake)
            tensor.__dlpack__(stream=c, max_version=(1, 3))
        created += calls["cuEventCreate"] + calls["cuEventCreateWithFlags"]
        it.cuda.synchronize(c)
        del tensor
        subject.settle()
    if created:
        raise Failed("no event created by 16 hand-offs in the steady state", f"{created}")


@checks("push.host-not-blocked", "consumer", ON_SIMULATOR)
def host_not_blocked(subject: Subject) -> None:
    _warm(subject)
    it, _ = _source(subject)
    c = it.cuda.stream()
    with it.cuda.counting() as calls:
        tensor = subject.from_dlpack(it.fake)
        tensor.__dlpack__(stream=c, max_version=(1, 3))
    found = _made(calls, (*HOST_WAITS, *QUERIES))
    if found:
        raise Failed("no host wait and no query", f"{found}")


@checks("push.same-stream-silent", "consumer", ON_SIMULATOR)
def same_stream_silent(subject: Subject) -> None:
    _warm(subject)
    it, _ = _source(subject)
    tensor = subject.from_dlpack(it.fake)
    with it.cuda.counting() as calls:
        tensor.__dlpack__(stream=it.p, max_version=(1, 3))
    if _made(calls, ORDERING):
        raise Failed("no call that orders a stream into itself", f"{_made(calls, ORDERING)}")


@checks("push.legacy-untouched", "consumer", ON_SIMULATOR)
def legacy_untouched(subject: Subject) -> None:
    _warm(subject)
    it, _ = _source(subject)
    c = it.cuda.stream()
    before = it.cuda.submitted(LEGACY)
    tensor = subject.from_dlpack(it.fake)
    tensor.__dlpack__(stream=c, max_version=(1, 3))
    del tensor
    subject.settle()
    used = it.cuda.submitted(LEGACY) - before
    if used:
        raise Failed("nothing in the legacy default stream", f"{used} operations")


@checks("tensor.ready-at-import", "consumer", ON_SIMULATOR)
def ready_at_import(subject: Subject) -> None:
    it, _ = _source(subject)
    c = it.cuda.stream()
    tensor = subject.from_dlpack(it.fake)
    latch = it.cuda.simulator.latch(it.p)
    it.cuda.fill(it.cuda.allocate(NBYTES), 9.0, 6, it.p)
    tensor.__dlpack__(stream=c, max_version=(1, 3))
    pending = it.cuda.read(it.at, NBYTES, c)
    asked = [it.cuda.is_idle(c) for _ in range(8)]
    seen = pending.floats()
    latch.open()
    it.cuda.synchronize(it.p)
    if not any(asked) or seen != [7.0] * 6:
        raise Failed("a consumer that does not wait for later work of the producer", "it waits")


@checks("tensor.any-thread", "consumer", ON_SIMULATOR)
def any_thread(subject: Subject) -> None:
    it, _ = _source(subject)
    tensor = subject.from_dlpack(it.fake)
    c = it.cuda.stream()
    problems: list[BaseException] = []

    def work() -> None:
        try:
            it.cuda.use(0)
            tensor.__dlpack__(stream=c, max_version=(1, 3))
            must_see(it.cuda, it.at, c, "a stream of another thread")
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if problems and isinstance(problems[0], Failed):
        raise problems[0]
    if problems:
        raise Failed("a hand-off in another thread", repr(problems[0]))


@checks("release.after-recorded-stream", "consumer", ON_SIMULATOR)
def after_recorded_stream(subject: Subject) -> None:
    it, _ = _source(subject)
    c = subject.new_stream()
    handle = subject.handle(c)
    tensor = subject.from_dlpack(it.fake)
    tensor.__dlpack__(stream=handle, max_version=(1, 3))
    tensor.record_stream(c)
    reading = it.cuda.read(it.at, NBYTES, handle)
    tensor.close()
    if not it.fake.deleted:  # parked: given back once the stream has done with it
        it.cuda.synchronize(handle)
    if not eventually(subject, lambda: it.fake.deleted > 0):
        raise Untested("see release.close-is-enough")
    it.cuda.fill(it.at, 9.0, 6, it.p)
    it.cuda.synchronize(it.p)
    it.cuda.synchronize(handle)
    if it.cuda.races():
        raise Failed("the consumer's reading before the producer's next write", it.cuda.races()[0])
    del reading


@checks("release.deleter-once", "consumer", ON_SIMULATOR)
def deleter_once(subject: Subject) -> None:
    it, _ = _source(subject)
    tensor = subject.from_dlpack(it.fake)
    capsule = tensor.__dlpack__(stream=it.cuda.stream(), max_version=(1, 3))
    tensor.close()
    del capsule
    tensor.close()
    del tensor
    it.cuda.synchronize(it.p)
    eventually(subject, lambda: it.fake.deleted > 0)
    if it.fake.deleted != it.fake.exports:
        raise Failed("one call of the deleter", f"{it.fake.deleted} for {it.fake.exports} exports")


@checks("release.close-is-enough", "consumer", ON_SIMULATOR)
def close_is_enough(subject: Subject) -> None:
    it, _ = _source(subject)
    tensor = subject.from_dlpack(it.fake)
    tensor.close()
    it.cuda.synchronize(it.p)
    if not eventually(subject, lambda: it.fake.deleted > 0):
        raise Failed("the producer's deleter to run after close()", "no call")
    del tensor


@checks("capture.refused-before-calls", "consumer", ON_SIMULATOR)
def refused_before_calls(subject: Subject) -> None:
    _warm(subject)
    it, _ = _source(subject)
    tensor = subject.from_dlpack(it.fake)
    c = it.cuda.stream()
    gc.collect()  # not settle: what is pending shall stay pending
    it.cuda.begin_capture(c)
    answer: Any = None
    with it.cuda.counting() as calls:
        try:
            answer = tensor.__dlpack__(stream=c, max_version=(1, 3))
        except Exception as error:
            answer = Raised(error)
    active = it.cuda.capture_status(c) == 1
    it.cuda.end_capture(c)
    if not isinstance(answer, Raised) or not isinstance(answer.error, BufferError):
        raise Failed("a BufferError for a stream that is being captured", f"{answer}")
    if _made(calls, ORDERING) or not active:
        raise Failed("no call that orders, and a capture that goes on", f"{_made(calls, ORDERING)}")
