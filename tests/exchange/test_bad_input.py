"""Bad input gives a clear error, loses nothing, and runs the deleter exactly once."""

from __future__ import annotations

import ctypes
import gc
import sys

import numpy as np
import pytest
from support import dlpack
from support.consumers import CONSUMERS
from support.dlpack import Fake
from support.peers import torch

import dlexchange as dx

each_consumer = pytest.mark.parametrize("consumer", CONSUMERS.values(), ids=CONSUMERS.keys())
each_dialect = pytest.mark.parametrize("legacy", [False, True], ids=["versioned", "legacy"])

# ---- structs that nobody can use ------------------------------------------------------

#: what is wrong -> (fields of the fake, words of the message: what was wrong, what to do)
STRUCTS = {
    "unknown dtype code": ({"dtype": (200, 8, 1)}, "dtype.code .* convert"),
    "opaque handles": ({"dtype": (3, 64, 1)}, "dtype.code .* convert"),
    "float of 24 bits": ({"dtype": (2, 24, 1)}, "dtype.bits .* convert"),
    "float of 8 bits": ({"dtype": (2, 8, 1)}, "dtype.bits .* convert"),
    "float of 128 bits": ({"dtype": (2, 128, 1)}, "dtype.bits .* convert"),
    "bool of 1 bit": ({"dtype": (6, 1, 1)}, "dtype.bits .* convert"),
    "float6 of 8 bits": ({"dtype": (15, 8, 1)}, "dtype.bits .* convert"),
    "float4 of 8 bits": ({"dtype": (17, 8, 1)}, "dtype.bits .* convert"),
    "bfloat of 32 bits": ({"dtype": (4, 32, 1)}, "dtype.bits .* convert"),
    "complex of 8 bits": ({"dtype": (5, 8, 1)}, "dtype.bits .* convert"),
    "no bits": ({"dtype": (0, 0, 1)}, "dtype.bits .* convert"),
    "no lanes": ({"dtype": (2, 32, 0)}, "dtype.lanes .* dimension"),
    "two lanes": ({"dtype": (2, 32, 2)}, "dtype.lanes .* dimension"),
    "65535 lanes": ({"dtype": (2, 32, 65535)}, "dtype.lanes .* dimension"),
    "ndim -1": ({"ndim": -1}, "ndim .* reshape"),
    "ndim 65": ({"ndim": 65}, "ndim .* reshape"),
    "ndim 2^30": ({"ndim": 2**30}, "ndim .* reshape"),
    "ndim -2^31": ({"ndim": -(2**31)}, "ndim .* reshape"),
    "NULL shape": ({"shape": None}, "shape is NULL .* producer"),
    "negative extent": ({"shape": (2, -3)}, "negative extent.* producer"),
    "shape overflows": ({"shape": (2**62, 4)}, "more bytes than .* producer"),
    "bytes overflow": ({"shape": (2**61, 2)}, "more bytes than .* producer"),
    "overflow behind an empty extent": (
        {"shape": (2**62, 4, 0), "strides": (0, 0, 0), "ndim": 3},
        "more bytes than .* producer",
    ),
    "stride INT64_MIN": ({"strides": (-(2**63), 1)}, "more bytes than .* producer"),
    "strides overflow": ({"strides": (2**61, 2**61)}, "more bytes than .* producer"),
    "strides overflow downwards": ({"strides": (-(2**61), 1)}, "more bytes than .* producer"),
    "NULL data": ({"data": None}, "data is NULL .* producer"),
    "negative device id": ({"device": (1, -1)}, "device"),
}


@each_consumer
@each_dialect
@pytest.mark.parametrize(("fields", "says"), STRUCTS.values(), ids=STRUCTS.keys())
def test_unusable_struct_is_refused_and_deleted_once(consumer, legacy, fields, says):
    fake = Fake(legacy=legacy, **fields)
    with pytest.raises(dx.ExchangeError, match=says):
        consumer(fake)
    assert fake.calls == 1


@each_dialect
@pytest.mark.parametrize(("fields", "says"), STRUCTS.values(), ids=STRUCTS.keys())
def test_unusable_struct_in_a_bare_capsule_is_refused(legacy, fields, says):
    fake = Fake(legacy=legacy, **fields)
    capsule = fake.capsule()
    with pytest.raises(dx.ExchangeError, match=says):
        dx.from_dlpack(capsule)
    assert fake.calls == 1
    del capsule
    assert fake.calls == 1


