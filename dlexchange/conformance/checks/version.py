"""Keywords of ``__dlpack__``: version, copy, device and, on the host, stream."""

from __future__ import annotations

from typing import Any

from ..asking import (
    NEWEST,
    Export,
    Raised,
    ask,
    best,
    device_pair,
    example,
    export,
    producer_snippet,
)
from ..engine import ON_HOST, checks
from ..looking import gather, peek
from ..subject import Subject
from ..verdict import Failed, Untested

FAR = (99, 0)


def _snippet(subject: Subject, call: str, demand: str) -> str:
    return producer_snippet(subject, f"c = x.__dlpack__({call})", demand)


def _raises(subject: Subject, call: str, kind: str) -> str:
    """A snippet that fails unless the call returns or raises `kind`."""
    return producer_snippet(
        subject,
        f"try: x.__dlpack__({call})",
        f"except {kind}: pass",
        "except Exception as e: raise AssertionError(f'{type(e).__name__}: {e}')",
    )


def _must_raise(subject: Subject, call: str) -> str:
    return producer_snippet(
        subject,
        f"try: x.__dlpack__({call})",
        "except Exception: pass",
        "else: assert False, 'an export'",
    )


@checks("version.legacy-by-default", "producer")
def legacy_by_default(subject: Subject) -> None:
    answer = ask(subject, example(subject))
    if isinstance(answer, Raised):
        if isinstance(answer.error, BufferError):
            return
        raise Failed(
            "the legacy struct or BufferError", str(answer), _raises(subject, "", "BufferError")
        )
    managed = peek(answer, 2)
    if managed.versioned:
        raise Failed(
            "the legacy struct, as no version was asked for",
            "the versioned struct",
            _snippet(subject, "", "assert '\"dltensor\"' in repr(c), c"),
        )


def _own(subject: Subject, x: Any) -> tuple[bool, tuple[int, int]]:
    """Form and version of the newest export."""
    managed = export(subject, x, 2, max_version=FAR).managed
    return managed.versioned, managed.version


@checks("version.newer-asked-gives-own", "producer")
def newer_asked_gives_own(subject: Subject) -> None:
    x = example(subject)
    usual = ask(subject, x, max_version=NEWEST)
    if isinstance(usual, Raised):
        raise Untested(f"it refuses max_version: {usual}")
    own = peek(usual, 2)
    for asked in (FAR, (2, 0)):
        answer = ask(subject, x, max_version=asked)
        if isinstance(answer, Raised):
            raise Failed(
                f"its own newest version for max_version={asked}",
                str(answer),
                _raises(subject, f"max_version={asked}", "()"),
            )
        managed = peek(answer, 2)
        if (managed.versioned, managed.version) != (own.versioned, own.version):
            raise Failed(
                f"the same version for max_version={asked} as for {NEWEST}",
                f"versioned {managed.versioned}, {managed.version}",
            )


@checks("version.minor-may-exceed", "producer")
def minor_may_exceed(subject: Subject) -> None:
    x = example(subject)
    versioned, version = _own(subject, x)
    if not versioned:
        raise Untested("it has the legacy struct only")
    managed = export(subject, x, 2, max_version=(version[0], 0)).managed
    if (managed.versioned, managed.version) != (versioned, version):
        raise Failed(
            f"its own version {version} for max_version=({version[0]}, 0)",
            f"{managed.version if managed.versioned else 'the legacy struct'}",
        )


@checks("version.older-major-falls-back", "producer")
def older_major_falls_back(subject: Subject) -> None:
    x = example(subject)
    if isinstance(ask(subject, x, max_version=NEWEST), Raised):
        raise Untested("it refuses max_version")
    for asked in ((0, 8), (0, 0)):
        answer = ask(subject, x, max_version=asked)
        if isinstance(answer, Raised):
            if not isinstance(answer.error, BufferError):
                raise Failed(
                    f"the legacy struct or BufferError for max_version={asked}",
                    str(answer),
                    _raises(subject, f"max_version={asked}", "BufferError"),
                )
        elif peek(answer, 2).versioned:
            raise Failed(
                f"the legacy struct or BufferError for max_version={asked}",
                "the versioned struct",
                _snippet(subject, f"max_version={asked}", "assert '\"dltensor\"' in repr(c), c"),
            )


@checks("version.both-structs", "producer")
def both_structs(subject: Subject) -> None:
    x = example(subject)
    legacy, newest = ask(subject, x), ask(subject, x, max_version=NEWEST)
    for name, answer, call in (("legacy", legacy, ""), ("versioned", newest, "max_version=(1, 0)")):
        if isinstance(answer, Raised):
            raise Failed(f"the {name} struct", str(answer), _raises(subject, call, "()"))
    if not peek(newest, 2).versioned:
        raise Failed(
            "the versioned struct when version 1 is asked for",
            "the legacy struct",
            _snippet(
                subject, "max_version=(1, 0)", "assert '\"dltensor_versioned\"' in repr(c), c"
            ),
        )


