"""The C exchange API, both ways: foreign tables as we read them, and our own."""

from __future__ import annotations

import ctypes
import gc

import ml_dtypes
import numpy as np
import pytest
import tvm_ffi
from support import dlpack, native
from support.consumers import CONSUMERS
from support.dlpack import DataType, Fake, Tensor, table, table_capsule

import dlexchange as dx

each_consumer = pytest.mark.parametrize("consumer", CONSUMERS.values(), ids=CONSUMERS.keys())


def producer_with(capsule, **methods):
    """Make a type with that table; its instances answer `managed` to the C function."""

    class Tabled:
        __dlpack_c_exchange_api__ = capsule

        def __init__(self, fake=None):
            self.fake = fake if fake is not None else Fake()
            self.calls = []

        def managed(self):
            self.calls.append("table")
            return self.fake.address()

        def __dlpack_device__(self):
            self.calls.append("device")
            return (1, 0)

        def __dlpack__(self, **keywords):
            self.calls.append("__dlpack__")
            return self.fake.capsule()

    for name, method in methods.items():
        setattr(Tabled, name, method)
    return Tabled


# ---- foreign tables -----------------------------------------------------------------------


@each_consumer
def test_table_of_the_type_is_used(consumer):
    producer = producer_with(table_capsule(table()))()
    taken = consumer(producer)
    assert producer.calls == ["table"]
    del taken
    gc.collect()
    assert producer.fake.calls == 1


def test_table_with_a_newer_minor_version_is_used():
    producer = producer_with(table_capsule(table(version=(1, 99))))()
    dx.from_dlpack(producer)
    assert producer.calls == ["table"]


def test_older_table_behind_a_newer_major_is_used():
    ours = table()
    poisoned = {
        name: 0xDDDDDDDDDDDDDDDD
        for name in ("allocator", "from_object", "to_object", "borrow", "work_stream")
    }
    newest = table(version=(3, 0), prev=table(version=(2, 0), prev=ours, **poisoned), **poisoned)
    producer = producer_with(table_capsule(newest))()
    dx.from_dlpack(producer)
    assert producer.calls == ["table"]


@pytest.mark.parametrize("version", [(0, 9), (2, 0), (2**32 - 1, 0)])
def test_only_tables_of_other_majors_leave_dlpack(version):
    producer = producer_with(table_capsule(table(version=version, from_object=1)))()
    dx.from_dlpack(producer)
    assert producer.calls == ["device", "__dlpack__"]


@pytest.mark.parametrize(
    "attribute",
    [None, 0, 12345, "text", object(), table_capsule(table(), b"something_else")],
    ids=["None", "0", "int", "str", "object", "other capsule"],
)
def test_attribute_that_is_no_table_leaves_dlpack(attribute):
    producer = producer_with(attribute)()
    dx.from_dlpack(producer)
    assert producer.calls == ["device", "__dlpack__"]


@pytest.mark.parametrize("function", ["from_object", "work_stream"])
def test_table_without_a_function_that_is_needed_leaves_dlpack(function):
    producer = producer_with(table_capsule(table(**{function: None})))()
    dx.from_dlpack(producer)
    assert producer.calls == ["device", "__dlpack__"]


def test_table_of_an_instance_is_a_decoy():
    class Decoy(Fake):
        def __init__(self):
            super().__init__()
            self.__dlpack_c_exchange_api__ = table_capsule(table(from_object=1))

    tensor = dx.from_dlpack(Decoy())
    assert tensor.shape == (2, 3)


def test_table_as_a_property_is_a_decoy():
    class Decoy(Fake):
        @property
        def __dlpack_c_exchange_api__(self):
            raise AssertionError("must not be asked")

    assert dx.from_dlpack(Decoy()).shape == (2, 3)


def test_table_inherited_below_an_own_export_is_not_used():
    """A subclass that says how it is exported means it."""
    base = producer_with(table_capsule(table()))

    class Derived(base):
        def __dlpack__(self, **keywords):
            self.calls.append("own")
            return self.fake.capsule()

    producer = Derived()
    dx.from_dlpack(producer)
    assert producer.calls == ["device", "own"]


def test_table_inherited_without_an_own_export_is_used():
    class Derived(producer_with(table_capsule(table()))):
        pass

    producer = Derived()
    dx.from_dlpack(producer)
    assert producer.calls == ["table"]


@each_consumer
@pytest.mark.parametrize(
    "error", [BufferError("no"), TypeError("no"), KeyboardInterrupt()], ids=repr
)
def test_error_of_a_table_comes_through(consumer, error):
    def managed(self):
        self.calls.append("table")
        raise error

    producer = producer_with(table_capsule(table()), managed=managed)()
    if isinstance(error, BufferError):
        with pytest.raises(dx.ExchangeError, match="refused to export") as caught:
            consumer(producer)
        assert caught.value.__cause__ is error
    else:
        with pytest.raises(type(error)) as caught:
            consumer(producer)
        assert caught.value is error
    assert producer.calls == ["table"]


