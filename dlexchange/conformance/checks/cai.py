"""The CUDA Array Interface, from both sides."""

from __future__ import annotations

import weakref
from typing import Any

from ..asking import eventually, example, on_simulator
from ..cuda import HOST_WAITS, Cuda
from ..engine import ON_CUDA, ON_HOST, ON_SIMULATOR, checks
from ..subject import Subject
from ..verdict import Failed, Untested
from .stream import NBYTES, SIX, array_on, busy, must_see

ATTRIBUTE = "__cuda_array_interface__"


def _interface(array: Any) -> dict[str, Any]:
    """The interface of an array.

    Raises
    ------
    Untested
        It has none.
    """
    try:
        found = getattr(array, ATTRIBUTE)
    except AttributeError:
        raise Untested("it does not speak the CUDA Array Interface") from None
    if not isinstance(found, dict):
        raise Untested("see cai.fields")
    return found


@checks("cai.absent-on-host", "producer", ON_HOST)
def absent_on_host(subject: Subject) -> None:
    if hasattr(example(subject), ATTRIBUTE):
        raise Failed("no such attribute on host memory", "one")


@checks("cai.fields", "producer", ON_CUDA)
def fields(subject: Subject) -> None:
    subject.stage()
    x = array_on(subject, subject.new_stream())
    if not hasattr(x, ATTRIBUTE):
        raise Untested("it does not speak the CUDA Array Interface")
    found = getattr(x, ATTRIBUTE)
    try:
        pointer, read_only = found["data"]
        right = (
            isinstance(found, dict)
            and tuple(found["shape"]) == (2, 3)
            and found["typestr"] == "<f4"
            and isinstance(pointer, int)
            and isinstance(read_only, bool)
            and isinstance(found["version"], int)
        )
    except (KeyError, TypeError, ValueError):
        right = False
    if not right:
        raise Failed("shape, typestr, data and version of the right types", repr(found))


@checks("cai.pointer", "producer", ON_CUDA)
def pointer(subject: Subject) -> None:
    subject.stage()
    p = subject.new_stream()
    x = array_on(subject, p)
    said, expected = _interface(x)["data"][0], subject.address(x)
    if said != expected:
        raise Failed(f"the address {expected:#x}", f"{said:#x}")
    try:
        with subject.using(p):
            empty = subject.make([], (0, 3), "float32")
    except Exception:
        return  # it makes no empty array
    said = _interface(empty)["data"][0]
    if said:
        raise Failed("0 for an array without elements", f"{said:#x}")


@checks("cai.strides", "producer", ON_CUDA)
def strides(subject: Subject) -> None:
    subject.stage()
    x = array_on(subject, subject.new_stream())
    views = [(x, (12, 4), True)]
    try:
        views.append((subject.layout(x, "transposed"), (4, 12), False))
    except Exception:
        pass  # it makes no such view
    for view, expected, compact in views:
        found = _interface(view)
        said = found.get("strides")
        if said is None and compact:
            continue
        if said is None or tuple(said) != expected:
            raise Failed(
                f"the byte strides {expected}" + (" or None" if compact else ""), f"{said}"
            )


@checks("cai.stream-never-zero", "producer", ON_CUDA)
def stream_never_zero(subject: Subject) -> None:
    it = busy(subject)
    for array in (it.x, example(subject, (2, 3), "float32")):
        if _interface(array).get("stream") == 0:
            raise Failed("None, 1, 2 or a handle", "stream 0")


def _after(cuda: Cuda, stream: Any) -> int:
    """A stream that is ordered after an exported one, or after nothing."""
    c = cuda.stream()
    if stream is not None:
        cuda.order(int(stream), c)
    return c


@checks("cai.stream-covers-all", "producer", ON_CUDA)
def stream_covers_all(subject: Subject) -> None:
    it = busy(subject)
    it.cuda.synchronize(subject.handle(it.p))
    it.cuda.begin()
    q = subject.new_stream()
    subject.fill(it.x, 7.0, q)
    with it.cuda.holding(subject.handle(q)), subject.using(q):
        stream = _interface(it.x).get("stream")
        c = _after(it.cuda, stream)
    what = f"a stream ordered after the exported stream {stream}"
    must_see(it.cuda, it.at, c, what, _covers_snippet(subject))


def _covers_snippet(subject: Subject) -> str:
    """Lines that write on a stream, order one after the exported stream and read on it."""
    if not (subject.imports and subject.make_code and subject.fill_code and subject.stream_code):
        return ""
    fill = subject.fill_code.replace("{a}", "x").replace("{s}", "q").replace("{value}", "7.0")
    at = subject.address_code.replace("{a}", "x")
    return "\n".join(
        [
            *on_simulator(subject),
            subject.imports,
            f"x, q, c = {subject.make_text([1] * 6, (2, 3), 'float32')}, "
            f"{subject.stream_code}, sim.stream()",
            "sim.run(); sim.clear_findings()",
            fill,
            f"s = x.{ATTRIBUTE}.get('stream')",
            "if s: c.wait(type(c)(sim, s, 0).record())",
            "import ctypes; host = (ctypes.c_float * 6)()",
            f"sim.driver('cuMemcpyDtoHAsync_v2', host, {at}, 24, c.handle)",
            "assert set(host) == {7.0} and not sim.findings, (list(host), sim.findings)",
        ]
    )


