"""What producers keep alive and what they let go: lifetime, deleters, leaks."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable

from .. import _probe, asking
from ..asking import (
    NEWEST,
    Export,
    Raised,
    ask,
    best,
    both_kinds,
    example,
    producer_snippet,
)
from ..engine import ANYWHERE, ON_HOST, checks
from ..looking import LEGACY, VERSIONED, gather, peek, read_managed
from ..subject import Subject
from ..verdict import Failed, Untested

#: Exports in one window of a leak check, and the growth by which each shows a leak.
WINDOW, ITEM = 300, 16


def _grows(subject: Subject, action: Callable[[], object]) -> int:
    """Bytes that malloc gave out and did not get back in each of two windows."""
    for _ in range(WINDOW // 3):
        action()
    growth = []
    before = _in_use(subject)
    for _ in range(2):
        for _ in range(WINDOW):
            action()
        now = _in_use(subject)
        growth.append(now - before)
        before = now
    return min(growth)


def _in_use(subject: Subject) -> int:
    """Bytes in use once nothing is left to collect, and nothing pending on a driver."""
    subject.settle()
    if subject.cuda is not None:
        subject.cuda.begin()
    return _probe.malloc_in_use()


@checks("deleter.frees-everything", "producer")
def frees_everything(subject: Subject) -> None:
    x = example(subject, (1, 2, 1, 3))
    for keywords in ({}, {"max_version": NEWEST}):
        if isinstance(ask(subject, x, **keywords), Raised):
            continue
        references = sys.getrefcount(x)
        growth = _grows(subject, functools.partial(ask, subject, x, **keywords))
        kept = sys.getrefcount(x) - references
        if kept > WINDOW // 2:
            raise Failed("no reference left by released exports", f"{kept} more references")
        if growth > WINDOW * ITEM:
            raise Failed(
                "no memory left by released exports", f"{growth} bytes more after {WINDOW} exports"
            )


@checks("export.failure-leaks-nothing", "producer")
def failure_leaks_nothing(subject: Subject) -> None:
    x = example(subject)
    failing = [
        (x, keywords)
        for keywords in ({"dl_device": (99, 0)}, {"dl_device": (2, 0)}, {"stream": "none"})
        if isinstance(ask(subject, x, **keywords), Raised)
    ]
    for make in subject.odd_arrays().values():
        odd = make()
        if isinstance(ask(subject, odd), Raised):
            failing.append((odd, {}))
    if not failing:
        raise Untested("no export was refused")
    for array, keywords in failing:
        references = sys.getrefcount(array)
        growth = _grows(subject, functools.partial(ask, subject, array, **keywords))
        kept = sys.getrefcount(array) - references
        if kept > WINDOW // 2 or growth > WINDOW * ITEM:
            raise Failed(
                "nothing left by a refused export",
                f"{kept} references and {growth} bytes more after {WINDOW} refusals of {keywords}",
            )


@checks("lifetime.export-outlives-source", "producer", ON_HOST)
def export_outlives_source(subject: Subject) -> None:
    dtype = subject.dtypes[0]
    for form in ("legacy", "versioned"):
        x = example(subject, (4, 64))
        answer = ask(subject, x, **({"max_version": NEWEST} if form == "versioned" else {}))
        if isinstance(answer, Raised):
            continue
        made = Export(answer, peek(answer, 2))
        del x, answer
        subject.settle()
        churn = [subject.make([7] * 256, (4, 64), dtype) for _ in range(16)]
        try:
            seen = gather(read_managed(made.managed.address, made.managed.versioned), dtype)
        except ValueError as error:
            raise Failed("readable memory after the source is gone", str(error)) from None
        if seen != [float(v) for v in range(256)]:
            raise Failed(
                "the same values after the source is gone",
                f"other values ({form} struct)",
                _outlives_snippet(subject, made.managed.versioned),
            )
        del churn


def _outlives_snippet(subject: Subject, versioned: bool) -> str:
    """Lines that export, drop the source, allocate as much again and read element one."""

    def array(values: str) -> str:
        return subject.make_code.format(values=values, shape=(4, 64), dtype="float32")

    base = 32 if versioned else 0
    return producer_snippet(
        subject,
        f"c = x.__dlpack__({'max_version=(1, 0)' if versioned else ''})",
        "POINTER",
        "del x; import gc; gc.collect()",
        f"churn = [{array('[7] * 256')} for _ in range(16)]",
        f"data, offset = [C.c_uint64.from_address(p + at).value for at in ({base}, {base + 40})]",
        "value = C.c_float.from_address(data + offset + 4).value",
        "assert value == 1, value",
        x=array("list(range(256))"),
        pointer=VERSIONED if versioned else LEGACY,
    )


@checks("lifetime.published-struct-frozen", "producer", ON_HOST)
def published_struct_frozen(subject: Subject) -> None:
    x = example(subject)
    made = best(subject, x)
    before = (made.managed, made.managed.shape, made.managed.strides)
    try:
        subject.mutate(x)
    except Untested:
        raise
    except Exception as error:
        raise Untested(f"the array refuses to change shape while exported: {error!r}") from None
    after = read_managed(made.managed.address, made.managed.versioned)
    if (after, after.shape, after.strides) != before:
        raise Failed(f"shape {before[1]} as published", f"shape {after.shape}")


@checks("deleter.leaves-no-exception", "producer")
def leaves_no_exception(subject: Subject) -> None:
    for made in _detached(subject):
        left = _probe.call_deleter(made.managed.address, made.managed.versioned, "here")
        if left is not None:
            raise Failed("no exception set by the deleter", repr(left))


@checks("deleter.with-gil", "producer")
def with_gil(subject: Subject) -> None:
    """A crash or a hang of this check is the failure."""
    for made in _detached(subject):
        _probe.call_deleter(made.managed.address, made.managed.versioned, "here")


@checks("deleter.foreign-thread", "producer")
def foreign_thread(subject: Subject) -> None:
    """A crash or a hang of this check is the failure."""
    for where in ("released", "thread", "thread"):
        for made in _detached(subject):
            _probe.call_deleter(made.managed.address, made.managed.versioned, where)


@checks("deleter.after-finalization", "producer", ANYWHERE, at_exit=True)
def after_finalization(subject: Subject) -> None:
    """Arms deleters for the end of the process; the runner sees whether it survives."""
    for made in _detached(subject):
        asking.on_try(
            "a process that survives its deleters after finalization",
            _exit_snippet(subject, made.managed.versioned),
        )
        _probe.at_exit_delete(made.managed.address, made.managed.versioned, exit_descriptor())


def _exit_snippet(subject: Subject, versioned: bool) -> str:
    """Lines that keep a capsule for good and have the C library call its deleter at exit."""
    return producer_snippet(
        subject,
        f"c = x.__dlpack__({'max_version=(1, 0)' if versioned else ''})",
        "POINTER",
        "C.pythonapi.Py_IncRef(C.py_object(c))",
        f"deleter = C.c_void_p.from_address(p + {16 if versioned else 56})",
        "C.CDLL(None).__cxa_atexit(deleter, C.c_void_p(p), None)",
        pointer=VERSIONED if versioned else LEGACY,
    )


def exit_descriptor() -> int:
    """Where "survived" is written, if the worker said so."""
    return int(os.environ.get("DLX_CONFORMANCE_EXIT_FD", "-1"))


def _detached(subject: Subject) -> list[Export]:
    """Exports that their capsules no longer own: the caller has to run the deleter."""
    found = [made for made in both_kinds(subject, example(subject)) if made.managed.deleter]
    if not found:
        raise Untested("it publishes a NULL deleter")
    for made in found:
        name = VERSIONED if made.managed.versioned else LEGACY
        _probe.capsule_rename(made.capsule, "used_" + name)
        made.capsule = None
    return found


@checks("export.concurrent", "producer")
def concurrent(subject: Subject) -> None:
    x = example(subject)
    asked = (
        {} if isinstance(ask(subject, x, max_version=NEWEST), Raised) else {"max_version": NEWEST}
    )
    shapes: list[tuple[int, ...]] = []
    problems: list[BaseException] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        try:
            for answer in [ask(subject, x, **asked) for _ in range(50)]:
                if isinstance(answer, Raised):
                    raise answer.error
                shapes.append(peek(answer, 2).shape)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems and isinstance(problems[0], Untested):
        raise problems[0]
    if problems:
        raise Failed("200 exports by 4 threads", f"{problems[0]!r}")
    if shapes != [(2, 3)] * 200:
        raise Failed("200 exports of shape (2, 3)", f"{len(shapes)}, {set(shapes)}")
