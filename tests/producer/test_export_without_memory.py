"""The n-th allocation of an author's export fails, for every n: nothing is lost."""

from __future__ import annotations

import pytest
from authors.pure_python import Grid
from authors.simulated import Chart
from support import child, dlpack
from support.allocation import fail_each_of_ours, need_pythons_fault_injection
from support.dlpack import call_from_object

import dlexchange as dx
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


@pytest.mark.parametrize("shape", [(24,), BIG], ids=["1 dimension", "9 dimensions"])
@pytest.mark.parametrize("export", EXPORTS.values(), ids=EXPORTS.keys())
def test_every_allocation_of_an_export_may_fail(export, shape):
    grid = Grid(range(24), shape)
    made = fail_each_of_ours(lambda: grid, export, lambda grid: grid.memory)
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
        failed = fail_each_of_ours(
            lambda: chart, lambda x: export(x, consumer), lambda chart: chart.memory
        )
        assert failed >= 1
        drain()
        assert sim.findings == []


@pytest.mark.slow
@pytest.mark.parametrize("also_later", [False, True], ids=["one fails", "all from then on fail"])
@pytest.mark.parametrize(
    ("prepare", "call"),
    [
        ("4096", "describe"),
        ("-4096", "describe"),
        ("grid_of()", "Grid.__dlpack__"),
        ("grid_of()", "Grid.__dlpack_device__"),
        ("grid_of()", "memoryview"),
        ("grid_of()", "Grid.__array_interface__.__get__"),
        ("grid_of()", "dx.from_dlpack"),
        ("grid_of()", "Fixed.__dlpack__"),
    ],
)
def test_every_allocation_of_python_may_fail(prepare, call, also_later):
    """In a process of its own, by CPython's own fault injection."""
    need_pythons_fault_injection()
    child.run(
        f"""
        import functools, sys
        import dlexchange as dx
        from authors.pure_python import Grid
        from support.allocation import fail_each_of_python

        class Fixed(Grid, fixed=True):
            pass

        def grid_of():  # one that was never described
            made = Fixed.__new__(Fixed)
            made.__dict__.update(grid.__dict__)
            return made

        grid = Grid(range(6), (2, 3))
        shape = (1,) * 8 + (2, 3)
        describe = functools.partial(
            dx.Description, shape=shape, dtype="float32", owner=grid.memory
        )
        references = sys.getrefcount(grid.memory)
        fail_each_of_python(lambda: {prepare}, {call}, {also_later})
        assert sys.getrefcount(grid.memory) == references, sys.getrefcount(grid.memory)
        """
    )