@pytest.mark.parametrize("device", [(0, 0), (5, 0), (6, 0), (12, 0), (19, 0), (99, 0), (-1, 0)])
@each_dialect
def test_device_without_a_meaning_is_refused(device, legacy):
    fake = Fake(legacy=legacy, device=device)
    with pytest.raises(dx.ExchangeError, match="device"):
        dx.from_dlpack(fake)
    gc.collect()
    assert fake.calls <= 1  # 0: refused before it was asked to export


# ---- versions ---------------------------------------------------------------------------


@each_consumer
@pytest.mark.parametrize("major", [0, 2, 2**32 - 1])
def test_another_major_version_is_deleted_unread(consumer, major):
    fake = Fake(version=(major, 0))
    ctypes.memset(ctypes.addressof(fake.managed.dl_tensor), 0xDD, 48)  # reading it crashes
    fake.managed.flags = 2**64 - 1
    fake.says_device = (1, 0)
    with pytest.raises(dx.ExchangeError, match=rf"version {major}\.0.*max_version"):
        consumer(fake)
    assert fake.calls == 1


def test_a_higher_minor_version_is_read():
    fake = Fake(version=(1, 99))
    assert np.array_equal(dx.to_numpy(fake), fake.array)
    assert fake.calls == 1


def test_unknown_flags_do_not_matter():
    fake = Fake(flags=1 << 40)
    array = dx.to_numpy(fake)
    assert array.flags.writeable
    assert np.array_equal(array, fake.array)


# ---- capsules ---------------------------------------------------------------------------

NAMES = {
    "used versioned": (b"used_dltensor_versioned", "consumed already.*new one"),
    "used legacy": (b"used_dltensor", "consumed already.*new one"),
    "truncated": (b"dltensor_versione", "not a DLPack capsule.*expected"),
    "short": (b"dltenso", "not a DLPack capsule.*expected"),
    "long": (b"dltensor_versioned_", "not a DLPack capsule.*expected"),
    "empty": (b"", "not a DLPack capsule.*expected"),
    "NULL": (None, "not a DLPack capsule.*expected"),
    "foreign": (b"numpy.core._multiarray._ARRAY_API", "not a DLPack capsule.*expected"),
    "not UTF-8": (b"dltensor\xff\xfe", "not a DLPack capsule.*expected"),
    "other case": (b"DLTensor", "not a DLPack capsule.*expected"),
}


@pytest.mark.parametrize(("name", "says"), NAMES.values(), ids=NAMES.keys())
@pytest.mark.parametrize("bare", [True, False], ids=["bare", "from a producer"])
def test_capsule_of_another_name_is_refused_and_not_touched(name, says, bare):
    fake = Fake(name=name)
    if bare:
        capsule = fake.capsule()
        with pytest.raises(dx.ExchangeError, match=says):
            dx.from_dlpack(capsule)
        assert dlpack.name_of(capsule) == name
        del capsule
    else:
        with pytest.raises(dx.ExchangeError, match=says):
            dx.from_dlpack(fake)
    assert fake.calls == 0  # not ours to delete


@each_dialect
def test_capsule_is_consumed_once(legacy):
    fake = Fake(legacy=legacy)
    capsule = fake.capsule()
    tensor = dx.from_dlpack(capsule)
    assert dlpack.name_of(capsule) == (b"used_dltensor" if legacy else b"used_dltensor_versioned")
    with pytest.raises(dx.ExchangeError, match="consumed already"):
        dx.from_dlpack(capsule)
    del capsule
    assert fake.calls == 0
    del tensor
    assert fake.calls == 1


def test_capsule_is_consumed_also_where_nobody_else_seems_to_hold_it():
    """Newer interpreters lend what they pass on, so references prove nothing."""

    class Noted(Fake):
        def __dlpack__(self, **keywords):
            capsule = self.capsule()
            self.at = id(capsule)
            return capsule

    fake = Noted(version=(2, 0))
    names = []
    fake.on_delete(
        lambda: names.append(dlpack.name_of(ctypes.cast(fake.at, ctypes.py_object).value))
    )
    with pytest.raises(dx.ExchangeError, match="major version"):
        dx.from_dlpack(fake)
    assert names == [b"used_dltensor_versioned"]


@each_dialect
def test_own_capsule_is_consumed_once(legacy):
    keywords = {} if legacy else {"max_version": (1, 0)}
    capsule = dx.from_dlpack(np.zeros(3)).__dlpack__(**keywords)
    tensor = dx.from_dlpack(capsule)
    with pytest.raises(dx.ExchangeError, match="consumed already"):
        dx.from_dlpack(capsule)
    assert tensor.shape == (3,)


