"""How consumers call producers: order, keywords, errors, copy and device."""

from __future__ import annotations

from typing import Any

from ..asking import (
    Raised,
    best,
    consume,
    example,
    imported,
    must_import,
    producer_snippet,
    try_import,
)
from ..engine import ON_HOST, checks
from ..fakes import FakeProducer, OldProducer, ProducerWithoutCopy
from ..subject import Subject
from ..verdict import Failed, Untested


def _class(body: str) -> str:
    """A line that makes the producer class P."""
    return f"P = type('P', (), dict({body}))"


def _lines(subject: Subject, body: str, *lines: str) -> str:
    if not subject.imports or not subject.consume_code:
        return ""
    imports = ["import numpy as np"] if "import numpy as np" not in subject.imports else []
    return "\n".join([*imports, subject.imports, _class(body), *lines])


@checks("import.device-first", "consumer", ON_HOST)
def device_first(subject: Subject) -> None:
    if subject.host_only:
        raise Untested("it has host memory alone: streams never matter")
    fake = FakeProducer(shape=(2, 3))
    imported(subject, fake)
    if fake.calls[:1] != ["device"]:
        raise Failed(
            "__dlpack_device__ before __dlpack__",
            " then ".join(fake.calls),
            _lines(
                subject,
                "calls=[], __dlpack_device__=lambda s: (s.calls.append('device'), (1, 0))[1], "
                "__dlpack__=lambda s, **k: (s.calls.append('dlpack'), np.zeros(3, 'f4')"
                ".__dlpack__(**k))[1]",
                f"a = {consume(subject)}",
                "assert P.calls[0] == 'device', P.calls",
            ),
        )


@checks("stream.host-consumer-passes-none", "consumer", ON_HOST)
def host_consumer_passes_none(subject: Subject) -> None:
    fake = FakeProducer(shape=(2, 3))
    imported(subject, fake)
    passed = [asked["stream"] for asked in fake.asked if asked.get("stream") is not None]
    if passed:
        raise Failed("stream None or left out for host memory", f"stream={passed[0]!r}")


@checks("keywords.sent-when-asked", "consumer", ON_HOST)
def sent_when_asked(subject: Subject) -> None:
    fake = FakeProducer(shape=(2, 3))
    imported(subject, fake)
    sent = {
        name
        for asked in fake.asked
        for name in ("copy", "dl_device")
        if asked.get(name) is not None
    }
    if sent:
        raise Failed("neither copy nor dl_device, as nobody asked", f"{sorted(sent)} sent")
    old = ProducerWithoutCopy(shape=(2, 3))
    array = try_import(subject, old)
    if isinstance(array, Raised):
        raise Failed(
            "an import from a producer without copy and dl_device",
            str(array),
            _lines(
                subject,
                "__dlpack_device__=lambda s: (1, 0), __dlpack__=lambda s, *, stream=None, "
                "max_version=None: np.zeros(3, 'f4').__dlpack__(max_version=max_version)",
                must_import(subject),
            ),
        )


@checks("version.asked-first", "consumer", ON_HOST)
def asked_first(subject: Subject) -> None:
    fake = FakeProducer(shape=(2, 3))
    imported(subject, fake)
    if not fake.asked or "max_version" not in fake.asked[0]:
        raise Failed(
            "max_version in the first call",
            f"the keywords {sorted(fake.asked[0]) if fake.asked else 'of no call'}",
            _lines(
                subject,
                "asked=[], __dlpack_device__=lambda s: (1, 0), __dlpack__=lambda s, **k: "
                "(s.asked.append(k), np.zeros(3, 'f4').__dlpack__(**k))[1]",
                f"a = {consume(subject)}",
                "assert 'max_version' in P.asked[0], P.asked",
            ),
        )
    old = OldProducer(shape=(2, 3))
    array = try_import(subject, old)
    if isinstance(array, Raised):
        raise Failed(
            "a second call without new keywords after TypeError",
            str(array),
            _lines(
                subject,
                "__dlpack_device__=lambda s: (1, 0), __dlpack__=lambda s, *, stream=None: "
                "np.zeros(3, 'f4').__dlpack__()",
                must_import(subject),
            ),
        )


