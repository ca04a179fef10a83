"""The n-th allocation of an author's export fails, for every n: nothing is lost."""

from __future__ import annotations

import sys

import pytest
from authors.pure_python import Grid
from authors.simulated import Chart
from support import child, dlpack
from support.dlpack import call_from_object

import dlexchange as dx
from dlexchange import _core
from dlexchange.testing import drain, simulated_cuda

BIG = (1,) * 6 + (2, 3, 4)  # shape and strides in a block of their own

EXPORTS = {
    "legacy": lambda x: x.__dlpack__(),
    "versioned": lambda x: x.__dlpack__(max_version=(1, 3)),
    "copy": lambda x: x.__dlpack__(copy=True),
    "table": lambda x: dlpack.delete(call_from_object(x)),
    "buffer": lambda x: memoryview(x).release(),
    "array interface": lambda x: x.__array_interface__,
    "device": lambda x: x.__dlpack_device__(),
    "Tensor": dx.from_dlpack,
    "numpy": dx.to_numpy,
}


def occupy():
    """Empty the freelists: each object made after this is allocated."""
    grid = Grid([1], (1,))
    held = [dx.from_dlpack(grid) for _ in range(70)]
    return held, [held[0].__dlpack__() for _ in range(70)], [grid.__dlexchange__()] * 10


def attempts(x, export, owner):
    """Fail the first, the second, ... of our allocations. Returns how many there are."""
    export(x)  # loads what is loaded at first use
    for nth in range(1, 30):
        kept = occupy()
        drain()
        before, references = dx.stats().live, sys.getrefcount(owner)
        _core._fail_allocation(nth)
        result, failed = None, False
        try:
            result = export(x)
        except MemoryError:
            failed = True
        finally:
            left = _core._fail_allocation(0)
        del result  # its release is another test's
        assert (left <= 0) == failed, "a failed allocation went unnoticed"
        if not failed:
            return nth - 1
        drain()
        assert (dx.stats().live, sys.getrefcount(owner)) == (before, references)
        del kept
    raise AssertionError("it never stops allocating")


@pytest.mark.parametrize("shape", [(24,), BIG], ids=["1 dimension", "9 dimensions"])
@pytest.mark.parametrize("export", EXPORTS.values(), ids=EXPORTS.keys())
def test_every_allocation_of_an_export_may_fail(export, shape):
    grid = Grid(range(24), shape)
    made = attempts(grid, export, grid.memory)
    if shape is BIG:  # of the description at the least
        assert made >= 1


DEVICE_EXPORTS = {
    "__dlpack__": lambda x, consumer: x.__dlpack__(stream=consumer.handle),
    "to the host": lambda x, consumer: x.__dlpack__(dl_device=(1, 0)),
    "interface": lambda x, consumer: x.__cuda_array_interface__,
    "Tensor": lambda x, consumer: dx.from_dlpack(x),
    "consume": lambda x, consumer: dx.consume(x, stream=consumer),
}


@pytest.mark.parametrize("export", DEVICE_EXPORTS.values(), ids=DEVICE_EXPORTS.keys())
def test_every_allocation_of_an_export_with_streams_may_fail(export):
    with simulated_cuda() as sim:
        sim.set_device(0)
        consumer = sim.stream()
        chart = Chart(sim, (6,), 1, streams=[sim.stream(), sim.stream()])
        assert attempts(chart, lambda x: export(x, consumer), chart.memory) >= 1
        drain()
        assert sim.findings == []


@pytest.mark.slow
@pytest.mark.parametrize("also_later", [False, True], ids=["one fails", "all from then on fail"])
@pytest.mark.parametrize(
    "call",
    [
        "describe",
        "describe_wrongly",
        "Grid.__dlpack__",
        "Grid.__dlpack_device__",
        "memoryview",
        "Grid.__array_interface__.__get__",
        "dx.from_dlpack",
        "Fixed.__dlpack__",
    ],
)
def test_every_allocation_of_python_may_fail(call, also_later):
    """In a process of its own, by CPython's own fault injection."""
    pytest.importorskip("_testcapi", reason="this Python brings no fault injection")
    child.run(
        f"""
        import gc, sys
        from _testcapi import remove_mem_hooks, set_nomemory
        import dlexchange as dx
        from authors.pure_python import Grid

        def describe(grid):
            return dx.Description(4096, (1,) * 8 + (2, 3), "float32", owner=grid.memory)

        def describe_wrongly(grid):
            return dx.Description(4096, (-1, 3), "float32", owner=grid.memory)

        class Fixed(Grid, fixed=True):
            pass

        def never_described():
            made = Fixed.__new__(Fixed)
            made.__dict__.update(grid.__dict__)
            return made

        def speaks_of_memory(error):
            while error is not None and not isinstance(error, MemoryError):
                error = error.__cause__ or error.__context__
            return error is not None

        grid = Grid(range(6), (2, 3))
        try:
            expected = type({call}(never_described()))
        except dx.ExchangeError as error:
            expected = type(error)
        gc.collect()
        live, references = dx.stats().live, sys.getrefcount(grid.memory)
        failures = quiet = nth = 0
        while quiet < 40:  # well behind the last allocation
            kept = [dx.from_dlpack(grid) for _ in range(70)]  # the freelists are empty now
            kept += [kept[0].__dlpack__() for _ in range(70)]
            kept += [describe(grid) for _ in range(10)]
            prepared = never_described()
            set_nomemory(nth, 0 if {also_later} else nth + 1)
            try:
                try:
                    outcome = {call}(prepared)
                finally:
                    remove_mem_hooks()
            except BaseException as error:
                remove_mem_hooks()
                error.__traceback__ = None
                outcome = error
            if type(outcome) is expected and not (
                isinstance(outcome, BaseException) and speaks_of_memory(outcome)
            ):
                quiet += 1
            else:
                assert speaks_of_memory(outcome), (nth, outcome)
                failures += 1
                quiet = 0
            nth += 1
            outcome = kept = prepared = None
            gc.collect(0)
            assert dx.stats().live == live, (nth, dx.stats())
        gc.collect()
        assert failures or not {also_later}, "no allocation failed"
        assert sys.getrefcount(grid.memory) == references, sys.getrefcount(grid.memory)
        """
    )