@each_dialect
def test_renamed_capsule_does_not_run_deleter(legacy):
    keywords = {} if legacy else {"max_version": (1, 0)}
    capsule = dx.from_dlpack(np.zeros(3)).__dlpack__(**keywords)
    managed = dlpack.claim(capsule)
    del capsule
    gc.collect()
    assert dx.stats().blocks == 1
    dlpack.delete(managed)
    assert dx.stats().blocks == 0


@each_consumer
@each_dialect
def test_null_deleter_is_not_called(consumer, legacy):
    fake = Fake(legacy=legacy, deleter=None)
    taken = consumer(fake)
    del taken
    assert fake.calls == 0


def test_null_deleter_is_not_called_after_an_error():
    for fields in ({"dtype": (200, 8, 1)}, {"version": (2, 0)}):
        with pytest.raises(dx.ExchangeError):
            dx.from_dlpack(Fake(deleter=None, **fields))


@pytest.mark.parametrize(
    "thing", [None, 3, "x", b"x", [1.0], {}, object(), (1, 2), int, np.float32(1)]
)
@each_consumer
def test_what_is_no_tensor_is_a_type_error(consumer, thing):
    with pytest.raises(TypeError, match="neither __dlpack__ nor another protocol"):
        consumer(thing)


# ---- consumers that cannot take it ---------------------------------------------------------


@each_dialect
@pytest.mark.parametrize(
    ("consumer", "dtype"),
    [
        ("torch", (7, 8, 1)),
        ("torch", (0, 4, 1)),
        ("jax", (15, 6, 1)),
        ("jax", (5, 32, 1)),
        ("numpy", (5, 32, 1)),
        ("numpy", (15, 6, 1)),
        ("numpy", (17, 4, 2)),
    ],
)
def test_dtype_the_consumer_lacks_is_refused_and_deleted_once(consumer, dtype, legacy):
    fake = Fake(np.zeros(64, np.uint8), dtype=dtype, legacy=legacy, shape=(4,), strides=(1,))
    with pytest.raises(dx.ExchangeError, match=f"{consumer}.*code {dtype[0]}, bits {dtype[1]}"):
        CONSUMERS[consumer](fake)
    gc.collect()
    assert fake.calls == 1


@each_consumer
def test_nothing_is_alive_after_a_thousand_refusals(consumer):
    fakes = [Fake(dtype=(200, 8, 1)) for _ in range(1000)]
    for fake in fakes:
        with pytest.raises(dx.ExchangeError):
            consumer(fake)
    assert [fake.calls for fake in fakes] == [1] * 1000
    assert dx.stats().live == 0


# ---- deleters that are called while an error is on its way -----------------------------------


@each_dialect
@pytest.mark.parametrize("fields", [{"dtype": (200, 8, 1)}, {"ndim": 65}, {"data": None}])
def test_deleter_never_sees_our_exception(legacy, fields):
    fake = Fake(legacy=legacy, **fields)
    seen = []
    fake.on_delete(lambda: seen.append(len("a deleter may run Python")))
    with pytest.raises(dx.ExchangeError):
        dx.from_dlpack(fake)
    assert seen
    assert fake.context.with_exception == 0


@pytest.fixture
def unraisable(monkeypatch):
    """Collect what Python reports because it cannot raise it."""
    reports = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reports.append(str(report.exc_value)))
    return reports


@each_dialect
@pytest.mark.parametrize("consumer", ["tensor", "numpy"])  # torch and jax may drop the GIL first
def test_exception_left_by_a_deleter_is_reported_and_not_raised(consumer, legacy, unraisable):
    fake = Fake(legacy=legacy)
    fake.context.leave_error = 1
    taken = CONSUMERS[consumer](fake)
    del taken
    gc.collect()
    assert fake.calls == 1
    assert unraisable == ["left behind by a deleter"]


def test_exception_left_by_a_deleter_does_not_replace_ours(unraisable):
    fake = Fake(dtype=(200, 8, 1))
    fake.context.leave_error = 1
    with pytest.raises(dx.ExchangeError, match=r"dtype\.code") as caught:
        dx.from_dlpack(fake)
    assert caught.value.__cause__ is None
    assert fake.calls == 1
    assert unraisable == ["left behind by a deleter"]


def test_exception_left_by_a_deleter_does_not_spoil_a_copy(unraisable):
    fake = Fake()
    fake.context.leave_error = 1
    assert np.array_equal(dx.to_numpy(fake, copy=True), fake.array)
    assert fake.calls == 1
    assert unraisable == ["left behind by a deleter"]