def _shows(subject: Subject, error: Exception) -> bool:
    """Whether the caller of an import sees what the producer raised."""

    def raising(_asked: dict[str, Any]) -> None:
        raise error

    array = try_import(subject, FakeProducer(shape=(2, 3), before=raising))
    return isinstance(array, Raised) and array.error is error


@checks("version.retry-hides-nothing", "consumer", ON_HOST)
def retry_hides_nothing(subject: Subject) -> None:
    def broken(_asked: dict[str, Any]) -> None:
        raise TypeError("a mistake inside the producer")

    fake = FakeProducer(shape=(2, 3), before=broken)
    array = try_import(subject, fake)
    hidden = not isinstance(array, Raised) or "a mistake inside" not in _chain(array.error)
    if hidden and _shows(subject, Mine("mine")):  # else see import.producer-errors-propagate
        raise Failed(
            "the producer's TypeError",
            str(array),
            _lines(
                subject,
                "__dlpack_device__=lambda s: (1, 0), "
                "__dlpack__=lambda s, **k: (_ for _ in ()).throw(TypeError('mine'))",
                f"try: a = {consume(subject)}",
                "except Exception as e: assert 'mine' in f'{e} {e.__cause__} {e.__context__}', e",
                "else: assert False, 'no exception'",
            ),
        )
    for copy in (True, False):
        old = OldProducer(shape=(2, 3))
        array = try_import(subject, old, copy=copy)
        if isinstance(array, Raised):
            continue
        if _shares(subject, old, array) is copy:
            raise Failed(
                f"an exception, or {'a copy' if copy else 'shared memory'}, for copy={copy}",
                f"{'shared memory' if copy else 'a copy'}",
                _lines(
                    subject,
                    "x=np.frombuffer(__import__('mmap').mmap(-1, 64), 'f4'), "
                    "__dlpack_device__=lambda s: (1, 0), "
                    "__dlpack__=lambda s, *, stream=None: s.x.__dlpack__()",
                    f"try: a = {consume(subject, options=f', copy={copy}')}",
                    "except Exception: pass",
                    f"else: P.x[:] = 1; assert ({show_first(subject)} == 1) is {not copy}",
                ),
            )


def show_first(subject: Subject) -> str:
    """The subject's expression for the first value of `a`."""
    return subject.values_code.replace("{a}", "a") + "[0]"


def _chain(error: BaseException | None) -> str:
    text = ""
    while error is not None:
        text += f"{error} "
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return text


def _shares(subject: Subject, fake: FakeProducer, array: Any) -> bool:
    """Whether a later change of the producer's memory shows in the array."""
    fake.memory.fill(bytes(len(fake.content)))
    shown = subject.values(array)
    fake.memory.fill(fake.content)
    return bool(shown == [0.0] * 6)


@checks("keywords.from-dlpack", "consumer", ON_HOST)
def from_dlpack_keywords(subject: Subject) -> None:
    for options in ({"device": None}, {"copy": None}, {"device": None, "copy": None}):
        fake = FakeProducer(shape=(2, 3))
        array = try_import(subject, fake, **options)
        if isinstance(array, Raised) and isinstance(array.error, TypeError):
            text = "".join(f", {name}={value}" for name, value in options.items())
            raise Failed(
                f"from_dlpack(x{text}) to be taken",
                str(array),
                _lines(
                    subject,
                    "__dlpack_device__=lambda s: (1, 0), __dlpack__=lambda s, **k: "
                    "np.zeros(3, 'f4').__dlpack__(**k)",
                    must_import(subject, text),
                ),
            )


@checks("copy.false-impossible", "consumer", ON_HOST)
def false_impossible(subject: Subject) -> None:
    fake = FakeProducer(shape=(2, 3), misalign=1)
    array = try_import(subject, fake, copy=False)
    if isinstance(array, Raised):
        if isinstance(array.error, TypeError):
            raise Untested(f"it takes no copy=: {array}")
        if not isinstance(array.error, (BufferError, ValueError)):
            raise Failed("BufferError or ValueError for copy=False", str(array))
    elif not _shares(subject, fake, array):
        raise Failed("shared memory or an exception for copy=False", "a copy")