@checks("cai.none-when-idle", "producer", ON_CUDA)
def none_when_idle(subject: Subject) -> None:
    it = busy(subject)
    with subject.using(it.p):
        stream = _interface(it.x).get("stream")
    if stream is not None:
        return
    pending = it.cuda.read(it.at, NBYTES, it.cuda.stream())
    if pending.floats() != SIX:
        raise Failed("a stream while work is pending", "None")


@checks("cai.stream-outlives", "producer", ON_CUDA)
def stream_outlives(subject: Subject) -> None:
    it = busy(subject)
    with subject.using(it.p):
        stream = _interface(it.x).get("stream")
    if stream is None:
        raise Untested("it exports no stream")
    it.p = None
    subject.settle()
    try:
        it.cuda.is_idle(int(stream))
    except Exception as error:
        raise Failed("a stream that lives as long as the array", repr(error)) from None


# --- consumers


class Offer:
    """An object over device memory that speaks the interface."""

    def __init__(self, interface: dict[str, Any]) -> None:
        self.__cuda_array_interface__ = interface


def _offer(subject: Subject, *, pending: bool, **more: Any) -> tuple[Cuda, Offer, int, int]:
    """Six ones in device memory; with `pending` a stream that writes sevens is exported."""
    if not subject.imports_cai:
        raise Untested("it does not import through the CUDA Array Interface")
    cuda = subject.stage()
    p, at = cuda.stream(), cuda.allocate(NBYTES)
    cuda.fill(at, 1.0 if pending else 7.0, 6, p)
    cuda.synchronize(p)
    cuda.begin()
    if pending:
        cuda.fill(at, 7.0, 6, p)
    interface = {
        "shape": (2, 3),
        "typestr": "<f4",
        "data": (at, False),
        "version": 3,
        "stream": p if pending else None,
    }
    interface.update(more)
    return cuda, Offer(interface), at, p


@checks("cai.consumer-orders", "consumer", ON_CUDA)
def consumer_orders(subject: Subject) -> None:
    cuda, offer, at, _ = _offer(subject, pending=True)
    s = subject.new_stream()
    array = subject.from_cai(offer, s)
    must_see(cuda, at, subject.handle(s), "the consumer's stream")
    del array


@checks("cai.none-used-at-once", "consumer", ON_SIMULATOR)
def none_used_at_once(subject: Subject) -> None:
    cuda, offer, _, _ = _offer(subject, pending=False)
    s = subject.new_stream()
    with cuda.counting() as calls:
        array = subject.from_cai(offer, s)
    waits = {name: calls[name] for name in HOST_WAITS if calls[name]}
    if waits:
        raise Failed("no host wait where nothing is pending", f"{waits}")
    del array


@checks("cai.consumer-keeps-alive", "consumer", ON_CUDA)
def consumer_keeps_alive(subject: Subject) -> None:
    _, offer, _, _ = _offer(subject, pending=False)
    seen = weakref.ref(offer)
    array = subject.from_cai(offer, subject.new_stream())
    del offer
    subject.settle()
    if seen() is None:
        raise Failed("the exporting object to live as long as the array", "it is gone")
    del array
    if not eventually(subject, lambda: seen() is None):
        raise Failed("the exporting object to be let go with the array", "it is kept")


@checks("cai.mask-refused", "consumer", ON_CUDA)
def mask_refused(subject: Subject) -> None:
    _, mask, _, _ = _offer(subject, pending=False, typestr="|b1")
    _, offer, _, _ = _offer(subject, pending=False, mask=mask)
    try:
        subject.from_cai(offer, subject.new_stream())
    except Untested:
        raise
    except Exception:
        return
    raise Failed("an exception for a masked array", "an import")


@checks("cai.older-versions", "consumer", ON_CUDA)
def older_versions(subject: Subject) -> None:
    cuda, offer, at, _ = _offer(subject, pending=False, version=2)
    del offer.__cuda_array_interface__["stream"]
    s = subject.new_stream()
    try:
        array = subject.from_cai(offer, s)
    except Exception:
        return
    must_see(cuda, at, subject.handle(s), "the consumer's stream")
    try:
        said = subject.address(array)
    except Exception:
        return  # it shows no address
    if said != at:
        raise Failed(f"the address {at:#x}", f"{said:#x}")
