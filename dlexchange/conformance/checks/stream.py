"""Streams of producers, judged by what they do to the driver."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

from .. import _probe
from ..asking import NEWEST, Raised, ask, on_simulator, producer_snippet
from ..cuda import HOST_WAITS, LEGACY, ORDERING, PER_THREAD, Cuda
from ..engine import ON_CUDA, ON_SIMULATOR, checks
from ..looking import LEGACY as LEGACY_NAME
from ..looking import VERSIONED, gather, peek
from ..subject import Subject
from ..verdict import Failed, Untested

SIX = [7.0] * 6
NBYTES = 24


@dataclass
class Busy:
    """An array of six floats with a pending write of sevens on the stream `p`."""

    cuda: Cuda
    x: Any
    at: int
    p: Any


def array_on(subject: Subject, stream: Any) -> Any:
    """An array of six ones whose memory is ready, made under a stream."""
    with subject.using(stream):
        x = subject.make([1] * 6, (2, 3), "float32")
    subject.stage().synchronize(subject.handle(stream))
    return x


def busy(subject: Subject) -> Busy:
    """An array that is being written on a stream of its own."""
    cuda = subject.stage()
    p = subject.new_stream()
    x = subject.written(7.0, p)
    return Busy(cuda, x, subject.address(x), p)


def exported(subject: Subject, x: Any, **keywords: Any) -> Any:
    """A capsule.

    Raises
    ------
    Untested
        It raised; the clause about that says so.
    """
    answer = ask(subject, x, max_version=NEWEST, **keywords)
    if isinstance(answer, Raised):
        raise Untested(f"__dlpack__({keywords}) raised {answer}")
    return answer


def must_see(cuda: Cuda, at: int, stream: int, what: str, snippet: str = "") -> None:
    """Demand that work put into `stream` now reads the pending sevens."""
    pending = cuda.read(at, NBYTES, stream)
    cuda.synchronize(stream)
    seen, races = pending.floats(), cuda.races()
    if seen != SIX or races:
        stale = f"{seen}" if seen != SIX else f"the right values by luck: {races[0]}"
        raise Failed(f"the pending values on {what}", stale, snippet)


def orders(subject: Subject) -> None:
    """Pass over a subject that orders nothing: it is told so once.

    Raises
    ------
    Untested
        The plainest export orders nothing.
    """
    try:
        pending_work_seen(subject)
    except Failed:
        raise Untested("it orders nothing: see stream.pending-work-seen") from None


def stream_snippet(subject: Subject, argument: str, read_on: str, under: str = "p") -> str:
    """Lines that export with ``stream=argument`` and read on ``read_on``, on the simulator.

    The stream ``under`` is current in the export, "p" where the write is pending or "q".
    """
    if not (subject.imports and subject.make_code and subject.fill_code and subject.stream_code):
        return ""
    fill = subject.fill_code.replace("{a}", "x").replace("{s}", "p").replace("{value}", "7.0")
    make = subject.make_text([1] * 6, (2, 3), "float32")
    current = subject.using_code.replace("{s}", "p")
    at = subject.address_code.replace("{a}", "x")
    with_current = f"with {current}: " if current else ""
    exporting = f"with {subject.using_code.replace('{s}', under)}: " if current else ""
    return "\n".join(
        [
            *on_simulator(subject),
            subject.imports,
            f"import ctypes; c, host = sim.stream(), (ctypes.c_float * 6)(); "
            f"p, q = {subject.stream_code}, {subject.stream_code}",
            f"{with_current}x = {make}",
            "sim.run(); sim.clear_findings()",
            fill,
            f"{exporting}capsule = x.__dlpack__(stream={argument}, max_version=(1, 0))",
            f"sim.driver('cuMemcpyDtoHAsync_v2', host, {at}, 24, {read_on})",
            "assert set(host) == {7.0} and not sim.findings, (list(host), sim.findings)",
        ]
    )


@checks("stream.pending-work-seen", "producer", ON_CUDA)
def pending_work_seen(subject: Subject) -> None:
    it = busy(subject)
    c = it.cuda.stream()
    with it.cuda.holding(subject.handle(it.p)), subject.using(it.p):
        capsule = exported(subject, it.x, stream=c)
    must_see(
        it.cuda, it.at, c, "the consumer's stream", stream_snippet(subject, "c.handle", "c.handle")
    )
    del capsule


@checks("stream.host-not-blocked", "producer", ON_CUDA)
def host_not_blocked(subject: Subject) -> None:
    it = busy(subject)
    c = it.cuda.stream()
    with it.cuda.holding(subject.handle(it.p)) as blocked, subject.using(it.p):
        calls = _calls_of_export(it.cuda, subject, it.x, stream=c)
        if blocked():
            raise Failed("an export while the producer's stream is held", "the host blocked")
    waits = {name: calls[name] for name in HOST_WAITS if calls[name]}
    if waits:
        raise Failed("no host wait", f"{waits}")


def _calls_of_export(cuda: Cuda, subject: Subject, x: Any, **keywords: Any) -> Counter[str]:
    """The driver calls that an export makes; none where they are not counted."""
    if cuda.simulator is None:
        exported(subject, x, **keywords)
        return Counter()
    with cuda.counting() as calls:
        exported(subject, x, **keywords)
    return calls


@checks("stream.every-writing-stream", "producer", ON_CUDA)
def every_writing_stream(subject: Subject) -> None:
    orders(subject)
    it = busy(subject)
    other, c = subject.new_stream(), it.cuda.stream()
    with it.cuda.holding(subject.handle(it.p)), subject.using(other):
        capsule = exported(subject, it.x, stream=c)
    what = "the consumer's stream, though another stream of the producer is current"
    must_see(it.cuda, it.at, c, what, stream_snippet(subject, "c.handle", "c.handle", "q"))
    del capsule


@checks("stream.pending-reads-covered", "producer", ON_SIMULATOR)
def pending_reads_covered(subject: Subject) -> None:
    orders(subject)
    it = busy(subject)
    it.cuda.synchronize(subject.handle(it.p))
    it.cuda.begin()
    kept = subject.touch(it.x, it.p)
    c = it.cuda.stream()
    with subject.using(it.p):
        capsule = exported(subject, it.x, stream=c)
    it.cuda.fill(it.at, 9.0, 6, c)
    it.cuda.synchronize(c)
    it.cuda.synchronize(subject.handle(it.p))
    if it.cuda.races():
        raise Failed("a consumer's write ordered after the producer's read", it.cuda.races()[0])
    del kept, capsule


@checks("stream.same-stream-elided", "producer", ON_SIMULATOR)
def same_stream_elided(subject: Subject) -> None:
    it = busy(subject)
    with subject.using(it.p):
        exported(subject, it.x, stream=-1)  # whatever is made once has been made
        calls = _calls_of_export(it.cuda, subject, it.x, stream=subject.handle(it.p))
    made = {name: calls[name] for name in ORDERING if calls[name]}
    if made:
        raise Failed("no driver call that orders a stream into itself", f"{made}")


@checks("stream.none-is-legacy", "producer", ON_CUDA)
def none_is_legacy(subject: Subject) -> None:
    orders(subject)
    it = busy(subject)
    with it.cuda.holding(subject.handle(it.p)), subject.using(it.p):
        capsule = exported(subject, it.x, stream=None)
    must_see(
        it.cuda, it.at, LEGACY, "the legacy default stream", stream_snippet(subject, "None", "1")
    )
    del capsule


@checks("stream.one-is-legacy", "producer", ON_CUDA)
def one_is_legacy(subject: Subject) -> None:
    orders(subject)
    it = busy(subject)
    with it.cuda.holding(subject.handle(it.p)), subject.using(it.p):
        capsule = exported(subject, it.x, stream=1)
    must_see(it.cuda, it.at, LEGACY, "the legacy default stream", stream_snippet(subject, "1", "1"))
    del capsule


@checks("stream.two-is-per-thread", "producer", ON_CUDA)
def two_is_per_thread(subject: Subject) -> None:
    orders(subject)
    it = busy(subject)
    with it.cuda.holding(subject.handle(it.p)), subject.using(it.p):
        capsule = exported(subject, it.x, stream=2)
    must_see(
        it.cuda,
        it.at,
        PER_THREAD,
        "the per-thread default stream",
        stream_snippet(subject, "2", "2"),
    )
    del capsule


@checks("stream.two-in-calling-thread", "producer", ON_CUDA)
def two_in_calling_thread(subject: Subject) -> None:
    orders(subject)
    it = busy(subject)
    problems: list[BaseException] = []

    def work() -> None:
        try:
            it.cuda.use(0)
            with subject.using(it.p):
                capsule = exported(subject, it.x, stream=2)
            must_see(it.cuda, it.at, PER_THREAD, "the calling thread's default stream")
            del capsule
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]


@checks("stream.zero-refused", "producer", ON_CUDA)
def zero_refused(subject: Subject) -> None:
    it = busy(subject)
    with subject.using(it.p):
        answer = ask(subject, it.x, stream=0)
    if not isinstance(answer, Raised):
        raise Failed("an exception for stream=0", "an export", _raise_snippet(subject, "0"))


@checks("stream.bad-values-refused", "producer", ON_CUDA)
def bad_values_refused(subject: Subject) -> None:
    it = busy(subject)
    for stream in (-2, 1.5, "a stream"):
        with subject.using(it.p):
            answer = ask(subject, it.x, stream=stream)
        if not isinstance(answer, Raised):
            raise Failed(
                f"an exception for stream={stream!r}",
                "an export",
                _raise_snippet(subject, repr(stream)),
            )


def _raise_snippet(subject: Subject, argument: str) -> str:
    if not (subject.imports and subject.make_code and subject.stream_code):
        return ""
    current = subject.using_code.replace("{s}", "p")
    with_current = f"with {current}: " if current else ""
    return "\n".join(
        [
            *on_simulator(subject),
            subject.imports,
            f"p = {subject.stream_code}",
            f"{with_current}x = {subject.make_text([1] * 6, (2, 3), 'float32')}",
            f"try: x.__dlpack__(stream={argument})",
            "except Exception: pass",
            "else: assert False, 'an export'",
        ]
    )


@checks("stream.minus-one-is-silent", "producer", ON_SIMULATOR)
def minus_one_is_silent(subject: Subject) -> None:
    it = busy(subject)
    with subject.using(it.p):
        calls = _calls_of_export(it.cuda, subject, it.x, stream=-1)
    made = {name: calls[name] for name in ORDERING if calls[name]}
    if made:
        raise Failed("no driver call that orders or waits", f"{made}")


@checks("stream.not-kept", "producer", ON_SIMULATOR)
def not_kept(subject: Subject) -> None:
    it = busy(subject)
    c = it.cuda.stream()
    with subject.using(it.p):
        capsule = exported(subject, it.x, stream=c)
    before = it.cuda.submitted(c)
    managed = peek(capsule, 2)
    name = VERSIONED if managed.versioned else LEGACY_NAME
    if managed.deleter:
        _probe.capsule_rename(capsule, "used_" + name)
        _probe.call_deleter(managed.address, managed.versioned, "here")
    del capsule
    it.x = None
    subject.settle()
    used = it.cuda.submitted(c) - before
    if used:
        raise Failed(
            "no use of the consumer's stream after the call, nor in the deleter",
            f"{used} operations",
        )


@checks("stream.events-returned", "producer", ON_SIMULATOR)
def events_returned(subject: Subject) -> None:
    it = busy(subject)
    c = it.cuda.stream()

    def once() -> None:
        with subject.using(it.p):
            ask(subject, it.x, stream=c)

    for _ in range(4):
        once()
    before = it.cuda.alive("event")
    for _ in range(16):
        once()
    after_success = it.cuda.alive("event")
    for _ in range(16):
        it.cuda.fail("cuStreamWaitEvent")
        once()
    it.cuda.fail("cuStreamWaitEvent", 0)
    leaked = max(after_success - before, it.cuda.alive("event") - after_success)
    if leaked >= 8:
        raise Failed("no more events alive after 16 exports, failed ones too", f"{leaked} more")


@checks("stream.driver-error-raises", "producer", ON_SIMULATOR)
def driver_error_raises(subject: Subject) -> None:
    it = busy(subject)
    c = it.cuda.stream()
    with subject.using(it.p):
        calls = _calls_of_export(it.cuda, subject, it.x, stream=c)
    needed = [n for n in ("cuEventRecord", "cuStreamWaitEvent", *HOST_WAITS) if calls[n]]
    if not needed:
        raise Untested("an export makes no driver call that could fail")
    for name in needed:
        it = busy(subject)
        it.cuda.fail(name)
        with subject.using(it.p):
            answer = ask(subject, it.x, max_version=NEWEST, stream=c)
        it.cuda.fail(name, 0)
        if not isinstance(answer, Raised):
            raise Failed(f"an exception when {name} fails", "an export without order")
        with subject.using(it.p):
            again = ask(subject, it.x, max_version=NEWEST, stream=c)
        if isinstance(again, Raised):
            raise Failed(f"an export once {name} works again", str(again))


@checks("stream.idle-needs-nothing", "producer", ON_SIMULATOR)
def idle_needs_nothing(subject: Subject) -> None:
    it = busy(subject)
    it.cuda.synchronize(subject.handle(it.p))
    c = it.cuda.stream()
    with subject.using(it.p):
        calls = _calls_of_export(it.cuda, subject, it.x, stream=c)
    waits = {name: calls[name] for name in HOST_WAITS if calls[name]}
    if waits:
        raise Failed("no host wait for an array without pending work", f"{waits}")


@checks("stream.no-device-synchronisation", "producer", ON_SIMULATOR)
def no_device_synchronisation(subject: Subject) -> None:
    it = busy(subject)
    c = it.cuda.stream()
    for stream in (c, None, 1):
        with subject.using(it.p):
            calls = _calls_of_export(it.cuda, subject, it.x, stream=stream)
        if calls["cuCtxSynchronize"]:
            raise Failed(f"no synchronisation of the device for stream={stream}", "one")


@checks("stream.handles-to-64-bits", "producer", ON_SIMULATOR)
def handles_to_64_bits(subject: Subject) -> None:
    it = busy(subject)
    with subject.using(it.p):
        answer = ask(subject, it.x, stream=0xFFFF_8000_0000_0000)
    if isinstance(answer, Raised) and isinstance(answer.error, (OverflowError, TypeError)):
        raise Failed("a handle of 64 bits to reach the driver", str(answer))


@checks("stream.copy-ordered", "producer", ON_CUDA)
def copy_ordered(subject: Subject) -> None:
    orders(subject)
    it = busy(subject)
    c = it.cuda.stream()
    with it.cuda.holding(subject.handle(it.p)), subject.using(it.p):
        capsule = exported(subject, it.x, stream=c, copy=True)
    must_see(it.cuda, peek(capsule, 2).first, c, "the consumer's stream, in the copy")
    del capsule


@checks("copy.to-host", "producer", ON_CUDA)
def copy_to_host(subject: Subject) -> None:
    it = busy(subject)
    with subject.using(it.p):
        answer = ask(subject, it.x, max_version=NEWEST, dl_device=(1, 0))
    if isinstance(answer, Raised):
        raise Failed(
            "an export to the host",
            str(answer),
            producer_snippet(
                subject,
                "try: x.__dlpack__(dl_device=(1, 0))",
                "except Exception as e: raise AssertionError(f'{type(e).__name__}: {e}')",
            ),
        )
    device = peek(answer, 2).device
    if device[0] != 1:
        raise Failed("host memory", f"device {device}")


@checks("stream.host-copy-complete", "producer", ON_CUDA)
def host_copy_complete(subject: Subject) -> None:
    it = busy(subject)
    with subject.using(it.p):
        answer = exported(subject, it.x, dl_device=(1, 0))
        managed = peek(answer, 2)
        if managed.device[0] != 1:
            raise Untested("see copy.to-host")
        seen = gather(managed, "float32")
    if seen != SIX:
        raise Failed("the pending values on the host when the call returns", f"{seen}")


@checks("deleter.no-host-synchronisation", "producer", ON_SIMULATOR)
def deleter_without_host_synchronisation(subject: Subject) -> None:
    it = busy(subject)
    c = it.cuda.stream()
    with subject.using(it.p):
        capsule = exported(subject, it.x, stream=c)
    it.x = None
    with it.cuda.counting() as calls:
        del capsule
        subject.settle()
    waits = {name: calls[name] for name in HOST_WAITS if calls[name]}
    if waits:
        raise Failed("no host wait in the deleter", f"{waits}")


@checks("deleter.any-context", "producer", ON_CUDA)
def deleter_in_any_context(subject: Subject) -> None:
    it = busy(subject)
    with subject.using(it.p):
        capsule = exported(subject, it.x, stream=it.cuda.stream())
    it.cuda.synchronize(subject.handle(it.p))
    it.cuda.begin()
    managed = peek(capsule, 2)
    if not managed.deleter:
        raise Untested("it publishes a NULL deleter")
    _probe.capsule_rename(capsule, "used_" + (VERSIONED if managed.versioned else LEGACY_NAME))
    it.x = None
    problems: list[str] = []

    def work() -> None:
        it.cuda.use(None)
        left = _probe.call_deleter(managed.address, managed.versioned, "here")
        if left is not None:
            problems.append(repr(left))
        if it.cuda.current():
            problems.append("a context became current and stayed")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if it.cuda.races():
        problems.append(it.cuda.races()[0])
    if problems:
        raise Failed("a deleter that works without a current context", problems[0])
