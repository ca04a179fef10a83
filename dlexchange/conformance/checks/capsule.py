"""Capsules of producers: name, content, destructor."""

from __future__ import annotations

import functools
import itertools

from .. import _probe
from ..asking import (
    NEWEST,
    Raised,
    ask,
    both_kinds,
    example,
    export,
    producer_snippet,
)
from ..engine import checks
from ..looking import LEGACY, VERSIONED, gather, implausible, is_code, peek, read_managed
from ..subject import Subject
from ..verdict import Failed, Untested

NAMES = (LEGACY, VERSIONED)


def _answers(subject: Subject, x: object) -> list[object]:
    """What the plain and the versioned call return, where they return."""
    answers = [ask(subject, x), ask(subject, x, max_version=NEWEST)]
    found = [answer for answer in answers if not isinstance(answer, Raised)]
    if not found:
        raise Untested(f"__dlpack__ raised {answers[0]} and {answers[1]}")
    return found


@checks("capsule.is-managed-tensor", "producer")
def is_managed_tensor(subject: Subject) -> None:
    for answer in _answers(subject, example(subject)):
        named = _probe.capsule_name(answer)
        if named is None or named[0] not in NAMES:
            seen = f"a {type(answer).__name__}" if named is None else f"the name {named[0]!r}"
            raise Failed(
                f"a capsule named {LEGACY!r} or {VERSIONED!r}",
                seen,
                producer_snippet(subject, "c = x.__dlpack__()", "assert '\"dltensor' in repr(c)"),
            )


@checks("capsule.name-matches-struct", "producer")
def name_matches_struct(subject: Subject) -> None:
    for answer in _answers(subject, example(subject)):
        named = _probe.capsule_name(answer)
        if named is None or named[0] not in NAMES:
            raise Untested("see capsule.is-managed-tensor")
        address, _ = _probe.capsule_content(answer)
        is_versioned = named[0] == VERSIONED
        if not implausible(read_managed(address, is_versioned), 2):
            continue
        if not implausible(read_managed(address, not is_versioned), 2):
            raise Failed(f"the struct of {named[0]!r}", "the other struct")


@checks("struct.layout", "producer")
def layout(subject: Subject) -> None:
    for answer in _answers(subject, example(subject)):
        named = _probe.capsule_name(answer)
        if named is None or named[0] not in NAMES:
            raise Untested("see capsule.is-managed-tensor")
        address, _ = _probe.capsule_content(answer)
        as_named = read_managed(address, named[0] == VERSIONED)
        reason = implausible(as_named, 2)
        if reason and not implausible(read_managed(address, named[0] != VERSIONED), 2):
            raise Untested("see capsule.name-matches-struct")
        if reason:
            raise Failed("the layout of the header", reason)
        if as_named.deleter and not is_code(as_named.deleter):
            raise Failed("a function as deleter", f"{as_named.deleter:#x}, which is no code")


@checks("capsule.name-is-static", "producer")
def name_is_static(subject: Subject) -> None:
    x = example(subject)
    for keywords in ({}, {"max_version": NEWEST}):
        addresses = set()
        for _ in range(8):
            answer = ask(subject, x, **keywords)
            named = None if isinstance(answer, Raised) else _probe.capsule_name(answer)
            if named is None or named[0] not in NAMES:
                break
            addresses.add(named[1])
        if len(addresses) > 1:
            raise Failed(
                "one name string for all exports", f"{len(addresses)} addresses in 8 exports"
            )


def _big(subject: Subject) -> str:
    """The expression for an array of 64 KiB, written so that it is read quickly."""
    return subject.make_code.format(values="[0] * 16384", shape=(16384,), dtype=subject.dtypes[0])


