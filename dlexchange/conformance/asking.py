"""What checks share: asking a subject, waiting for a release, and writing snippets."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .fakes import FakeProducer
from .looking import Managed, peek
from .subject import Subject
from .verdict import Failed, Untested

__all__ = [
    "Export",
    "Raised",
    "ask",
    "best",
    "both_kinds",
    "consumer_snippet",
    "eventually",
    "example",
    "export",
    "fake_for",
    "imported",
    "producer_snippet",
    "try_import",
]


def _nothing(_expected: str, _snippet: str) -> None:
    """Nobody listens."""


#: Called before something that may crash the process, with what is expected and a snippet.
on_try: Callable[[str, str], None] = _nothing

#: What the suite asks producers for: the newest version it knows.
NEWEST = (1, 3)


@dataclass
class Export:
    """A capsule and what is in it. The capsule dies with this object."""

    capsule: Any
    managed: Managed


@dataclass
class Raised:
    """An exception where an answer could have been."""

    error: BaseException

    def __str__(self) -> str:
        first_line = (str(self.error).splitlines() or [""])[0]
        return f"{type(self.error).__name__}: {first_line[:120]}"


def example(subject: Subject, shape: tuple[int, ...] = (2, 3), dtype: str = "") -> Any:
    """A new array with the values 0, 1, 2 and so on."""
    count = 1
    for extent in shape:
        count *= extent
    return subject.make(range(count), shape, dtype or subject.dtypes[0])


def ask(subject: Subject, x: Any, **keywords: Any) -> Any:
    """What ``__dlpack__`` answers: a capsule, or Raised."""
    try:
        return subject.export(x, **keywords)
    except Exception as error:
        return Raised(error)


def fake_for(subject: Subject, *arguments: Any, **fields: Any) -> FakeProducer:
    """A fake with memory of the subject's device: of the host, or of SYCL."""
    if subject.ground == "SYCL":
        fields = {"memory": subject.sycl.memory, "device": subject.device, **fields}
    return FakeProducer(*arguments, **fields)


def export(subject: Subject, x: Any, ndim: int, **keywords: Any) -> Export:
    """An export that other clauses vouch for.

    Raises
    ------
    Untested
        It raised, or what came is no managed tensor.
    """
    answer = ask(subject, x, **keywords)
    if isinstance(answer, Raised):
        raise Untested(f"__dlpack__({_shown(keywords)}) raised {answer}")
    return Export(answer, peek(answer, ndim))


def best(subject: Subject, x: Any, ndim: int = 2, **keywords: Any) -> Export:
    """An export in the newest form that the subject has.

    Raises
    ------
    Untested
        There is none.
    """
    answer = ask(subject, x, max_version=NEWEST, **keywords)
    if isinstance(answer, Raised):
        return export(subject, x, ndim, **keywords)
    return Export(answer, peek(answer, ndim))


def both_kinds(subject: Subject, x: Any, ndim: int = 2) -> list[Export]:
    """The legacy export and the versioned one, or the one that there is."""
    found: list[Export] = []
    for keywords in ({}, {"max_version": NEWEST}):
        answer = ask(subject, x, **keywords)
        if isinstance(answer, Raised):
            continue
        made = Export(answer, peek(answer, ndim))
        if all(made.managed.versioned != other.managed.versioned for other in found):
            found.append(made)
    if not found:
        raise Untested("it exports neither struct: see version.* and keywords.*")
    return found


def device_pair(subject: Subject, x: Any) -> tuple[int, int]:
    """The device that ``__dlpack_device__`` tells.

    Raises
    ------
    Untested
        It tells none.
    """
    try:
        kind, number = subject.device_of(x)
        return int(kind), int(number)
    except Exception as error:
        raise Untested(f"__dlpack_device__ gives no pair ({error!r}): see device.pair") from None


def versioned(subject: Subject, x: Any, ndim: int = 2, **keywords: Any) -> Export:
    """A versioned export.

    Raises
    ------
    Untested
        The subject has none.
    """
    made = export(subject, x, ndim, max_version=NEWEST, **keywords)
    if not made.managed.versioned:
        raise Untested("it exports the legacy struct only, which has no flags and no version")
    return made


def try_import(subject: Subject, x: Any, **options: Any) -> Any:
    """What from_dlpack gives: an array, or Raised."""
    try:
        return subject.from_dlpack(x, **options)
    except Untested:
        raise
    except Exception as error:
        return Raised(error)


def imported(subject: Subject, x: Any) -> Any:
    """An import that other clauses vouch for.

    Raises
    ------
    Untested
        It raised.
    """
    array = try_import(subject, x)
    if isinstance(array, Raised):
        raise Untested(f"from_dlpack raised {array}")
    return array


def eventually(subject: Subject, claim: Callable[[], bool]) -> bool:
    """Whether a claim holds now or once the subject has been let settle."""
    for _ in range(4):
        if claim():
            return True
        subject.settle()
    return claim()