@checks("import.unknown-target-device", "consumer", ON_HOST)
def unknown_target_device(subject: Subject) -> None:
    fake = FakeProducer(shape=(2, 3))
    array = try_import(subject, fake, device="no such device")
    if not isinstance(array, Raised):
        raise Failed(
            "an exception for device='no such device'",
            "an import",
            _lines(
                subject,
                "__dlpack_device__=lambda s: (1, 0), __dlpack__=lambda s, **k: "
                "np.zeros(3, 'f4').__dlpack__(**k)",
                f"try: a = {consume(subject, options=', device=chr(63)')}",
                "except Exception: pass",
                "else: assert False, 'no exception'",
            ),
        )


class Mine(Exception):
    pass


@checks("import.producer-errors-propagate", "consumer", ON_HOST)
def producer_errors_propagate(subject: Subject) -> None:
    def raising(_asked: dict[str, Any]) -> None:
        raise Mine("mine")

    in_dlpack = FakeProducer(shape=(2, 3), before=raising)

    class InDevice(FakeProducer):
        def __dlpack_device__(self) -> Any:
            raise Mine("mine")

    for where, fake in (("__dlpack__", in_dlpack), ("__dlpack_device__", InDevice(shape=(2, 3)))):
        array = try_import(subject, fake)
        if (
            where == "__dlpack_device__"
            and "device" not in fake.calls
            and not isinstance(array, Raised)
        ):
            continue  # it does not ask
        if not isinstance(array, Raised) or not isinstance(array.error, Mine):
            raise Failed(
                f"the exception that {where} raised",
                str(array) if isinstance(array, Raised) else "an import",
                _lines(
                    subject,
                    "__dlpack_device__=lambda s: (1, 0), __dlpack__=lambda s, **k: 1 / 0"
                    if where == "__dlpack__"
                    else "__dlpack_device__=lambda s: 1 / 0, __dlpack__=lambda s, **k: "
                    "np.zeros(3, 'f4').__dlpack__(**k)",
                    f"try: a = {consume(subject)}",
                    "except ZeroDivisionError: pass",
                    "except Exception as e: raise AssertionError(f'{type(e).__name__}: {e}')",
                    "else: assert False, 'no exception'",
                ),
            )


@checks("import.missing-methods", "consumer", ON_HOST)
def missing_methods(subject: Subject) -> None:
    array = try_import(subject, object())
    if not isinstance(array, Raised) or not isinstance(array.error, AttributeError):
        raise Failed(
            "AttributeError for an object without the methods",
            str(array) if isinstance(array, Raised) else "an import",
            "\n".join(
                [
                    subject.imports,
                    f"try: {consume(subject, 'object()')}",
                    "except AttributeError: pass",
                    "except Exception as e: raise AssertionError(f'{type(e).__name__}: {e}')",
                ]
            )
            if subject.consume_code
            else "",
        )


@checks("import.own-array", "consumer", ON_HOST)
def own_array(subject: Subject) -> None:
    if not subject.produces:
        raise Untested("it makes no arrays")
    x = example(subject)
    copied = try_import(subject, x, copy=True)
    if isinstance(copied, Raised):
        raise Untested(f"it makes no copy: {copied}")
    of_copy, of_own = best(subject, copied), best(subject, x)
    if of_copy.managed.first == of_own.managed.first:
        raise Failed(
            "a copy for copy=True of an array of its own",
            "shared memory",
            producer_snippet(
                subject,
                f"a = {consume(subject, 'x', ', copy=True')}",
                "G = C.PYFUNCTYPE(C.c_void_p, C.py_object, C.c_char_p)"
                '(("PyCapsule_GetPointer", C.pythonapi))',
                "kept = [array.__dlpack__() for array in (a, x)]",
                "at = [C.c_uint64.from_address(G(c, b'dltensor')).value for c in kept]",
                "assert at[0] != at[1], at",
                imports=("import ctypes as C",),
            ),
        )
