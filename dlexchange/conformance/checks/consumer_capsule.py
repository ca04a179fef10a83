"""What consumers do with capsules and deleters."""

from __future__ import annotations

import functools
import threading
from typing import Any

from .. import _probe, asking
from ..asking import (
    Raised,
    asks_versioned,
    best,
    consume,
    consumer_snippet,
    eventually,
    fake_for,
    imported,
    must_import,
    must_raise,
    try_import,
)
from ..engine import ON_HOST, ON_HOST_AND_SYCL, checks
from ..fakes import FakeProducer
from ..subject import Subject
from ..verdict import Failed, Untested


def _taken(subject: Subject, **fields: Any) -> tuple[FakeProducer, Any]:
    """A fake and the subject's array over it."""
    fake = fake_for(subject, shape=(2, 3), **fields)
    fake.keep_capsules = True
    return fake, imported(subject, fake)


def _released(fake: FakeProducer) -> bool:
    return fake.is_released


def _deleted(fake: FakeProducer, at_least: int) -> bool:
    return fake.deleted >= at_least


def _only_copied(subject: Subject, fake: FakeProducer, array: Any) -> bool:
    """Whether the consumer copied and left the capsule to its producer: it took nothing."""
    names = [_probe.capsule_name(capsule) for capsule in fake.capsules]
    left = [named is not None and named[0] in ("dltensor", "dltensor_versioned") for named in names]
    return any(left) and not fake.deleted and _copied(subject, fake, array)


@checks("capsule.renamed-on-consumption", "consumer", ON_HOST_AND_SYCL)
def renamed_on_consumption(subject: Subject) -> None:
    fake, array = _taken(subject)
    if _only_copied(subject, fake, array):
        raise Untested("it copies and leaves the capsule to its producer")
    subject.values(array)
    for capsule, made in zip(fake.capsules, fake.fakes, strict=True):
        right = "used_dltensor_versioned" if made.versioned else "used_dltensor"
        named = _probe.capsule_name(capsule)
        if named is None or named[0] != right:
            raise Failed(
                f"the name {right!r} after the import",
                f"{named and named[0]!r}",
                consumer_snippet(
                    subject, f"a = {consume(subject)}", "assert 'used_dltensor' in repr(c), c"
                ),
            )
    del array


@checks("capsule.name-is-static", "consumer", ON_HOST)
def used_name_is_static(subject: Subject) -> None:
    addresses = set()
    for _ in range(4):
        fake, array = _taken(subject)
        named = _probe.capsule_name(fake.capsules[0])
        assert named is not None
        if named[0] is None or not named[0].startswith("used_"):
            raise Untested("see capsule.renamed-on-consumption")
        addresses.add(named[1])
        del array
    if len(addresses) > 1:
        raise Failed("one string for the used name", f"{len(addresses)} addresses in 4 imports")


#: Tensors that a consumer has reason to refuse, as fields of a fake.
REFUSABLE: dict[str, dict[str, Any]] = {
    "dtype code 200": {"dtype": (200, 8, 1)},
    "lanes 3": {"dtype": (2, 32, 3)},
    "device type 99": {"device": (99, 0)},
    "device type 99 in the capsule only": {"device": (99, 0), "device_answer": (1, 0)},
}


@checks("capsule.refusal-frees-once", "consumer", ON_HOST)
def refusal_frees_once(subject: Subject) -> None:
    refused = 0
    for what, fields in REFUSABLE.items():
        fake = FakeProducer(**fields)
        if not isinstance(try_import(subject, fake), Raised):
            continue
        refused += 1
        if not eventually(subject, functools.partial(_released, fake)):
            raise Failed(
                f"one call of the deleter after the refusal of {what}",
                f"{fake.deleted} calls for {fake.exports} exports",
            )
    if not refused:
        raise Untested("it refused none of: " + ", ".join(REFUSABLE))


