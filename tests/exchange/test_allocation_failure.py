"""The n-th allocation fails, for every n: MemoryError, nothing taken, nothing lost."""

from __future__ import annotations

import contextlib
import ctypes
import gc

import numpy as np
import pytest
from support import child, dlpack, native
from support.allocation import (
    fail_each_of_ours,
    failing_allocation,
    need_pythons_fault_injection,
    occupy,
)
from support.dlpack import Fake, Reusable, Tabled
from support.peers import torch

import dlexchange as dx

BIG = (1,) * 6 + (2, 3, 4)  # shape and strides in a block of their own

PRODUCERS = {
    "numpy": lambda: np.arange(24.0),
    "numpy, 9 dimensions": lambda: np.arange(24.0).reshape(BIG),
    "numpy, backward": lambda: np.arange(24.0)[::-1],
    "torch": lambda: torch.arange(24.0),
    "torch, 9 dimensions": lambda: torch.arange(24.0).reshape(BIG),
    "torch, conj": lambda: torch.arange(24.0).to(torch.complex64).conj(),
    "__dlpack__": lambda: Reusable(np.arange(24.0).reshape(2, 12)),
    "__dlpack__, legacy": lambda: Reusable(np.arange(24.0).reshape(BIG), legacy=True),
    "capsule": lambda: Fake(np.arange(24.0).reshape(BIG)).capsule(),
    "table": lambda: Tabled(np.arange(24.0).reshape(BIG)),
    "tensor": lambda: dx.from_dlpack(np.arange(24.0)),
    "tensor, 9 dimensions": lambda: dx.from_dlpack(np.arange(24.0).reshape(BIG)),
}
CONSUMERS = {
    "from_dlpack": dx.from_dlpack,
    "to_numpy": dx.to_numpy,
    "to_torch": dx.to_torch,
    "to_jax": dx.to_jax,
    "convert to numpy": lambda x, **keywords: dx.convert(x, "numpy", **keywords),
    "convert to tvm_ffi": lambda x, **keywords: dx.convert(x, "tvm_ffi", **keywords),
    "convert to array_api_strict": lambda x, **k: dx.convert(x, "array_api_strict", **k),
}
each_producer = pytest.mark.parametrize("make", PRODUCERS.values(), ids=PRODUCERS.keys())
each_consumer = pytest.mark.parametrize("consumer", CONSUMERS.values(), ids=CONSUMERS.keys())


def assert_nothing_was_lost(producer):
    if isinstance(producer, Reusable):
        assert producer.last.calls == 1  # it was made for us, and let go again
    elif type(producer).__name__ == "PyCapsule":
        claimed = dlpack.name_of(producer).startswith(b"used_")
        assert Fake.kept[-1].calls == claimed
    else:  # it can be used as before
        assert dx.to_numpy(producer, copy=True).size == 24


@each_producer
@each_consumer
@pytest.mark.parametrize("copy", [None, True])
def test_every_allocation_of_a_hand_off_may_fail(make, consumer, copy):
    if make is PRODUCERS["torch, conj"] and not copy:
        return  # refused, see test_values_torch.py
    made = fail_each_of_ours(make, lambda x: consumer(x, copy=copy), look=assert_nothing_was_lost)
    if copy and make is not PRODUCERS["torch, conj"]:  # which torch copies
        assert made >= 1


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"max_version": (1, 0)},
        {"copy": True},
        {"max_version": (1, 0), "copy": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(24,), BIG], ids=["1 dimension", "9 dimensions"])
def test_every_allocation_of_an_export_may_fail(keywords, shape):
    fake = Fake(np.arange(24.0).reshape(shape))
    tensor = dx.from_dlpack(fake)
    expected = 1 + (len(shape) > 8) + ("copy" in keywords)
    made = 0
    for nth in range(1, 10):
        kept = occupy()
        before = dx.stats()
        with failing_allocation(nth) as reached:
            try:
                capsule = tensor.__dlpack__(**keywords)
            except MemoryError:
                assert reached()
                made += 1
                assert dx.stats().live == before.live
                assert dx.to_numpy(tensor).size == 24
            else:
                assert not reached()
                del capsule, kept
                break
        del kept
    assert made == expected
    del tensor
    assert fake.calls == 1


@pytest.mark.parametrize("shape", [(24,), BIG], ids=["1 dimension", "9 dimensions"])
def test_every_allocation_of_our_table_may_fail(shape):
    api = dlpack.ExchangeAPI.from_address(
        dlpack._api.PyCapsule_GetPointer(
            dx.Tensor.__dlpack_c_exchange_api__, b"dlpack_exchange_api"
        )
    )
    export = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(ctypes.c_void_p))(
        api.from_object
    )
    load = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.py_object))(
        api.to_object
    )
    tensor = dx.from_dlpack(np.arange(24.0).reshape(shape))
    fake = Fake(np.arange(24.0).reshape(shape))
    out, made = ctypes.c_void_p(), ctypes.py_object()
    for nth in range(1, 2 + (len(shape) > 8)):
        kept = occupy()
        before = dx.stats()
        with failing_allocation(nth):
            with pytest.raises(MemoryError):
                export(tensor, ctypes.byref(out))
            assert dx.stats().live == before.live
        del kept
    if len(shape) > 8:
        with failing_allocation(1), pytest.raises(MemoryError):
            load(fake.address(), ctypes.byref(made))
        assert fake.calls == 0


