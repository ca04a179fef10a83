"""Deleters on any thread, with or without the GIL; hand-offs on many threads at once."""

from __future__ import annotations

import ctypes
import random
import threading

import numpy as np
import pytest
from support import dlpack, native
from support.consumers import CONSUMERS, values
from support.dlpack import Fake
from support.live import settle
from support.peers import torch

import dlexchange as dx
from dlexchange.errors import ReadOnlyWarning

VERSIONS = {"legacy": {}, "versioned": {"max_version": (1, 0)}}
each_version = pytest.mark.parametrize("keywords", VERSIONS.values(), ids=VERSIONS.keys())

#: What an export may hold: a Tensor (always), and behind it one of these.
BEHIND = {
    "object": lambda fake: np.asarray(memoryview(dx.from_dlpack(fake))),
    "versioned": lambda fake: fake,
    "legacy": lambda fake: Fake(fake.array, legacy=True),
    "torch": lambda fake: dx.to_torch(fake),
}


def exported(producer, **keywords):
    """Hand a managed tensor out: (address, is it versioned)."""
    managed = dlpack.claim(dx.from_dlpack(producer).__dlpack__(**keywords))
    return ctypes.addressof(managed), int(isinstance(managed, dlpack.ManagedVersioned))


# ---- one deleter on one odd thread -------------------------------------------------------------


@each_version
@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND.keys())
def test_deleter_with_the_gil(behind, keywords):
    producer = behind(Fake())
    address, versioned = exported(producer, **keywords)
    del producer
    native.held.delete_here(address, versioned)
    assert dx.stats().live == 0


@each_version
@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND.keys())
def test_deleter_without_the_gil_on_a_thread_of_python(behind, keywords):
    producer = behind(Fake())
    address, versioned = exported(producer, **keywords)
    del producer
    native.released.delete_here(address, versioned)
    assert dx.stats().live == 0


@each_version
@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND.keys())
def test_deleter_on_another_thread_of_python(behind, keywords):
    producer = behind(Fake())
    address, versioned = exported(producer, **keywords)
    del producer
    for library in (native.held, native.released):
        worker = threading.Thread(target=library.delete_here, args=(address, versioned))
        worker.start()
        worker.join()
        assert dx.stats().live == 0
        address, versioned = exported(Fake(), **keywords)
    native.held.delete_here(address, versioned)


@each_version
@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND.keys())
def test_deleter_on_a_foreign_thread_does_not_wait_for_the_gil(behind, keywords):
    """The caller joins that thread while it holds the GIL: waiting would never end."""
    producer = behind(Fake())
    address, versioned = exported(producer, **keywords)
    del producer
    assert native.held.delete_in_raw_thread(address, versioned) == 0
    assert settle(lambda: dx.stats().live == 0)


def test_deleter_on_a_foreign_thread_runs_the_producers_once():
    fake = Fake()
    address, versioned = exported(fake, max_version=(1, 0))
    native.held.delete_in_raw_thread(address, versioned)
    assert settle(lambda: fake.calls == 1)
    assert fake.context.with_gil == 1  # on a thread that may


def test_what_foreign_threads_left_is_dropped_by_the_next_call():
    for use in (
        lambda: dx.to_numpy(np.zeros(1)),
        lambda: dx.from_dlpack(np.zeros(1)),
        lambda: dx.convert(np.zeros(1), "torch"),
    ):
        fakes = [Fake() for _ in range(100)]
        addresses = [exported(fake, max_version=(1, 0))[0] for fake in fakes]
        array = (ctypes.c_void_p * 100)(*addresses)
        native.held.delete_in_raw_threads(array, 25, 4)
        use()
        assert settle(lambda fakes=fakes: [fake.calls for fake in fakes] == [1] * 100)


def test_what_foreign_threads_left_is_dropped_without_another_call():
    fake, dropped = Fake(), threading.Event()
    fake.on_delete(dropped.set)
    address, versioned = exported(fake, max_version=(1, 0))
    native.held.delete_in_raw_thread(address, versioned)
    assert dropped.wait(60)
    assert fake.calls == 1


def test_deleters_on_many_foreign_threads_at_once():
    n, threads = 500, 16
    for library in (native.held, native.released):
        fakes = [Fake() for _ in range(n * threads)]
        addresses = [exported(fake, max_version=(1, 0))[0] for fake in fakes]
        array = (ctypes.c_void_p * len(fakes))(*addresses)
        assert library.delete_in_raw_threads(array, n, threads) == 0
        assert settle(lambda fakes=fakes: all(fake.calls == 1 for fake in fakes))
    del Fake.kept[-2 * n * threads :]


