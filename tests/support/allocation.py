"""Fail the n-th allocation, for every n: ours by a counter in C, Python's by CPython's own."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import dlexchange as dx
from dlexchange.testing import drain

from .live import settle


@contextlib.contextmanager
def failing_allocation(nth: int) -> Iterator[Callable[[], bool]]:
    """Let the n-th allocation of ours fail; yields a function: has it been reached?"""
    dx._core._fail_allocation(nth)
    try:
        yield lambda: dx._core._fail_allocation(0) <= 0
    finally:
        dx._core._fail_allocation(0)


def occupy() -> list[Any]:
    """Empty the freelists: each object made while the result lives is allocated."""
    base = np.zeros(1)
    tensors = [dx.from_dlpack(base) for _ in range(70)]
    capsules = [tensors[0].__dlpack__() for _ in range(70)]
    described = [dx.Description(4096, (1,), "float32", owner=base) for _ in range(10)]
    return [tensors, capsules, described]


def fail_each_of_ours(
    make: Callable[[], Any],
    use: Callable[[Any], Any],
    owner: Callable[[Any], Any] = lambda x: x,
    look: Callable[[Any], None] = lambda x: None,
) -> int:
    """Fail the first, the second, ... allocation of `use(make())`; returns how many there are.

    Nothing may be left behind: no live memory, no reference to the `owner` of what was
    made, and what else `look` asserts. The result's release is not failed.
    """
    use(make())  # loads what is loaded at first use
    for nth in range(1, 100):
        kept = occupy()
        x = make()
        gc.collect(0)
        drain()  # a release that is parked refers to the owner until it is over
        before, references = dx.stats().live, sys.getrefcount(owner(x))
        result, failed = None, False
        with failing_allocation(nth) as reached:
            try:
                result = use(x)
            except MemoryError:
                failed = True
            assert reached() == failed, "a failed allocation went unnoticed"
        del result
        if not failed:
            return nth - 1
        drain()
        assert settle(lambda before=before: dx.stats().live <= before)
        assert sys.getrefcount(owner(x)) == references
        look(x)
        del kept
    raise AssertionError("it never stops allocating")


def need_pythons_fault_injection() -> None:
    """Skip where there is none, or where it brings the interpreter itself down."""
    pytest.importorskip("_testcapi", reason="this Python brings no fault injection")
    if sys.version_info >= (3, 12):
        pytest.skip("CPython 3.12 and 3.13 crash where the memory of a generator fails")


def fail_each_of_python(
    prepare: Callable[[], Any],
    call: Callable[[Any], Any],
    also_later: bool,
    look: Callable[[], None] = lambda: None,
) -> None:
    """Fail the n-th allocation of the interpreter in `call(prepare())`, for every n.

    For a child process, and a `call` in C. Each failure has to be seen as a MemoryError, or
    to have one for its cause, and to leave nothing live; `look` asserts what else there is.
    """
    expected = type(_outcome(call, prepare()))
    gc.collect()
    live = dx.stats().live
    failures = quiet = nth = 0
    while quiet < 40:  # well behind the last allocation
        kept = occupy()
        x = prepare()
        outcome = _outcome(call, x, nth, 0 if also_later else nth + 1)
        if type(outcome) is expected and not _speaks_of_memory(outcome):
            quiet += 1
        else:
            assert _speaks_of_memory(outcome), (nth, outcome)
            failures += 1
            quiet = 0
        nth += 1
        outcome = x = kept = None  # type: ignore[assignment]  # noqa: F841
        gc.collect(0)
        assert dx.stats().live == live, (nth, dx.stats())
        look()
    assert failures or not also_later, "no allocation failed"


def _outcome(call: Callable[[Any], Any], x: Any, *failing: int) -> Any:
    """What `call(x)` returns or raises; allocations fail from the one to before the other."""
    from _testcapi import remove_mem_hooks, set_nomemory

    sys._getframe()  # CPython loses the error where it cannot make a frame's object
    try:
        if failing:
            set_nomemory(*failing)
        try:
            return call(x)
        finally:
            remove_mem_hooks()
    except BaseException as error:
        remove_mem_hooks()
        error.__traceback__ = None
        return error


def _speaks_of_memory(error: Any) -> bool:
    while isinstance(error, BaseException):
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False