def test_every_allocation_of_our_allocator_may_fail():
    class Reported(ctypes.Structure):
        _fields_ = [
            ("calls", ctypes.c_long),
            ("kind", ctypes.c_char * 64),
            ("message", ctypes.c_char * 256),
        ]

    api = dlpack._api.PyCapsule_GetPointer(
        dx.Tensor.__dlpack_c_exchange_api__, b"dlpack_exchange_api"
    )
    dims = (ctypes.c_int64 * 1)(4)
    prototype = dlpack.Tensor(
        device=dlpack.Device(1, 0),
        ndim=1,
        dtype=dlpack.DataType(2, 32, 1),
        shape=ctypes.cast(dims, ctypes.POINTER(ctypes.c_int64)),
    )
    for nth in (1, 2):
        said, out = Reported(), ctypes.c_void_p()
        with failing_allocation(nth):
            status = native.released.call_allocator(
                ctypes.c_void_p(api), ctypes.byref(prototype), ctypes.byref(out), ctypes.byref(said)
            )
        assert (status, said.calls, said.kind, out.value) == (-1, 1, b"MemoryError", None)


def test_failures_leave_no_memory_behind():
    """What a failed hand-off had allocated before is freed."""
    tensor = dx.from_dlpack(np.arange(24.0).reshape(BIG))
    gc.collect()
    for nth in (1, 2, 3):
        for _ in range(200):
            with failing_allocation(nth), contextlib.suppress(MemoryError):
                tensor.__dlpack__(copy=True)
    assert dx.stats().blocks == 0


# ---- Python's own allocations --------------------------------------------------------------------

#: what -> (what to prepare each time, what is called while allocations fail)
PATHS = {
    "array to Tensor": ("array", "dx.from_dlpack"),
    "array to numpy": ("array", "dx.to_numpy"),
    "array, copied": ("array", "copied"),
    "foreign bytes, copied": ("swapped", "copied"),
    "foreign bytes, refused": ("swapped", "dx.to_numpy"),
    "Tensor to numpy": ("tensor", "dx.to_numpy"),
    "export": ("tensor", "export"),
    "legacy export": ("tensor", "dx.Tensor.__dlpack__"),
    "producer": ("Ready(Fake(array))", "dx.from_dlpack"),
    "bad producer": ("Ready(Fake(array, ndim=65))", "dx.from_dlpack"),
    "old producer": ("Old(Fake(array))", "dx.from_dlpack"),
    "old producer to numpy": ("Old(Fake(array, legacy=True))", "dx.to_numpy"),
    "capsule": ("Fake(array).capsule()", "dx.from_dlpack"),
    "bad capsule": ("Fake(array, dtype=(200, 8, 1)).capsule()", "dx.from_dlpack"),
    "copy=False": ("Ready(Fake(array))", "uncopied"),
    "new type": ("type('New', (Ready,), {})(Fake(array))", "dx.from_dlpack"),
    "no tensor": ("object()", "dx.from_dlpack"),
    "dtype": ("tensor", "dx.Tensor.dtype.__get__"),
    "device": ("tensor", "dx.Tensor.device.__get__"),
    "repr": ("tensor", "repr"),
    "buffer": ("tensor", "memoryview"),
    "interface": ("tensor", "dx.Tensor.__array_interface__.__get__"),
    "convert": ("array", "converted"),
}


@pytest.mark.slow
@pytest.mark.parametrize("also_later", [False, True], ids=["one fails", "all from then on fail"])
@pytest.mark.parametrize(("prepare", "call"), PATHS.values(), ids=PATHS.keys())
def test_every_allocation_of_python_may_fail(prepare, call, also_later):
    """In a process of its own, by CPython's own fault injection."""
    need_pythons_fault_injection()
    child.run(
        f"""
        import functools
        import numpy as np
        import dlexchange as dx
        from support.allocation import fail_each_of_python
        from support.dlpack import Fake

        class Ready:
            def __init__(self, fake):
                self.fake, self.ready = fake, fake.capsule()
            def __dlpack_device__(self):
                return (1, 0)
            def __dlpack__(self, **keywords):
                return self.ready

        class Old(Ready):
            def __dlpack__(self):
                return self.ready

        copied = functools.partial(dx.to_numpy, copy=True)
        uncopied = functools.partial(dx.from_dlpack, copy=False)
        def converted(x):
            return dx.convert(x, "numpy")
        export = functools.partial(dx.Tensor.__dlpack__, max_version=(1, 0))
        array = np.arange(6.0)
        swapped = array.astype(">f8")
        tensor = dx.from_dlpack(array)

        def look():
            assert all(one.calls == 1 for one in Fake.kept)
            del Fake.kept[:]

        fail_each_of_python(lambda: {prepare}, {call}, {also_later}, look)
        assert dx.to_numpy(tensor).tolist() == array.tolist()
        """
    )