class Offering:
    """A producer that hands out one capsule of each form, whatever has become of it."""

    def __init__(self, fake: FakeProducer) -> None:
        self.capsules = {versioned: fake.capsule(versioned) for versioned in (False, True)}

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, **asked: Any) -> Any:
        return self.capsules[(asked.get("max_version") or (0, 0))[0] >= 1]


@checks("capsule.consumed-once", "consumer", ON_HOST)
def consumed_once(subject: Subject) -> None:
    for what in ("used_dltensor", "some_other_name"):
        fake = FakeProducer(shape=(2, 3))
        offering = Offering(fake)
        for versioned, capsule in offering.capsules.items():
            used = what == "used_dltensor" and versioned
            _probe.capsule_rename(capsule, what + ("_versioned" if used else ""))
        snippet = consumer_snippet(
            subject,
            f"name = b'{what}'",
            "set_name = C.PYFUNCTYPE(C.c_int, C.py_object, C.c_char_p)"
            '(("PyCapsule_SetName", C.pythonapi))',
            "set_name(c, name)",
            must_raise(subject, f"a capsule named {what} was imported"),
        )
        asking.on_try(f"an exception for a capsule named {what!r}", snippet)
        if not isinstance(try_import(subject, offering), Raised):
            raise Failed(f"an exception for a capsule named {what!r}", "an import", snippet)


@checks("capsule.not-shown-to-users", "consumer", ON_HOST)
def not_shown_to_users(subject: Subject) -> None:
    fake, array = _taken(subject)
    if _probe.capsule_name(array) is not None:
        raise Failed("an array", "a capsule")
    before = [_probe.capsule_name(capsule) for capsule in fake.capsules]
    subject.values(array)
    after = [_probe.capsule_name(capsule) for capsule in fake.capsules]
    if before != after:
        raise Failed(
            "a consumed capsule when from_dlpack returns",
            f"{before}, and {after} after a first use",
        )


@checks("lifetime.capsule-not-needed", "consumer", ON_HOST)
def capsule_not_needed(subject: Subject) -> None:
    fake = FakeProducer(shape=(2, 3))
    array = imported(subject, fake)
    subject.settle()
    if fake.deleted and _copied(subject, fake, array):
        return  # a copy needs nothing any more
    if fake.deleted or subject.values(array) != [float(v) for v in range(6)]:
        raise Failed(
            "the array to keep the memory after the capsule is gone",
            f"{fake.deleted} deleter calls",
        )


@checks("deleter.once-at-the-end", "consumer", ON_HOST_AND_SYCL)
def once_at_the_end(subject: Subject) -> None:
    fake, array = _taken(subject)
    kept = [made for made in fake.fakes if not made.deleted]
    if not kept and not _copied(subject, fake, array):
        raise Failed("no call of the deleter while the array lives", f"{fake.deleted} calls")
    del array
    fake.capsules.clear()
    if not eventually(subject, lambda: fake.is_released):
        raise Failed(
            "one call of the deleter after the array is gone",
            f"{fake.deleted} calls for {fake.exports} exports",
        )


def _copied(subject: Subject, fake: FakeProducer, array: Any) -> bool:
    """Whether the array does not show later changes of the producer's memory."""
    fake.memory.fill(bytes(len(fake.content)))
    shown = subject.values(array)
    fake.memory.fill(fake.content)
    return shown != [0.0] * 6


@checks("deleter.null-tolerated", "consumer", ON_HOST)
def null_tolerated(subject: Subject) -> None:
    """A crash of this check is a failure too."""
    fake = FakeProducer(shape=(2, 3), deleter="null")
    at = 16 if asks_versioned(subject) else 56
    snippet = consumer_snippet(
        subject,
        must_import(subject),
        "del a; import gc; gc.collect()",
        patches=(f"C.c_void_p.from_address(p + {at}).value = None",),
    )
    asking.on_try("an import of a tensor with a NULL deleter", snippet)
    array = try_import(subject, fake)
    if isinstance(array, Raised):
        raise Failed("an import", str(array), snippet)
    if subject.values(array) != [float(v) for v in range(6)]:
        raise Failed("the values 0 to 5", f"{subject.values(array)}")
    del array
    subject.settle()


