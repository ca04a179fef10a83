"""Streams of consumers, given memory that a stream of the suite is still writing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..asking import Raised, device_pair, eventually, try_import
from ..cuda import LEGACY, Cuda
from ..engine import ON_CUDA, ON_SIMULATOR, checks
from ..fakes import FakeProducer, tabled
from ..subject import Subject
from ..verdict import Failed, Untested
from .stream import NBYTES, must_see

SILENT = -1


@dataclass
class Source:
    """A fake over device memory with a pending write of sevens on the stream `p`."""

    cuda: Cuda
    fake: FakeProducer
    at: int
    p: int


def source(subject: Subject, kind: type[FakeProducer] = FakeProducer, p: int = 0) -> Source:
    """Device memory of six ones, a pending write, and a producer that orders as it should."""
    cuda = subject.stage()
    p = p or cuda.stream()
    at = cuda.allocate(NBYTES)
    cuda.fill(at, 1.0, 6, p)
    cuda.synchronize(p)
    cuda.begin()
    cuda.fill(at, 7.0, 6, p)

    def order(asked: dict[str, Any]) -> None:
        stream = asked.get("stream")
        if stream != SILENT:
            cuda.order(p, LEGACY if stream is None else int(stream))

    fake = kind(shape=(2, 3), device=(2, 0), data=at, before=order)
    return Source(cuda, fake, at, p)


def _imported(subject: Subject, x: Any, stream: Any) -> Any:
    try:
        return subject.import_on(x, stream)
    except Untested:
        raise
    except Exception as error:
        raise Untested(f"it imports no CUDA memory: {error!r}") from None


@checks("stream.consumer-passes-stream", "consumer", ON_CUDA)
def consumer_passes_stream(subject: Subject) -> None:
    it = source(subject)
    array = _imported(subject, it.fake, subject.new_stream())
    passed = [asked.get("stream") for asked in it.fake.asked]
    if not passed or passed[-1] is None:
        raise Failed("a stream in the call of __dlpack__", "none")
    del array


@checks("stream.consumer-stream-current", "consumer", ON_CUDA)
def consumer_stream_current(subject: Subject) -> None:
    it = source(subject)
    s = subject.new_stream()
    array = _imported(subject, it.fake, s)
    must_see(it.cuda, it.at, subject.handle(s), "the stream that the consumer works on")
    del array


@checks("stream.consumer-never-zero", "consumer", ON_CUDA)
def consumer_never_zero(subject: Subject) -> None:
    it = source(subject)
    array = try_import(subject, it.fake)
    if not it.fake.asked:
        raise Untested(f"it imports no CUDA memory: {array}")
    if any(asked.get("stream") == 0 and asked.get("stream") is not None for asked in it.fake.asked):
        raise Failed("1, 2 or a handle", "stream=0")
    del array


@checks("stream.default-passed-explicitly", "consumer", ON_CUDA)
def default_passed_explicitly(subject: Subject) -> None:
    it = source(subject)
    array = try_import(subject, it.fake)
    if isinstance(array, Raised):
        raise Untested(f"it imports no CUDA memory: {array}")
    passed = [asked.get("stream") for asked in it.fake.asked]
    if not passed or passed[-1] is None:
        raise Failed("the default stream by its number", "None, or nothing")
    del array


@checks("release.after-consumer-work", "consumer", ON_SIMULATOR)
def after_consumer_work(subject: Subject) -> None:
    it = source(subject)
    s = subject.new_stream()
    array = _imported(subject, it.fake, s)
    it.cuda.order(it.p, subject.handle(s))  # what the import did or did not do is not the matter
    reading = subject.touch(array, s)
    del array
    subject.settle()
    if not it.fake.deleted:
        it.cuda.synchronize(subject.handle(s))
    if not eventually(subject, lambda: it.fake.deleted >= it.fake.exports):
        raise Untested("see deleter.once-at-the-end")
    it.cuda.fill(it.at, 9.0, 6, it.p)
    it.cuda.synchronize(it.p)
    it.cuda.synchronize(subject.handle(s))
    if it.cuda.races():
        raise Failed(
            "the consumer's reading done, or ordered before what the producer does next",
            it.cuda.races()[0],
        )
    del reading


@checks("device.context-restored", "consumer", ON_CUDA)
def context_restored(subject: Subject) -> None:
    it = source(subject)
    if it.cuda.devices < 2:
        raise Untested("there is one device only")
    s = subject.new_stream()
    with subject.using(s):
        it.cuda.use(1)
        before = it.cuda.current()
        array = try_import(subject, it.fake)
        after = it.cuda.current()
    it.cuda.use(0)
    if after != before:
        raise Failed("the same current context after an import", "another one")
    del array


@checks("import.same-device", "consumer", ON_CUDA)
def same_device(subject: Subject) -> None:
    it = source(subject)
    array = _imported(subject, it.fake, subject.new_stream())
    if not hasattr(array, "__dlpack_device__"):
        raise Untested("its arrays tell no device")
    said = device_pair(subject, array)
    if said != (2, 0):
        raise Failed("an array on (2, 0)", f"{said}")


@checks("api.consumer-orders", "consumer", ON_CUDA)
def consumer_orders(subject: Subject) -> None:
    kind, handler = tabled()
    it = source(subject, kind)
    handler.stream = it.p
    s = subject.new_stream()
    array = _imported(subject, it.fake, s)
    if not {"from_py", "dltensor"} & set(handler.calls) or it.fake.asked:
        raise Untested("it does not use exchange API tables for CUDA memory")
    must_see(it.cuda, it.at, subject.handle(s), "the consumer's stream")
    del array


@checks("api.null-stream-not-zero", "consumer", ON_CUDA)
def null_stream_not_zero(subject: Subject) -> None:
    kind, handler = tabled()
    it = source(subject, kind, LEGACY)
    handler.stream = 0
    s = subject.new_stream()
    array = _imported(subject, it.fake, s)
    if not handler.calls:
        raise Untested("it does not use exchange API tables")
    if any(asked.get("stream") == 0 for asked in it.fake.asked):
        raise Failed("1 where the work stream is NULL", "stream=0")
    must_see(it.cuda, it.at, subject.handle(s), "the consumer's stream")
    del array
