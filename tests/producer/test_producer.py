"""dx.Producer on host memory: one method written, every protocol spoken."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref

import numpy as np
import pytest
from authors.ctypes_library import Field
from authors.pure_python import Grid
from support import dlpack
from support.dlpack import call_from_object, table_of

import dlexchange as dx

READERS = [dx.to_numpy, np.from_dlpack, np.asarray, np.array]


@pytest.mark.parametrize("author", [Grid, Field])
@pytest.mark.parametrize("read", READERS)
def test_consumers_see_the_values(author, read):
    assert read(author(range(6), (2, 3))).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("author", [Grid, Field])
def test_torch_shares_the_memory(author):
    torch = pytest.importorskip("torch", reason="absent: torch is not installed")
    made = author(range(6), (2, 3))
    torch.from_dlpack(made).fill_(7)
    assert dx.to_torch(made).tolist() == [[7] * 3] * 2


def test_views_keep_offset_and_strides():
    view = Grid(range(6), (2, 3), "int32").view(1, (2, 2), (1, 3))
    for read in READERS:
        assert read(view).tolist() == [[1, 4], [2, 5]]
    assert memoryview(view).tolist() == [[1, 4], [2, 5]]


def test_read_only_is_kept_in_every_protocol():
    view = Grid(range(6), (2, 3)).view(0, (2, 3), (3, 1), readonly=True)
    assert memoryview(view).readonly
    assert view.__array_interface__["data"][1] is True
    assert not np.from_dlpack(view).flags.writeable
    assert dx.from_dlpack(view).readonly
    with pytest.raises(BufferError, match="read-only"):
        view.__dlpack__()
    assert dlpack.name_of(view.__dlpack__(copy=True)) == b"dltensor"


@pytest.mark.parametrize(
    ("max_version", "name"),
    [
        (None, b"dltensor"),
        ((0, 8), b"dltensor"),
        ((1, 0), b"dltensor_versioned"),
        ((1, 99), b"dltensor_versioned"),
        ((2, 0), b"dltensor_versioned"),
    ],
)
def test_version_is_negotiated(max_version, name):
    assert dlpack.name_of(Grid([1], (1,)).__dlpack__(max_version=max_version)) == name


def test_copy_is_made_flagged_and_independent():
    grid = Grid(range(6), (2, 3)).view(1, (2, 2), (3, 1))
    copied = dx.from_dlpack(grid.__dlpack__(copy=True, max_version=(1, 3)))
    assert copied.is_copied
    grid.memory[1] = 99
    assert dx.to_numpy(copied).tolist() == [[1, 2], [4, 5]]
    shared = dx.from_dlpack(grid.__dlpack__(copy=False, max_version=(1, 3)))
    assert not shared.is_copied
    assert dx.to_numpy(shared)[0, 0] == 99


def test_wrong_keywords_raise_what_the_standard_says():
    grid = Grid([1], (1,))
    grid.__dlpack__(dl_device=(1, 0), stream=None)
    with pytest.raises(BufferError):
        grid.__dlpack__(dl_device=(2, 0))
    with pytest.raises(dx.StreamError, match="no stream"):
        grid.__dlpack__(stream=1)
    for wrong in ({"copy": 1}, {"max_version": 1}, {"dl_device": "cpu"}, {"color": 1}):
        with pytest.raises(TypeError):
            grid.__dlpack__(**wrong)
    with pytest.raises(TypeError):
        grid.__dlpack__(None)


def test_device_interfaces_are_absent_on_the_host():
    grid = Grid([1], (1,))
    assert grid.__dlpack_device__() == (1, 0)
    assert not hasattr(grid, "__cuda_array_interface__")


def test_empty_and_scalar_arrays_are_exchanged():
    assert dx.to_numpy(Grid([], (0, 3))).shape == (0, 3)
    assert np.from_dlpack(Grid([5], ())).item() == 5


def test_description_is_asked_at_each_export_or_once_where_it_is_fixed():
    asked = []

    class Plain(dx.Producer):
        def __init__(self):
            self.array = np.arange(3)

        def __dlexchange__(self):
            asked.append(self)
            return dx.Description(self.array.ctypes.data, (3,), "int64")

    class Fixed(Plain, fixed=True):
        pass

    class Again(Fixed, fixed=False):
        pass

    class Child(Fixed):
        pass

    for cls, times in ((Plain, 2), (Fixed, 1), (Again, 2), (Child, 1)):
        made = cls()
        made.__dlpack__()
        dx.to_numpy(made)
        assert len(asked) == times, cls
        asked.clear()


def test_class_may_be_given_a_describer():
    def say(numbers):
        array = numbers["array"]
        return dx.Description(array.ctypes.data, array.shape, array.dtype, owner=array)

    class Numbers(dict, dx.Producer, describe=say):
        pass

    made = Numbers(array=np.arange(3))
    for _ in range(2):
        assert dx.to_numpy(made).tolist() == [0, 1, 2]


def test_describer_of_a_class_may_be_replaced():
    class Plain(dx.Producer):
        def __dlexchange__(self):
            return dx.Description(0, (0, 1), "int8")

    made = Plain()
    for _ in range(2):
        assert dx.from_dlpack(made.__dlpack__()).shape == (0, 1)
    Plain.__dlexchange__ = lambda self: dx.Description(0, (0, 2), "int8")
    assert dx.from_dlpack(made.__dlpack__()).shape == (0, 2)

    class Other(Plain):
        def __dlexchange__(self):
            return dx.Description(0, (0, 3), "int8")

    made.__class__ = Other
    assert dx.from_dlpack(made.__dlpack__()).shape == (0, 3)
    Plain.__dlexchange__ = staticmethod(lambda: dx.Description(0, (0, 5), "int8"))
    for _ in range(2):
        assert dx.from_dlpack(Plain().__dlpack__()).shape == (0, 5)
    Plain.__dlexchange__ = property(lambda self: lambda: dx.Description(0, (0, 4), "int8"))
    assert dx.from_dlpack(Plain().__dlpack__()).shape == (0, 4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", (-1,)),
        ("shape", (2**40, 2**40)),
        ("strides", (2**62,)),
        ("dtype", "float33"),
        ("data_ptr", 0),
        ("device", (99, 0)),
        ("stream", 0),
        ("stream", dx.Stream.legacy_default("cuda:1")),
    ],
)
def test_wrong_description_raises_at_every_export_and_names_the_field(field, value):
    fields = {"data_ptr": 4096, "shape": (2,), "dtype": "float32", field: value}
    if field == "stream":
        fields["device"] = "cuda:0"

    class Wrong(dx.Producer):
        def __dlexchange__(self):
            return dx.Description(**fields)

    for export in (Wrong.__dlpack__, Wrong.__dlpack_device__, dx.from_dlpack, call_from_object):
        with pytest.raises(dx.ExchangeError, match=rf"Description\.{field} is"):
            export(Wrong())


def test_fixed_class_without_room_for_the_description_says_so():
    with pytest.raises(TypeError, match="Slotted has no __dict__: leave out __slots__"):

        class Slotted(dx.Producer, fixed=True):
            __slots__ = ("array",)


def test_missing_or_wrong_describer_is_a_clear_error():
    class Nothing(dx.Producer):
        pass

    class Wrong(dx.Producer):
        def __dlexchange__(self):
            return (1, 2)

    with pytest.raises(NotImplementedError, match="Nothing must implement __dlexchange__"):
        Nothing().__dlpack__()
    with pytest.raises(TypeError, match=r"must return a dlexchange\.Description, not tuple"):
        Wrong().__dlpack__()
    for protocol in (memoryview, dx.from_dlpack, lambda x: x.__dlpack_device__()):
        with pytest.raises((TypeError, dx.ExchangeError), match="Description"):
            protocol(Wrong())


def test_own_dlpack_of_a_subclass_wins():
    class Mine(Grid):
        def __dlpack__(self, **keywords):
            return np.arange(3).__dlpack__(**keywords)

    assert dx.to_numpy(Mine([7], (1,))).tolist() == [0, 1, 2]


def test_class_of_an_author_is_not_taken_for_ours():
    with pytest.raises(dx.ExchangeError, match="authors has no from_dlpack"):
        dx.convert(np.arange(3), Grid)


def test_mixin_goes_with_other_bases():
    class Both(dict, dx.Producer):
        def __dlexchange__(self):
            return dx.Description(self["array"].ctypes.data, (3,), "int64", owner=self["array"])

    assert dx.to_numpy(Both(array=np.arange(3))).tolist() == [0, 1, 2]


def test_export_keeps_the_owner_until_its_deleter_ran():
    field = Field(range(3), (3,))
    block = weakref.ref(field.block)
    shown = np.from_dlpack(field)
    buffer = memoryview(field)
    del field
    gc.collect()
    assert block() is not None
    del shown
    assert block() is not None
    assert buffer.tolist() == [0, 1, 2]
    buffer.release()
    gc.collect()
    assert block() is None


def references(grid):
    return sys.getrefcount(grid.memory)


def test_unconsumed_capsule_lets_go():
    grid = Grid([1], (1,))
    before = references(grid)
    capsule = grid.__dlpack__(max_version=(1, 3))
    assert references(grid) > before
    del capsule
    assert references(grid) == before


# ---- the C exchange API -------------------------------------------------------------------


def test_exchange_table_is_one_for_all_classes():
    assert Grid.__dlpack_c_exchange_api__ is Field.__dlpack_c_exchange_api__
    table = table_of(Grid)
    assert (table.version.major, table.prev_api) == (1, None)
    assert None not in (table.allocator, table.to_object, table.work_stream)
    assert table.borrow is None  # a description may not outlive the call


def test_exchange_table_exports_what_the_description_says():
    said = call_from_object(Grid(range(6), (2, 3)).view(1, (2,), (3,), readonly=True))
    assert dlpack.shape_of(said.dl_tensor) == (2,)
    assert dlpack.strides_of(said.dl_tensor) == (3,)
    assert said.flags == 1
    assert ctypes.cast(said.dl_tensor.data, ctypes.POINTER(ctypes.c_float))[3] == 4
    dlpack.delete(said)


def test_exchange_table_refuses_other_objects():
    with pytest.raises(TypeError, match=r"expected a dlexchange\.Producer, not list"):
        call_from_object([])


def test_tvm_ffi_reads_the_exchange_table():
    tvm_ffi = pytest.importorskip("tvm_ffi")
    assert tvm_ffi.from_dlpack(Grid(range(3), (3,))).shape == (3,)
