"""Memory lives as long as somebody uses it, and its deleter runs once, in the end."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
import types
import weakref

import ml_dtypes
import numpy as np
import pytest
from support import child, dlpack
from support.consumers import CONSUMERS, values
from support.dlpack import Fake, Reusable, Tabled
from support.live import settle
from support.peers import torch

import dlexchange as dx
from dlexchange.errors import ReadOnlyWarning

#: Those that share what lies aligned and compact, so that a chain of them is one memory.
LINKS = ("tensor", "numpy", "torch", "jax", "tvm_ffi")

each_consumer = pytest.mark.parametrize("consumer", CONSUMERS.values(), ids=CONSUMERS.keys())
each_dialect = pytest.mark.parametrize("legacy", [False, True], ids=["versioned", "legacy"])


def aligned_array():
    memory = np.zeros(128, np.uint8)
    array = memory[-memory.ctypes.data % 64 :][:64].view(np.float32)
    array[:] = np.arange(16)
    return array


# ---- chains ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings(f"ignore::{ReadOnlyWarning.__module__}.ReadOnlyWarning")
@pytest.mark.parametrize("names", [*itertools.product(LINKS, repeat=2)], ids="-".join)
def test_chain_of_three_may_end_in_any_order(names):
    for last in LINKS:
        for order in itertools.permutations(range(3)):
            fake = Fake(aligned_array())
            expected = fake.array.tolist()
            links = [fake]
            for name in (*names, last):
                links.append(CONSUMERS[name](links[-1]))
            links = links[1:]
            for at in order:
                assert fake.calls == 0
                for link in links:
                    assert link is None or values(link) == expected
                link = links[at] = None
            assert settle(lambda fake=fake: fake.calls == 1), (names, last, order)


@each_consumer
@each_dialect
def test_deleter_waits_for_the_result(consumer, legacy):
    fake = Fake(aligned_array(), legacy=legacy)
    result = consumer(fake, copy=False)
    gc.collect()
    assert fake.calls == 0
    assert values(result) == fake.array.tolist()
    del result
    assert settle(lambda: fake.calls == 1)


def test_views_keep_the_memory():
    makers = {
        "numpy": lambda x: dx.to_numpy(x)[2:4],
        "torch": lambda x: dx.to_torch(x).reshape(4, 4)[1:, 2],
        "torch storage": lambda x: dx.to_torch(x).untyped_storage(),
        "jax as numpy": lambda x: np.asarray(dx.to_jax(x)),
        "memoryview": lambda x: memoryview(dx.from_dlpack(x))[3:],
        "tvm_ffi as numpy": lambda x: np.from_dlpack(dx.convert(x, "tvm_ffi")),
        "numpy of a tensor": lambda x: np.asarray(dx.from_dlpack(x)),
        "torch of numpy": lambda x: torch.from_numpy(dx.to_numpy(x)),
        "autograd": lambda x: dx.to_torch(x).requires_grad_() * 2,
        "iterator": lambda x: iter(memoryview(dx.from_dlpack(x))),
    }
    for name, make in makers.items():
        fake = Fake(aligned_array())
        view = make(fake)
        gc.collect()
        assert fake.calls == 0, name
        del view
        assert settle(lambda fake=fake: fake.calls == 1), name


@each_consumer
def test_a_copy_lets_go_at_once(consumer):
    fake = Fake(aligned_array())
    result = consumer(fake, copy=True)
    assert settle(lambda: fake.calls == 1)
    assert values(result) == fake.array.tolist()


@pytest.mark.parametrize("keywords", [{}, {"max_version": (1, 0)}], ids=["legacy", "versioned"])
def test_capsule_that_nobody_takes_lets_go(keywords):
    fake = Fake()
    capsule = dx.from_dlpack(fake).__dlpack__(**keywords)
    gc.collect()
    assert fake.calls == 0
    del capsule
    assert fake.calls == 1


def test_capsule_in_a_cycle_lets_go():
    fake = Fake()
    cycle = [dx.from_dlpack(fake).__dlpack__()]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert fake.calls == 1


def test_producer_object_lives_as_long_as_its_memory():
    class Array(np.ndarray):
        pass

    array = Array((4,))
    alive = weakref.ref(array)
    results = [consumer(array) for consumer in CONSUMERS.values()]
    results += [dx.from_dlpack(array).__dlpack__(), memoryview(dx.from_dlpack(array))]
    del array
    while results:
        gc.collect()
        kept = alive()
        if kept is None:  # only those that had to copy are left
            break
        del kept
        results.pop()
    del results
    assert settle(lambda: alive() is None)


@pytest.mark.slow
def test_long_chains_end_without_ending_the_stack():
    child.run(
        """
        import threading
        import numpy as np, torch
        import dlexchange as dx
        links = {
            "numpy, tensor": lambda x: dx.to_numpy(dx.from_dlpack(x)),
            "numpy, torch": lambda x: dx.to_numpy(dx.to_torch(x)),
            "tensor": dx.from_dlpack,
            "capsule": lambda x: dx.from_dlpack(dx.from_dlpack(x).__dlpack__(max_version=(1, 0))),
            "tvm_ffi": lambda x: dx.to_numpy(dx.convert(x, "tvm_ffi")),
            "buffer": lambda x: dx.from_dlpack(np.asarray(memoryview(dx.from_dlpack(x)))),
        }
        def build(link):
            x = np.zeros(4)
            for _ in range(50_000):
                x = link(x)
            assert dx.stats().live > 50_000 or link is links["numpy, torch"]
        for name, link in links.items():
            thread = threading.Thread(target=build, args=(link,))  # a small stack
            thread.start()
            thread.join()
            assert dx.stats().live == 0, (name, dx.stats())
        """
    )


# ---- references -----------------------------------------------------------------------------


PRODUCERS = {
    "numpy": lambda: aligned_array(),
    "numpy, steps": lambda: aligned_array()[::2],
    "numpy, bfloat16": lambda: np.ones(8, ml_dtypes.bfloat16),
    "torch": lambda: torch.arange(16.0),
    "Parameter": lambda: torch.nn.Parameter(torch.ones(4), requires_grad=False),
    "torch subclass": lambda: torch.ones(4).as_subclass(torch.nn.Buffer),
    "jax": lambda: dx.to_jax(np.arange(16, dtype=np.float32), copy=True),
    "tvm_ffi": lambda: dx.convert(aligned_array(), "tvm_ffi"),
    "tensor": lambda: dx.from_dlpack(aligned_array()),
    "array_api_strict": lambda: dx.convert(aligned_array(), "array_api_strict"),
    "__dlpack__": lambda: Reusable(aligned_array()),
    "table": lambda: Tabled(aligned_array()),
}
REFUSED = {
    "numpy, objects": lambda: np.array([None, 1]),
    "numpy, byte order": lambda: np.ones(3, ">f4"),
    "numpy, masked": lambda: np.ma.masked_all(3),
    "torch, grad": lambda: torch.ones(3, requires_grad=True),
    "torch, conj": lambda: torch.ones(3, dtype=torch.complex64).conj(),
    "torch, sparse": lambda: torch.eye(3).to_sparse(),
    "torch, 70 dimensions": lambda: torch.ones([1] * 70),
    "__dlpack__": lambda: Reusable(dtype=(200, 8, 1)),
    "table": lambda: Tabled(dtype=(200, 8, 1)),
    "nothing": lambda: object(),
}


def references(x):
    """Count the references that a leak would show up in."""
    counted = [x, type(x), dx.Tensor, np.ndarray, np.dtype(np.float32), torch.Tensor]
    counted += [np.dtype(ml_dtypes.bfloat16), None, True, False, dx.ExchangeError, dx.CopyError]
    return [sys.getrefcount(one) for one in counted]


def grown(before, after):
    return [b - a for a, b in zip(before, after, strict=True) if b - a >= 50]


def assert_no_references_grow(producer, use):
    """Do it a hundred times and look for what was done a hundred times too often."""
    for _ in range(3):
        use()
    settle(lambda: dx.stats().live <= 1)
    before = references(producer)
    for _ in range(100):
        use()
    if grown(before, references(producer)):
        settle(lambda: not grown(before, references(producer)))
    assert grown(before, references(producer)) == []


@pytest.mark.filterwarnings(f"ignore::{ReadOnlyWarning.__module__}.ReadOnlyWarning")
@each_consumer
@pytest.mark.parametrize("make", PRODUCERS.values(), ids=PRODUCERS.keys())
def test_hand_offs_leave_no_references(consumer, make):
    producer = make()
    if make is PRODUCERS["numpy, bfloat16"] and consumer is CONSUMERS["array_api_strict"]:
        return  # it has no such dtype
    assert_no_references_grow(producer, lambda: consumer(producer))


@each_consumer
@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("copy", [None, False])
def test_refusals_leave_no_references(consumer, make, copy):
    producer = make()

    def refuse():
        with pytest.raises((dx.ExchangeError, TypeError)):
            consumer(producer, copy=copy)

    assert_no_references_grow(producer, refuse)


def test_arguments_leave_no_references():
    tensor = dx.from_dlpack(np.zeros(4))
    things = [object(), (1, 0), (2, 0), "cpu", 5]
    for thing in things:
        before = sys.getrefcount(thing)
        for _ in range(50):
            for use in (
                lambda t=thing: tensor.__dlpack__(max_version=t),
                lambda t=thing: tensor.__dlpack__(dl_device=t),
                lambda t=thing: tensor.__dlpack__(stream=t),
                lambda t=thing: tensor.__dlpack__(copy=t),
                lambda t=thing: dx.from_dlpack(np.zeros(4), device=t),
                lambda t=thing: dx.to_numpy(np.zeros(4), stream=t),
                lambda t=thing: dx.to_numpy(np.zeros(4), copy=t),
                lambda t=thing: dx.to_numpy(np.zeros(4), nonsense=t),
            ):
                try:
                    use()
                except (TypeError, ValueError, BufferError):
                    pass
        gc.collect()
        assert sys.getrefcount(thing) - before < 20, thing


def test_convert_keeps_no_array_it_was_shown():
    target = torch.zeros(3)
    alive = weakref.ref(target)
    dx.convert(np.zeros(3), target)
    del target
    gc.collect()
    assert alive() is None


# ---- close, from somewhere else ------------------------------------------------------------------


def test_close_during_an_export_in_another_thread_waits_for_it():
    exporting, closed = threading.Event(), threading.Event()
    seen = []

    def slow_from_dlpack(tensor):
        capsule = tensor.__dlpack__(max_version=(1, 0))
        exporting.set()
        closed.wait()
        array = dx.to_numpy(capsule)
        seen.append((array.tolist(), fake.calls))
        return array

    framework = types.ModuleType("slow_framework")
    framework.from_dlpack = slow_from_dlpack
    sys.modules["slow_framework"] = framework
    try:
        fake = Fake()
        tensor = dx.from_dlpack(fake)
        worker = threading.Thread(target=dx.convert, args=(tensor, framework))
        worker.start()
        exporting.wait()
        tensor.close()
        assert fake.calls == 0
        closed.set()
        worker.join()
    finally:
        del sys.modules["slow_framework"]
        dx._core._forget_types()
    assert seen == [(fake.array.tolist(), 0)]
    assert settle(lambda: fake.calls == 1)


def test_close_while_a_large_copy_runs_without_the_gil():
    for _ in range(20):
        source = np.arange(200_000, dtype=np.float32)
        fake = Fake(source)
        tensor = dx.from_dlpack(fake)
        results, start = [], threading.Barrier(3)

        def copy(tensor=tensor, results=results, start=start):
            start.wait()
            try:
                results.append(dx.to_numpy(tensor, copy=True))
            except ValueError:  # it was closed before we came
                results.append(None)

        workers = [threading.Thread(target=copy) for _ in range(2)]
        for worker in workers:
            worker.start()
        start.wait()
        tensor.close()
        for worker in workers:
            worker.join()
        assert fake.calls == 1
        for result in results:
            assert result is None or np.array_equal(result, source)


@pytest.mark.slow
def test_shape_may_change_while_a_large_copy_runs():
    """The copy is made without the GIL; reading the producer's shape there crashed."""
    child.run(
        """
        import sys, threading
        import numpy as np
        import dlexchange as dx
        sys.setswitchinterval(1e-5)
        array = np.arange(400_000, dtype=np.float32).reshape(2, 200, 1000)[:, ::-1, ::-1]
        expected = array.ravel()
        stop = threading.Event()
        def reshape():
            while not stop.is_set():
                array.shape = (2, 1, 200, 1000)
                array.shape = (2, 200, 1000)
        worker = threading.Thread(target=reshape)
        worker.start()
        try:
            for _ in range(200):
                assert np.array_equal(dx.to_numpy(array, copy=True).ravel(), expected)
        finally:
            stop.set()
            worker.join()
        """
    )


# ---- deleters of ours, called by others ----------------------------------------------------


def test_our_deleter_keeps_the_exception_that_is_set():
    script = Fake()
    script.on_delete(lambda: [][0:1])
    managed = dlpack.claim(dx.from_dlpack(script).__dlpack__(max_version=(1, 0)))

    class Dies:
        def __del__(self):
            dlpack.delete(managed)

    def fail():
        holder = Dies()
        raise ValueError(f"{type(holder).__name__} is dying")

    with pytest.raises(ValueError, match="dying"):
        fail()
    gc.collect()
    assert script.calls == 1
    assert script.context.with_exception == 0


def test_exports_end_in_any_order():
    for order in itertools.permutations(range(3)):
        fake = Fake()
        tensor = dx.from_dlpack(fake)
        exports = [dlpack.claim(tensor.__dlpack__(max_version=(1, 0))) for _ in range(3)]
        del tensor
        for at in order:
            assert fake.calls == 0
            assert dlpack.shape_of(exports[at].dl_tensor) == (2, 3)
            dlpack.delete(exports[at])
        assert fake.calls == 1
