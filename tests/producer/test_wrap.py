"""dx.wrap: the right protocol for objects whose library has it wrong, or not at all."""

from __future__ import annotations

import array
import gc
import weakref

import numpy as np
import pytest

import dlexchange as dx
from dlexchange.testing import simulated_cuda


class Shows:
    """An object with the attributes it is given."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


@pytest.fixture
def values():
    return np.arange(6, dtype=np.float32).reshape(2, 3)


def by_array_interface(values):
    return Shows(values=values, __array_interface__=values.__array_interface__)


def by_data_ptr(values):
    return Shows(
        values=values,
        data_ptr=lambda: values.ctypes.data,
        shape=list(values.shape),
        dtype="torch.float32",
        stride=lambda: tuple(step // 4 for step in values.strides),
        device="cpu",
    )


@pytest.mark.parametrize("show", [by_array_interface, by_data_ptr, memoryview])
@pytest.mark.parametrize("view", [np.asarray, np.transpose, lambda a: a[:, ::2]])
def test_memory_is_shared_whatever_shows_it(values, show, view):
    wrapped = dx.wrap(show(view(values)))
    assert np.from_dlpack(wrapped).tolist() == view(values).tolist()
    assert np.shares_memory(np.from_dlpack(wrapped), values)


def test_readonly_buffer_stays_readonly():
    assert not np.from_dlpack(dx.wrap(b"abc")).flags.writeable
    assert np.from_dlpack(dx.wrap(bytearray(b"abc"))).flags.writeable
    assert dx.to_numpy(dx.wrap(array.array("d", [1, 2]))).tolist() == [1, 2]
    assert dx.to_numpy(dx.wrap(b"")).shape == (0,)


def test_object_that_drops_its_owner_is_kept_alive():
    class Careless:
        """Its own export would not keep it."""

        def __init__(self):
            self.array = np.arange(3)

        def __dlpack__(self, **_):
            raise AssertionError("not to be used")

        @property
        def __array_interface__(self):
            return self.array.__array_interface__

    careless = Careless()
    seen = weakref.ref(careless)
    got = dx.to_numpy(dx.wrap(careless))
    del careless
    gc.collect()
    assert got.tolist() == [0, 1, 2]
    assert seen() is not None
    del got
    gc.collect()
    assert seen() is None


def test_describer_serves_any_object(values):
    def describe(pair):
        return dx.Description(pair[0], pair[1], "float32", owner=values)

    wrapped = dx.wrap((values.ctypes.data, (3,)), describe)
    assert dx.to_numpy(wrapped).tolist() == [0, 1, 2]
    with pytest.raises(TypeError, match="in the Description"):
        dx.wrap(1, describe, stream=1)


def test_object_that_shows_nothing_is_refused():
    with pytest.raises(TypeError, match=r"pass dx\.wrap"):
        dx.wrap(3)


@pytest.mark.parametrize(
    ("interface", "match"),
    [
        ({"typestr": ">f4"}, "dtype"),
        ({"typestr": "<f4", "strides": (6,)}, "multiples of 4"),
        ({"typestr": "<f4", "data": b"abcd"}, "no address"),
        ({"typestr": "<f4", "mask": 1}, "mask"),
        ({"typestr": "<M8[s]"}, "dtype"),
    ],
)
def test_interface_that_cannot_be_exchanged_is_refused(interface, match):
    shown = Shows(__array_interface__={"shape": (1,), "data": (4096, False), **interface})
    with pytest.raises(dx.ExchangeError, match=match):
        dx.wrap(shown).__dlpack__()


def test_cuda_array_interface_alone_becomes_an_ordered_producer():
    with simulated_cuda() as sim:
        sim.set_device(0)
        producer, consumer = sim.stream(), sim.stream()
        memory = sim.array((4,), "int32", stream=producer, speaks="cai", fill=2)
        latch = sim.latch(producer)
        memory.fill(3, stream=producer)
        framework = sim.framework("dlpack")
        with framework.use_stream(consumer):
            got = framework.from_dlpack(dx.wrap(memory))
        latch.open()
        assert got.tolist(stream=consumer) == [3] * 4
        del got
        assert sim.findings == []


def test_raw_device_pointer_needs_its_stream_named():
    with simulated_cuda() as sim:
        sim.set_device(0)
        memory = sim.array((4,), "int32", stream=sim.stream(), fill=2)
        raw = Shows(
            memory=memory,
            data_ptr=memory.data_ptr,
            shape=(4,),
            dtype="int32",
            device="cuda:0",
        )
        with pytest.raises(dx.StreamError, match=r"Description\.stream is missing"):
            dx.wrap(raw).__dlpack__()
        wrapped = dx.wrap(raw, stream=memory.stream)
        assert dx.to_numpy(wrapped, copy=True).tolist() == [2] * 4
        assert sim.findings == []
