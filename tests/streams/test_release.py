"""Parked memory: who looks at it, and what its deleter may do meanwhile."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import pytest
from support import child

import dlexchange as dx
from dlexchange.testing import Simulation, drain

from .conftest import other, warm


class Owner:
    """Memory that its deleter frees with a call that no capture allows beside it."""

    def __init__(self, sim: Simulation) -> None:
        self.sim, self.freed_by = sim, list[int]()
        self.address = ctypes.c_uint64()
        with sim.on_device(0):
            sim.driver("cuMemAlloc_v2", ctypes.byref(self.address), 64)

    def array(self) -> Any:
        owner = self

        class Array:
            __cuda_array_interface__ = {  # noqa: RUF012
                "shape": (16,),
                "typestr": "<i4",
                "data": (owner.address.value, False),
                "version": 3,
                "stream": None,
            }

            def __del__(self) -> None:
                owner.freed_by.append(threading.get_ident())
                with owner.sim.on_device(0):
                    owner.sim.driver("cuMemFree_v2", owner.address)

        return Array()


@pytest.mark.parametrize("mode", ["global", "thread_local"])
def test_deleter_of_parked_memory_leaves_a_capture_alone(sim: Simulation, mode: str) -> None:
    owner, c, unrelated = Owner(sim), sim.stream(), sim.stream()
    t = dx.from_dlpack(owner.array())
    t.record_stream(c)
    latch = sim.latch(c)
    t.close()
    assert dx.stats().parked == 1
    unrelated.begin_capture(mode)
    latch.open()
    drain()
    assert len(owner.freed_by) == 1
    assert unrelated.capture_status == "active"
    unrelated.end_capture().destroy()


def test_hand_off_looks_at_what_is_parked(sim: Simulation) -> None:
    warm(sim)
    consumer = other(sim)
    p, c = sim.stream(), sim.stream()
    x = sim.array(4, stream=p, fill=1)

    def hand_off() -> None:
        with sim.framework().use_stream(p), consumer.use_stream(c):
            dx.convert(x, consumer.array_type)

    before = dx._core._stats()["reaped"]
    for _ in range(100):  # the reaper may be quicker, but not always
        busy = sim.stream()
        t = dx.from_dlpack(sim.array(4, stream=p, fill=1, speaks="dlpack"))
        t.record_stream(busy)
        latch = sim.latch(busy)
        t.close()
        for _ in range(50):
            hand_off()
        assert dx.stats().parked == 1
        latch.open()
        for _ in range(1000):
            if dx.stats().parked == 0:
                break
            hand_off()
        assert dx.stats().parked == 0
        if dx._core._stats()["reaped"] > before:
            break
    assert dx._core._stats()["reaped"] > before


def test_hand_off_asks_nothing_where_nothing_is_parked(sim: Simulation) -> None:
    warm(sim)
    p, c = sim.stream(), sim.stream()
    x = sim.array(4, stream=p, fill=1)
    consumer = other(sim)
    with sim.framework().use_stream(p), consumer.use_stream(c):
        for _ in range(100):
            sim.reset_calls()
            y = dx.convert(x, consumer.array_type)
            assert sim.calls["cuEventQuery"] == 0
            del y


def test_release_that_nothing_can_order_is_leaked_counted_and_told_once() -> None:
    done = child.run(
        """
        import warnings
        import dlexchange as dx
        from dlexchange.testing import simulated_cuda
        with simulated_cuda() as sim:
            p, deleted = sim.stream(), []
            class Array:
                def __init__(self):
                    self.x = sim.array(16, "int32", stream=p, fill=7)
                    self.__cuda_array_interface__ = dict(
                        shape=(16,), typestr="<i4", data=(self.x.data_ptr, False), version=3,
                        stream=p.handle)
                def __del__(self):
                    deleted.append(self)
            for _ in range(3):
                c = sim.stream()
                t = dx.from_dlpack(Array())
                t.record_stream(c)
                c.destroy()  # too early: now nobody can wait for it
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    t.close()
                print(dx.stats().leaked, [w.category.__name__ for w in caught])
            print("deleted", deleted)
        """
    )
    lines = ["1 ['ResourceWarning']", "2 []", "3 []", "deleted []"]
    assert done.splitlines()[:4] == lines, done


def test_memory_that_is_used_until_the_exit_is_left_without_a_word() -> None:
    done = child.run(
        """
        import dlexchange as dx
        from dlexchange.testing import simulated_cuda
        simulation = simulated_cuda()
        sim = simulation.__enter__()
        t = dx.from_dlpack(sim.array(4, stream=sim.stream(), fill=1))
        t.record_stream(dx.Stream.create("cuda:0"))
        """
    )
    assert done == ""