def refused_or(
    subject: Subject, fake: FakeProducer, right: Callable[[Any], bool], what: str, snippet: str
) -> None:
    """Demand that an import raises or gives an array for which `right` holds."""
    on_try(f"the values of {what}, or an exception", snippet)
    array = try_import(subject, fake)
    if isinstance(array, Raised):
        return
    try:
        is_right = right(array)
    except Exception:
        return  # nothing wrong was shown
    if not is_right:
        raise Failed(
            f"the values of {what}, or an exception", f"{_values(subject, array)}", snippet
        )


def _values(subject: Subject, array: Any) -> str:
    try:
        return f"values {subject.values(array)}"
    except Exception as error:
        return f"an array whose values can not be read ({error!r})"


def _shown(keywords: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in keywords.items())


# --- snippets: the same thing without this suite

_POINTER = (
    "p = C.PYFUNCTYPE(C.c_void_p, C.py_object, C.c_char_p)"
    '(("PyCapsule_GetPointer", C.pythonapi))(c, b"{name}")'
)


def producer_snippet(
    subject: Subject,
    *lines: str,
    x: str = "",
    pointer: str = "",
    imports: tuple[str, ...] = (),
) -> str:
    """Lines that make an array `x` of the subject and then do `lines`.

    Parameters
    ----------
    x : str
        Expression for the array; six values of the first dtype where empty.
    pointer : str
        "dltensor" or "dltensor_versioned": `p` is the struct in the capsule `c`. The line
        goes where `lines` holds "POINTER".
    """
    if not subject.imports or not (x or subject.make_code):
        return ""
    x = x or subject.make_text(range(6), (2, 3), subject.dtypes[0])
    shown = [*on_simulator(subject), subject.imports, f"x = {x}"]
    if pointer:
        shown.insert(0, "import ctypes as C")
    shown[:0] = imports
    shown += [_POINTER.format(name=pointer) if line == "POINTER" else line for line in lines]
    return "\n".join(shown)


def consumer_snippet(
    subject: Subject,
    *lines: str,
    patches: tuple[str, ...] = (),
    values: str = "np.arange(6, dtype='float32')",
    device: str = "(1, 0)",
    versioned: bool | None = None,
) -> str:
    """Lines that make a producer class P from numpy, patch its struct and then do `lines`.

    Parameters
    ----------
    patches : tuple of str
        Assignments of the form ``C.c_int32.from_address(p + T16).value = -1``, where `p` is
        the struct and T16 byte 16 of its DLTensor.
    versioned : bool
        The form; None is what the subject asks for.
    """
    if not subject.imports or not subject.consume_code:
        return ""
    if subject.ground == "SYCL":
        values, device = f"dpnp.asarray({values})", repr(subject.device)
    if versioned is None:
        versioned = asks_versioned(subject)
    name = "dltensor_versioned" if versioned else "dltensor"
    asked = "max_version=(1, 0)" if versioned else ""
    shown = ["import ctypes as C, numpy as np", subject.imports]
    if subject.imports.startswith("import numpy as np"):
        shown = ["import ctypes as C", subject.imports]
    shown += [f"c = {values}.__dlpack__({asked})"]
    if patches:
        shown += [_POINTER.format(name=name), "; ".join(_at(patch, versioned) for patch in patches)]
    shown += [
        f"P = type('P', (), dict(__dlpack_device__=lambda s: {device},"
        " __dlpack__=lambda s, **k: c))"
    ]
    return "\n".join([*shown, *lines])


def _at(patch: str, versioned: bool) -> str:
    """T16 as the offset of byte 16 of the DLTensor in its struct."""
    return re.sub(r"T(\d+)", lambda t: str(int(t[1]) + (32 if versioned else 0)), patch)


@functools.cache
def asks_versioned(subject: Subject) -> bool:
    """Whether the subject asks producers for the versioned struct."""
    fake = FakeProducer(shape=(2, 3))
    try_import(subject, fake)
    return fake.exports > 0 and fake.fakes[-1].versioned


def consume(subject: Subject, x: str = "P()", options: str = "") -> str:
    """The subject's expression for an import."""
    return subject.consume_code.format(x=x, options=options)


def show(subject: Subject, a: str = "a") -> str:
    """The subject's expression for the values of an array."""
    return subject.values_code.replace("{a}", a)


def on_simulator(subject: Subject) -> list[str]:
    """A line that begins a simulation, for a subject that needs one."""
    if subject.ground != "simulated CUDA":
        return []
    return [
        "from dlexchange.testing import simulated_cuda; "
        "stage = simulated_cuda(devices=2); sim = stage.__enter__()"
    ]


MUST_IMPORT = """try: a = {consume}
except Exception as e: raise AssertionError(f'{{type(e).__name__}}: {{e}}')"""


def must_import(subject: Subject, options: str = "") -> str:
    """Lines that fail when the import raises."""
    return MUST_IMPORT.format(consume=consume(subject, options=options))


MUST_RAISE = """try: a = {consume}
except Exception: pass
else: assert False, {text!r}"""


def must_raise(subject: Subject, text: str, options: str = "") -> str:
    """Lines that fail unless the import raises."""
    return MUST_RAISE.format(consume=consume(subject, options=options), text=text)