@checks("version.pair", "producer")
def pair(subject: Subject) -> None:
    x = example(subject)
    if isinstance(ask(subject, x, max_version=NEWEST), Raised):
        raise Untested("it refuses max_version")
    for wrong in ("1.0", 1, (1,)):
        if not isinstance(ask(subject, x, max_version=wrong), Raised):
            raise Failed(
                f"an exception for max_version={wrong!r}",
                "an export",
                _must_raise(subject, f"max_version={wrong!r}"),
            )


@checks("keywords.accepted", "producer")
def accepted(subject: Subject) -> None:
    x = example(subject)
    for keyword in ("stream", "max_version", "dl_device", "copy"):
        answer = ask(subject, x, **{keyword: None})
        if isinstance(answer, Raised) and isinstance(answer.error, TypeError):
            raise Failed(
                f"{keyword}=None to be taken",
                str(answer),
                _raises(subject, f"{keyword}=None", "BufferError"),
            )


@checks("keywords.keyword-only", "producer")
def keyword_only(subject: Subject) -> None:
    x = example(subject)
    if not hasattr(x, "__dlpack__"):
        raise Untested("its arrays have no __dlpack__")
    try:
        x.__dlpack__(None)
    except TypeError:
        return
    except Exception as error:
        raise Failed("TypeError for a positional argument", repr(error)) from None
    raise Failed(
        "TypeError for a positional argument",
        "an export",
        producer_snippet(
            subject,
            "try: x.__dlpack__(None)",
            "except TypeError: pass",
            "else: assert False, 'an export'",
        ),
    )


# --- copy


def _copy(subject: Subject, x: Any, copy: Any, **more: Any) -> Export:
    return best(subject, x, copy=copy, **more)


def _takes(subject: Subject, x: Any, **keywords: Any) -> None:
    answer = ask(subject, x, **keywords)
    if isinstance(answer, Raised) and isinstance(answer.error, TypeError):
        raise Untested(f"it does not take {', '.join(keywords)}: see keywords.accepted")


def _own_memory_snippet(subject: Subject) -> str:
    return producer_snippet(
        subject,
        "G = C.PYFUNCTYPE(C.c_void_p, C.py_object, C.c_char_p)"
        '(("PyCapsule_GetPointer", C.pythonapi))',
        "kept = [x.__dlpack__(copy=copy) for copy in (None, True)]",
        "at = [C.c_uint64.from_address(G(c, b'dltensor')).value for c in kept]",
        "assert at[0] != at[1], at",
        imports=("import ctypes as C",),
    )


@checks("copy.true-copies", "producer")
def true_copies(subject: Subject) -> None:
    x = example(subject)
    _takes(subject, x, copy=True)
    shared = best(subject, x)
    answer = ask(subject, x, max_version=NEWEST, copy=True)
    if isinstance(answer, Raised):
        raise Untested(f"it declines: {answer}")
    if peek(answer, 2).first == shared.managed.first:
        raise Failed(
            "memory of its own for copy=True",
            "the array's own memory",
            _own_memory_snippet(subject),
        )


@checks("copy.false-shares", "producer")
def false_shares(subject: Subject) -> None:
    x = example(subject)
    _takes(subject, x, copy=False)
    first = ask(subject, x, max_version=NEWEST, copy=False)
    answer = ask(subject, x, max_version=NEWEST, copy=False)
    if isinstance(answer, Raised):
        if not isinstance(answer.error, BufferError):
            raise Failed(
                "shared memory or BufferError for copy=False",
                str(answer),
                _raises(subject, "copy=False", "BufferError"),
            )
    elif isinstance(first, Raised) or peek(answer, 2).first != peek(first, 2).first:
        raise Failed("the same memory for two exports with copy=False", "two places")


@checks("copy.none-shares", "producer")
def none_shares(subject: Subject) -> None:
    x = example(subject)
    first, second = best(subject, x), best(subject, x)
    both_say_copied = first.managed.flags & second.managed.flags & 2
    if first.managed.first != second.managed.first and not both_say_copied:
        raise Failed("the same memory for two exports", "two places")


@checks("copy.alone", "producer")
def alone(subject: Subject) -> None:
    x = example(subject)
    first, second = _copy(subject, x, True), _copy(subject, x, True)
    shared = best(subject, x)
    if first.managed.first == shared.managed.first:
        raise Untested("see copy.true-copies")
    if first.managed.first == second.managed.first:
        raise Failed("memory of its own for each copy", "two copies at one place")
    if subject.ground != "host":
        return
    try:
        subject.write(x, 9)
    except Untested:
        return
    if gather(first.managed, subject.dtypes[0]) != [float(v) for v in range(6)]:
        raise Failed("a copy that keeps its values", "the source's new values")