@checks("deleter.alone-frees-struct", "consumer", ON_HOST)
def alone_frees_struct(subject: Subject) -> None:
    """A crash of this check is a failure too: the struct is no block of the allocator."""
    fake, array = _taken(subject)
    del array
    fake.capsules.clear()
    if not eventually(subject, lambda: fake.deleted >= fake.exports):
        raise Untested("see deleter.once-at-the-end")
    if any(made.touched_after_delete for made in fake.fakes):
        raise Failed("a struct that is left alone after its deleter", "a write to it")


@checks("lifetime.views-keep-memory", "consumer", ON_HOST)
def views_keep_memory(subject: Subject) -> None:
    fake, array = _taken(subject)
    if fake.deleted:
        raise Untested("it copies on import")
    try:
        view = subject.layout(array, "column")
    except Untested:
        raise
    except Exception as error:
        raise Untested(f"it takes no view: {error!r}") from None
    del array
    subject.settle()
    if fake.deleted:
        if subject.values(view) == [1.0, 4.0] and not _aliases(subject, fake, view):
            return  # the view is a copy
        raise Failed("no call of the deleter while a view lives", f"{fake.deleted} calls")
    if subject.values(view) != [1.0, 4.0]:
        raise Failed("the values of the column", f"{subject.values(view)}")
    del view
    fake.capsules.clear()
    if not eventually(subject, lambda: fake.deleted >= fake.exports):
        raise Failed("a call of the deleter after the view is gone", f"{fake.deleted} calls")


def _aliases(subject: Subject, fake: FakeProducer, view: Any) -> bool:
    fake.memory.fill(bytes(len(fake.content)))
    shown: list[Any] = subject.values(view)
    return shown == [0.0, 0.0]


@checks("lifetime.re-export-keeps-memory", "consumer", ON_HOST)
def re_export_keeps_memory(subject: Subject) -> None:
    for order in ((0, 1), (1, 0)):
        fake, array = _taken(subject)
        if fake.deleted:
            raise Untested("it copies on import")
        try:
            held: list[Any] = [array, best(subject, array)]
        except AttributeError as error:
            raise Untested(f"its arrays can not be exported: {error}") from None
        del array
        if held[1].managed.first != fake.memory.address:
            raise Untested("it copies on export")
        held[order[0]] = None
        subject.settle()
        if fake.deleted:
            raise Failed(
                "no call of the deleter while the array or its export lives",
                f"a call after the {'array' if order[0] == 0 else 'export'} was released",
            )
        held[order[1]] = None
        fake.capsules.clear()
        if not eventually(subject, functools.partial(_deleted, fake, 1)):
            raise Failed("a call of the deleter after both are gone", f"{fake.deleted} calls")


@checks("capsule.claimed-by-one-thread", "consumer", ON_HOST)
def claimed_by_one_thread(subject: Subject) -> None:
    for _ in range(20):
        fake = FakeProducer(shape=(2, 3))
        producer = Offering(fake)
        won: list[Any] = []
        start = threading.Barrier(4)

        def work(
            start: threading.Barrier = start, won: list[Any] = won, producer: Any = producer
        ) -> None:
            start.wait()
            array = try_import(subject, producer)
            if not isinstance(array, Raised):
                won.append(array)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = len(won)
        copied = winners > 0 and _copied(subject, fake, won[0])
        won.clear()
        producer.capsules.clear()
        if not eventually(subject, functools.partial(_deleted, fake, 2)):
            raise Failed("each deleter called", f"{winners} won, {fake.deleted} calls")
        if winners > 1 and not copied:
            raise Failed("one winner of 4 threads", f"{winners}")