@each_consumer
def test_table_that_gives_nothing_is_an_error(consumer):
    producer = producer_with(table_capsule(table()), managed=lambda self: 0)()
    with pytest.raises(dx.ExchangeError, match=r"table .* no managed tensor"):
        consumer(producer)


@each_consumer
def test_table_that_fails_without_an_error_is_an_error(consumer):
    silent = table(from_object=native.address("silent_from_object"))
    with pytest.raises(dx.ExchangeError, match=r"table .* no managed tensor"):
        consumer(producer_with(table_capsule(silent))())


@each_consumer
def test_table_that_gives_another_major_is_deleted_unread(consumer):
    fake = Fake(version=(2, 0))
    ctypes.memset(ctypes.addressof(fake.managed.dl_tensor), 0xDD, 48)
    producer = producer_with(table_capsule(table()))(fake)
    with pytest.raises(dx.ExchangeError, match=r"version 2\.0"):
        consumer(producer)
    assert fake.calls == 1


@each_consumer
@pytest.mark.parametrize("fields", [{"dtype": (200, 8, 1)}, {"ndim": 65}, {"data": None}], ids=str)
def test_bad_struct_of_a_table_is_deleted_once(consumer, fields):
    producer = producer_with(table_capsule(table()))(Fake(**fields))
    with pytest.raises(dx.ExchangeError):
        consumer(producer)
    assert producer.fake.calls == 1
    assert producer.fake.context.with_exception == 0


def test_copy_false_refuses_a_copy_of_a_table():
    producer = producer_with(table_capsule(table()))(Fake(flags=dlpack.IS_COPIED))
    with pytest.raises(dx.CopyError, match="copy=False"):
        dx.from_dlpack(producer, copy=False)
    assert producer.fake.calls == 1


def test_table_may_call_back_until_the_cache_has_forgotten_it():
    def managed(self):
        dx._core._forget_types()
        for _ in range(100):
            dx.from_dlpack(type("Filler", (Fake,), {})())
        return self.fake.address()

    producer = producer_with(table_capsule(table()), managed=managed)()
    assert np.array_equal(dx.to_numpy(producer), producer.fake.array)


# ---- our own table --------------------------------------------------------------------------


def own_table():
    capsule = dx.Tensor.__dlpack_c_exchange_api__
    pointer = dlpack._api.PyCapsule_GetPointer(capsule, b"dlpack_exchange_api")
    return dlpack.ExchangeAPI.from_address(pointer)


_from = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(ctypes.c_void_p))
_to = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.py_object))
_borrow = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(Tensor))
_stream = ctypes.PYFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p)
)


class Reported(ctypes.Structure):
    """`reported` of native.c."""

    _fields_ = [
        ("calls", ctypes.c_long),
        ("kind", ctypes.c_char * 64),
        ("message", ctypes.c_char * 256),
    ]


def test_own_table_is_the_same_for_the_life_of_the_process():
    first = ctypes.addressof(own_table())
    dx.from_dlpack(np.zeros(2))
    assert ctypes.addressof(own_table()) == first


def test_own_table_is_complete():
    api = own_table()
    assert (api.version.major, api.version.minor) == (1, 3)
    assert api.prev_api is None
    assert all((api.allocator, api.from_object, api.to_object, api.borrow, api.work_stream))


def test_own_table_exports_an_owning_struct():
    array = np.arange(6.0).reshape(2, 3)
    tensor = dx.from_dlpack(array)
    out = ctypes.c_void_p()
    assert _from(own_table().from_object)(tensor, ctypes.byref(out)) == 0
    managed = dlpack.ManagedVersioned.from_address(out.value)
    del tensor
    assert (managed.version.major, managed.version.minor) == (1, 3)
    assert managed.flags == 0
    assert managed.dl_tensor.data == array.ctypes.data
    assert dlpack.shape_of(managed.dl_tensor) == (2, 3)
    assert dlpack.strides_of(managed.dl_tensor) == (3, 1)
    assert dx.stats().live == 2
    dlpack.delete(managed)
    assert dx.stats().live == 0


def test_own_table_lends_without_owning():
    array = np.arange(6.0).reshape(2, 3).T
    tensor = dx.from_dlpack(array)
    lent = Tensor()
    assert _borrow(own_table().borrow)(tensor, ctypes.byref(lent)) == 0
    assert lent.data == array.ctypes.data
    assert dlpack.strides_of(lent) == (1, 3)
    assert dx.stats().blocks == 0
    tensor.close()


@pytest.mark.parametrize("thing", [None, np.zeros(3), 3], ids=["None", "array", "int"])
def test_own_table_refuses_other_objects(thing):
    with pytest.raises(TypeError, match=r"expected dlexchange\.Tensor"):
        _from(own_table().from_object)(thing, ctypes.byref(ctypes.c_void_p()))
    with pytest.raises(TypeError, match=r"expected dlexchange\.Tensor"):
        _borrow(own_table().borrow)(thing, ctypes.byref(Tensor()))