def test_python_called_by_a_deferred_deleter_may_hand_off():
    pytest.importorskip("torch", reason="absent: torch is not installed")
    results = []
    fake = Fake()
    fake.on_delete(lambda: results.append(dx.to_torch(np.arange(3)).sum().item()))
    address, versioned = exported(fake, max_version=(1, 0))
    native.held.delete_in_raw_thread(address, versioned)
    assert settle(lambda: results == [3])


def test_array_may_die_on_another_thread():
    for make in (dx.to_numpy, dx.to_torch, dx.from_dlpack, dx.to_jax):
        fake = Fake()
        holder = [make(fake)]
        worker = threading.Thread(target=holder.clear)
        worker.start()
        worker.join()
        assert settle(lambda fake=fake: fake.calls == 1)


# ---- one thing, many threads -------------------------------------------------------------------


@pytest.mark.parametrize("bare", [True, False], ids=["capsule", "producer"])
def test_one_capsule_is_consumed_by_one_of_many_threads(bare):
    for _ in range(50):
        fake = Fake()
        capsule = fake.capsule()

        class Sharing:
            def __dlpack_device__(self):
                return (1, 0)

            def __dlpack__(self, capsule=capsule, **keywords):
                return capsule

        taken, refused, start = [], [], threading.Barrier(4)

        def consume(x, taken=taken, refused=refused, start=start):
            start.wait()
            try:
                taken.append(dx.from_dlpack(x))
            except dx.ExchangeError as error:
                refused.append(str(error))

        x = capsule if bare else Sharing()
        workers = [threading.Thread(target=consume, args=(x,)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(taken) == 1
        assert len(refused) == 3
        assert all("consumed already" in text for text in refused)
        assert fake.calls == 0
        taken.clear()
        assert fake.calls == 1


def test_one_tensor_is_exported_by_many_threads():
    pytest.importorskip("torch", reason="absent: torch is not installed")
    fake = Fake()
    tensor = dx.from_dlpack(fake)
    start = threading.Barrier(8)

    def export():
        start.wait()
        for _ in range(300):
            for consumer in (dx.to_numpy, dx.to_torch, dx.from_dlpack):
                assert consumer(tensor).shape == (2, 3)

    run(export, 8)
    assert fake.calls == 0
    tensor.close()
    assert settle(lambda: fake.calls == 1)


def run(target, n):
    """Run `target` on n threads; raise what the first failing one raised."""
    failures = []

    def guarded(i):
        try:
            target(i) if target.__code__.co_argcount else target()
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=guarded, args=(i,)) for i in range(n)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]


@pytest.mark.slow
@pytest.mark.filterwarnings(f"ignore::{ReadOnlyWarning.__module__}.ReadOnlyWarning")
@pytest.mark.parametrize("names", [("tensor", "numpy", "torch"), tuple(CONSUMERS)], ids=len)
def test_eight_threads_hand_off_between_random_pairs(names):
    """10 000 hand-offs a thread; jax and Python's own frameworks get a tenth of them."""
    rounds = 10_000 if len(names) == 3 else 1_000

    def hand_over(seed):
        pick = random.Random(seed)
        expected = float(seed)
        memory = np.zeros(128, np.uint8)
        base = memory[-memory.ctypes.data % 64 :][:64].view(np.float32)
        base[:] = expected
        x = base
        for i in range(rounds):
            x = CONSUMERS[pick.choice(names)](x)
            if i % 10 == 0:
                assert values(x) == [expected] * 16
                x = base if pick.random() < 0.8 else torch.full((16,), expected)
        assert values(x) == [expected] * 16

    run(hand_over, 8)
    assert settle(lambda: dx.stats().live == 0)


@pytest.mark.slow
def test_types_come_and_go_while_eight_threads_hand_off():
    def hand_over(seed):
        for i in range(300):
            made = type(f"Made{seed}_{i}", (Fake,), {})
            fake = made(np.full(4, i, np.float32))
            Fake.kept.remove(fake)
            assert values(dx.to_numpy(fake)) == [i] * 4
            if i % 3 == 0:
                dx._core._forget_types()
            if i % 7 == 0:
                made.__dlpack__ = lambda self, **keywords: 3
                with pytest.raises(dx.ExchangeError, match="not a capsule"):
                    dx.to_numpy(made())

    run(hand_over, 8)