def test_exception_survives_a_capsule_that_dies_on_the_way():
    fake = Fake()

    def fail():
        capsule = dx.from_dlpack(fake).__dlpack__(max_version=(1, 0))
        raise KeyError("mine", len(repr(capsule)))

    with pytest.raises(KeyError, match="mine"):
        fail()
    gc.collect()
    assert fake.calls == 1
    assert fake.context.with_exception == 0


# ---- shapes that are valid and absurd ----------------------------------------------------------


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_copy_of_more_bytes_than_there_are_is_a_memory_error(framework):
    if framework == "numpy":
        huge = np.broadcast_to(np.zeros(()), (2**59,))
    else:
        huge = torch.zeros((), dtype=torch.float64).expand(2**59)
    assert dx.from_dlpack(huge).nbytes == 2**62
    with pytest.raises(MemoryError):
        dx.from_dlpack(huge, copy=True)
    with pytest.raises(MemoryError):
        dx.from_dlpack(huge).__dlpack__(copy=True)


def test_torch_tensor_of_more_bytes_than_an_address_is_refused_where_it_matters():
    huge = torch.zeros((), dtype=torch.float64).expand(2**62)
    with pytest.raises(dx.ExchangeError, match="more bytes than"):
        dx.from_dlpack(huge, copy=True)
    with pytest.raises(dx.ExchangeError):
        dx.to_numpy(huge)
    tensor = dx.from_dlpack(huge)
    with pytest.raises(OverflowError, match="more bytes than"):
        tensor.nbytes  # noqa: B018
    with pytest.raises(BufferError):
        memoryview(tensor)


@pytest.mark.parametrize("ndim", [65, 70, 200, 1000])
@each_consumer
def test_torch_tensor_of_too_many_dimensions_is_refused(consumer, ndim):
    with pytest.raises(dx.ExchangeError, match=r"ndim .* reshape"):
        consumer(torch.zeros([1] * ndim))


# ---- the CUDA array interface --------------------------------------------------------------------

GOOD = {"shape": (2, 3), "typestr": "<f4", "data": (4096, False), "version": 3}
INTERFACES = {
    "None": None,
    "a list": [GOOD],
    "empty": {},
    "no shape": {"typestr": "<f4", "data": (4096, False), "version": 3},
    "shape of None": {**GOOD, "shape": None},
    "shape of text": {**GOOD, "shape": ("2",)},
    "negative shape": {**GOOD, "shape": (2, -3)},
    "enormous shape": {**GOOD, "shape": (2**62, 4)},
    "shape beyond 64 bits": {**GOOD, "shape": (2**64,)},
    "65 dimensions": {**GOOD, "shape": (1,) * 65},
    "too few strides": {**GOOD, "strides": (4,)},
    "no strides for two extents": {**GOOD, "strides": ()},
    "too many strides": {**GOOD, "strides": (12, 4, 4)},
    "strides of None": {**GOOD, "strides": (None, None)},
    "strides between elements": {**GOOD, "strides": (13, 3)},
    "no typestr": {**GOOD, "typestr": ""},
    "unknown typestr": {**GOOD, "typestr": "<O8"},
    "typestr of foreign order": {**GOOD, "typestr": ">f4"},
    "typestr of 36 bytes": {**GOOD, "typestr": "<f36"},
    "typestr of 32 bytes": {**GOOD, "typestr": "<c32"},
    "typestr of none": {**GOOD, "typestr": "<f0"},
    "no data": {**GOOD, "data": None},
    "data of text": {**GOOD, "data": ("4096", False)},
    "data of one": {**GOOD, "data": (4096,)},
    "address beyond 64 bits": {**GOOD, "data": (2**64, False)},
    "negative address": {**GOOD, "data": (-1, False)},
    "NULL data": {**GOOD, "data": (0, False)},
    "a mask": {**GOOD, "mask": 3},
    "stream 0": {**GOOD, "stream": 0},
}


@each_consumer
@pytest.mark.parametrize("interface", INTERFACES.values(), ids=INTERFACES.keys())
def test_malformed_cuda_array_interface_is_refused(consumer, interface):
    class Array:
        __cuda_array_interface__ = interface

    with pytest.raises(dx.ExchangeError):
        consumer(Array())


def test_error_of_the_cuda_array_interface_comes_through():
    class Array:
        @property
        def __cuda_array_interface__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dx.from_dlpack(Array())