def test_own_table_refuses_a_closed_tensor():
    tensor = dx.from_dlpack(np.zeros(3))
    tensor.close()
    with pytest.raises(ValueError, match="closed"):
        _from(own_table().from_object)(tensor, ctypes.byref(ctypes.c_void_p()))
    with pytest.raises(ValueError, match="closed"):
        _borrow(own_table().borrow)(tensor, ctypes.byref(Tensor()))


def test_own_table_imports_and_takes_on_success():
    fake = Fake(strides=None, version=(1, 0))
    out = ctypes.py_object()
    assert _to(own_table().to_object)(fake.address(), ctypes.byref(out)) == 0
    tensor = out.value
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(tensor))  # the reference that was given
    out = None
    assert tensor.strides == (3, 1)
    assert np.array_equal(dx.to_numpy(tensor), fake.array)
    assert fake.calls == 0
    del tensor
    assert fake.calls == 1


@pytest.mark.parametrize(
    "fields", [{"dtype": (200, 8, 1)}, {"ndim": 65}, {"version": (2, 0)}], ids=str
)
def test_own_table_takes_nothing_on_failure(fields):
    fake = Fake(**fields)
    with pytest.raises(dx.ExchangeError):
        _to(own_table().to_object)(fake.address(), ctypes.byref(ctypes.py_object()))
    assert fake.calls == 0


def test_own_table_has_no_stream_on_the_host():
    out = ctypes.c_void_p(1)
    assert _stream(own_table().work_stream)(1, 0, ctypes.byref(out)) == 0
    assert out.value is None


def allocate(shape, dtype=(2, 32, 1), device=(1, 0), ndim=None, library=native.released):
    said = Reported()
    dims = (ctypes.c_int64 * max(len(shape), 1))(*shape)
    prototype = Tensor()
    ctypes.memset(ctypes.addressof(prototype), 0xDD, 48)  # only four fields may be read
    prototype.device = dlpack.Device(*device)
    prototype.dtype = DataType(*dtype)
    prototype.ndim = len(shape) if ndim is None else ndim
    prototype.shape = ctypes.cast(dims, ctypes.POINTER(ctypes.c_int64))
    out = ctypes.c_void_p()
    status = library.call_allocator(
        ctypes.byref(own_table()), ctypes.byref(prototype), ctypes.byref(out), ctypes.byref(said)
    )
    return status, out.value, said


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (0, 2**40), (1,) * 64], ids=str)
@pytest.mark.parametrize("library", [native.held, native.released], ids=["GIL", "no GIL"])
def test_own_allocator_needs_no_gil(shape, library):
    status, address, said = allocate(shape, library=library)
    assert (status, said.calls) == (0, 0)
    managed = dlpack.ManagedVersioned.from_address(address)
    assert dlpack.shape_of(managed.dl_tensor) == shape
    assert managed.flags == 0
    size = int(np.prod(shape))
    assert managed.dl_tensor.data % 64 == 0
    ctypes.memset(managed.dl_tensor.data, 1, 4 * size)
    tensor = dx.from_dlpack(dlpack.capsule_of(address, dlpack.VERSIONED))
    assert tensor.shape == shape
    assert np.array_equal(dx.to_numpy(tensor), np.full(shape, 0x01010101).astype("i4").view("f4"))


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"shape": (2,), "dtype": (200, 8, 1)}, b"BufferError", b"dtype.code"),
        ({"shape": (2,), "ndim": -1}, b"BufferError", b"ndim"),
        ({"shape": (2,), "ndim": 65}, b"BufferError", b"ndim"),
        ({"shape": (-2,)}, b"BufferError", b"negative"),
        ({"shape": (2**62, 4)}, b"BufferError", b"more bytes"),
        ({"shape": (2**61,), "dtype": (2, 64, 1)}, b"BufferError", b"more bytes"),
        ({"shape": (2**59,), "dtype": (2, 64, 1)}, b"MemoryError", b"memory"),
        ({"shape": (2,), "device": (2, 0)}, b"BufferError", b"host memory"),
        ({"shape": (2,), "device": (99, 0)}, b"BufferError", b"device"),
    ],
    ids=str,
)
def test_own_allocator_reports_an_error_once(arguments, kind, message):
    status, address, said = allocate(**arguments)
    assert (status, address, said.calls) == (-1, None, 1)
    assert said.kind == kind
    assert message in said.message


# ---- a real consumer of our table -------------------------------------------------------------


def test_tvm_ffi_reads_our_table():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensor = tvm_ffi.from_dlpack(dx.from_dlpack(array))
    assert np.array_equal(np.from_dlpack(tensor), array)
    del tensor
    gc.collect()


def test_tvm_ffi_is_not_given_elements_it_would_take_for_packed():
    """It forgets the flag that says one element a byte."""
    padded = np.array([1, 2, 3, -4], ml_dtypes.int4)
    with pytest.raises(dx.ExchangeError, match=r"packed|padded"):
        dx.convert(padded, "tvm_ffi")