def _keeps_memory(subject: Subject, versioned: bool) -> bool:
    """Whether dropped capsules of fresh arrays of 64 KiB keep memory.

    A destructor may release by another way than through the field that was watched.
    """
    asked = {"max_version": NEWEST} if versioned else {}
    if subject.make_code:
        make = functools.partial(subject.evaluate, _big(subject))
    else:
        make = functools.partial(subject.make, [0] * 16384, (16384,), subject.dtypes[0])

    def drop() -> int:
        for _ in range(32):
            ask(subject, make(), **asked)
        subject.settle()
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * 4096

    sizes = [drop() for _ in range(4)]
    return all(later - sooner > 1 << 20 for sooner, later in itertools.pairwise(sizes))


@checks("capsule.dropped-runs-deleter", "producer")
def dropped_runs_deleter(subject: Subject) -> None:
    for made in both_kinds(subject, example(subject)):
        managed = made.managed
        if not managed.deleter:
            raise Untested("it publishes a NULL deleter")
        token = _probe.watch_deleter(managed.address, managed.versioned)
        made.capsule = None
        calls = _probe.watched_calls(token)
        if calls == 0 and subject.ground != "host":
            raise Untested("its destructor releases by another way than the published deleter")
        if calls > 1 or (calls == 0 and _keeps_memory(subject, managed.versioned)):
            asked = "max_version=(1, 0)" if managed.versioned else ""
            big = _big(subject)
            raise Failed(
                "one call of the deleter when the capsule dies",
                f"{calls} calls" + ("" if calls else ", and memory that is never released"),
                producer_snippet(
                    subject,
                    "rss = lambda: int(open('/proc/self/statm').read().split()[1]) * 4096",
                    f"drop = lambda: [{big}.__dlpack__({asked}) and 0 for _ in range(32)] and rss()",  # noqa: E501
                    "sizes = [drop() for _ in range(4)]",
                    "assert not all(b - a > 1 << 20 for a, b in zip(sizes, sizes[1:])), sizes",
                ),
            )


@checks("capsule.consumed-skips-deleter", "producer")
def consumed_skips_deleter(subject: Subject) -> None:
    for made in both_kinds(subject, example(subject)):
        managed = made.managed
        if not managed.deleter:
            raise Untested("it publishes a NULL deleter")
        token = _probe.watch_deleter(managed.address, managed.versioned)
        name = VERSIONED if managed.versioned else LEGACY
        _probe.capsule_rename(made.capsule, "used_" + name)
        made.capsule = None
        calls = _probe.watched_calls(token)
        if calls:
            raise Failed("no call of the deleter by a consumed capsule", f"{calls} calls ({name})")
        _probe.call_deleter(managed.address, managed.versioned, "here")


@checks("capsule.null-deleter-skipped", "producer")
def null_deleter_skipped(subject: Subject) -> None:
    """A crash of this check is the failure."""
    found = both_kinds(subject, example(subject))
    try:
        found += both_kinds(subject, subject.make([], (0, 3), subject.dtypes[0]))
    except Exception:
        pass  # it makes no empty array
    found = [made for made in found if not made.managed.deleter]
    if not found:
        raise Untested("it publishes a deleter")
    for made in found:
        made.capsule = None


@checks("capsule.destructor-keeps-exception", "producer")
def destructor_keeps_exception(subject: Subject) -> None:
    mine = KeyError("mine")
    holders = [[made.capsule] for made in both_kinds(subject, example(subject))]
    left = [_probe.drop_with_exception(holder, mine) for holder in holders]
    for found in left:  # after all have died: a raise of ours would be swallowed too
        if found is not mine:
            raise Failed("the exception that was in flight", f"{found!r} after the destructor")


@checks("capsule.exports-independent", "producer")
def exports_independent(subject: Subject) -> None:
    x = example(subject)
    dtype = subject.dtypes[0]
    values = [float(v) for v in range(6)]
    for first in (0, 1):
        pair = [export(subject, x, 2, max_version=NEWEST) for _ in range(2)]
        kept = pair[1 - first]
        pair[first].capsule = None
        again = peek(kept.capsule, 2)
        if again != kept.managed:
            raise Failed("an unchanged struct after the other export was released", f"{again}")
        if subject.ground == "host" and gather(again, dtype) != values:
            raise Failed("the same values after the other export was released", "others")