@checks("copy.legacy-copies-too", "producer")
def legacy_copies_too(subject: Subject) -> None:
    x = example(subject)
    _takes(subject, x, copy=True)
    answer = ask(subject, x, copy=True)
    if isinstance(answer, Raised):
        raise Untested(f"it makes no legacy copy: {answer}")
    managed = peek(answer, 2)
    if managed.versioned:
        raise Untested("it has no legacy struct")
    if managed.first == best(subject, x).managed.first:
        raise Failed(
            "memory of its own for copy=True without max_version",
            "the array's own",
            _own_memory_snippet(subject),
        )


@checks("copy.not-a-bool", "producer")
def not_a_bool(subject: Subject) -> None:
    x = example(subject)
    _takes(subject, x, copy=True)
    if not isinstance(ask(subject, x, copy="yes"), Raised):
        raise Failed("an exception for copy='yes'", "an export", _must_raise(subject, "copy='yes'"))


# --- device


@checks("copy.own-device-as-is", "producer")
def own_device_as_is(subject: Subject) -> None:
    x = example(subject)
    _takes(subject, x, dl_device=None)
    shared = best(subject, x)
    own = device_pair(subject, x)
    for asked in (None, own):
        answer = ask(subject, x, max_version=NEWEST, dl_device=asked)
        if isinstance(answer, Raised):
            raise Failed(
                f"an export for dl_device={asked}",
                str(answer),
                _raises(subject, f"dl_device={asked}", "()"),
            )
        managed = peek(answer, 2)
        if (managed.first, managed.device) != (shared.managed.first, shared.managed.device):
            raise Failed(f"the array as it is for dl_device={asked}", f"{managed}")


@checks("copy.unknown-device-refused", "producer")
def unknown_device_refused(subject: Subject) -> None:
    x = example(subject)
    _takes(subject, x, dl_device=None)
    for device in ((99, 0), (12, 0)):
        answer = ask(subject, x, dl_device=device)
        if not isinstance(answer, Raised):
            raise Failed(
                f"BufferError for dl_device={device}",
                "an export",
                _must_raise(subject, f"dl_device={device}"),
            )
        if not isinstance(answer.error, BufferError):
            raise Failed(
                f"BufferError for dl_device={device}",
                str(answer),
                _raises(subject, f"dl_device={device}", "BufferError"),
            )


@checks("device.pair", "producer")
def pair_of_device(subject: Subject) -> None:
    answer = subject.device_of(example(subject))
    try:
        kind, number = answer
        wellformed = 1 <= int(kind) <= 20 and isinstance(int(number), int) and len(answer) == 2
    except (TypeError, ValueError):
        wellformed = False
    if not wellformed:
        raise Failed(
            "a pair of a known device_type and an int",
            repr(answer),
            producer_snippet(
                subject,
                "kind, number = x.__dlpack_device__()",
                "assert 1 <= int(kind) <= 20 and isinstance(number, int), (kind, number)",
            ),
        )


@checks("device.capsule-agrees", "producer")
def capsule_agrees(subject: Subject) -> None:
    x = example(subject)
    said = device_pair(subject, x)
    managed = best(subject, x).managed
    if managed.device != said:
        raise Failed(f"the device {said} in the capsule", f"{managed.device}")


@checks("device.host-id-zero", "producer", ON_HOST)
def host_id_zero(subject: Subject) -> None:
    managed = best(subject, example(subject)).managed
    if managed.device[0] in (1, 3, 11, 13) and managed.device[1] != 0:
        raise Failed("device_id 0 for host memory", f"{managed.device}")


@checks("device.no-lie", "producer")
def no_lie(subject: Subject) -> None:
    odd = subject.odd_arrays()
    if not odd:
        raise Untested("it gives no arrays that can not be exported")
    for name, make in odd.items():
        x = make()
        try:
            kind = int(subject.device_of(x)[0])
        except Exception:
            continue
        if not 1 <= kind <= 20:
            raise Failed(f"a known device or an exception for {name}", f"device_type {kind}")


# --- stream, on the host


@checks("stream.host-takes-none-only", "producer", ON_HOST)
def host_takes_none_only(subject: Subject) -> None:
    x = example(subject)
    if isinstance(ask(subject, x, stream=None), Raised):
        raise Untested("it does not take stream=None: see keywords.accepted")
    for stream in (1, 2, "a stream"):
        if not isinstance(ask(subject, x, stream=stream), Raised):
            raise Failed(
                f"an exception for stream={stream!r} on host memory",
                "an export",
                _must_raise(subject, f"stream={stream!r}"),
            )
