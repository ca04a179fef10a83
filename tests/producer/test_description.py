"""dx.Description: what it reads, and that each fault is named."""

from __future__ import annotations

import gc
import sys
import weakref

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dlexchange as dx


def describe(**fields):
    return dx.Description(**{"data_ptr": 4096, "shape": (2, 3), "dtype": "float32", **fields})


def test_attributes_say_what_was_described():
    owner = np.zeros(1)
    said = describe(strides=[1, 2], readonly=True, owner=owner)
    assert (said.data_ptr, said.shape, said.strides) == (4096, (2, 3), (1, 2))
    assert (said.dtype, said.device) == (dx.DType(2, 32), dx.Device(1, 0))
    assert said.readonly is True
    assert said.owner is owner


def test_lists_that_change_while_they_are_read_are_read_as_they_were():
    class Changing:
        def __index__(self):
            for changed in (shape, strides):
                changed.clear()
            return 2

    shape, strides = [Changing()] + [3] * 7, []
    assert describe(shape=shape).shape == (2,) + (3,) * 7
    strides += [Changing()] + [1] * 7
    assert describe(shape=(2,) * 8, strides=strides).strides == (2,) + (1,) * 7


def test_list_of_streams_that_changes_while_it_is_read_is_read_as_it_was():
    class Changing:
        def __cuda_stream__(self):
            streams.clear()
            streams.extend([None] * 8)
            return (0, 4096)

    streams = [Changing(), *range(8192, 8199)]
    describe(device="cuda:0", stream=streams)
    assert streams == [None] * 8


@pytest.mark.parametrize("ndim", [2, 12])
def test_fields_are_not_kept_for_ever(ndim):
    shapes = [(257,) + (1,) * (ndim - 1) for _ in range(20)]
    for shape in shapes:
        describe(shape=shape)
    kept = sum(sys.getrefcount(shape) > 3 for shape in shapes)  # the list, `shape`, the call
    assert kept <= 8  # of the descriptions whose memory waits for the next


def test_left_out_strides_are_row_major():
    assert describe(shape=[2, 3, 4]).strides == (12, 4, 1)
    assert describe(shape=()).strides == ()
    assert describe(shape=(1,) * 12).strides == (1,) * 12


@pytest.mark.parametrize(
    ("spec", "dtype"),
    [
        ("bool", (6, 8)),
        ("complex64", (5, 64)),
        ("bfloat16", (4, 16)),
        ("float8_e4m3fn", (10, 8)),
        ("<f4", (2, 32)),
        ("|u1", (1, 8)),
        ((1, 16), (1, 16)),
        (dx.DType(0, 64), (0, 64)),
        (np.dtype("int16"), (0, 16)),
        (np.dtype(ml_dtypes.bfloat16), (4, 16)),
    ],
)
def test_dtype_is_read_as_people_write_it(spec, dtype):
    assert describe(dtype=spec).dtype == (*dtype, 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", (-1, 3)),
        ("shape", (2**40, 2**40)),
        ("shape", (2**64, 1)),
        ("shape", (1,) * 65),
        ("shape", 3),
        ("shape", (1.5,)),
        ("strides", (2**62, 2**62)),
        ("strides", (1,)),
        ("strides", "ab"),
        ("dtype", "float33"),
        ("dtype", ">f4"),
        ("dtype", np.float64),
        ("dtype", np.dtype(">f4")),
        ("dtype", "<f16"),
        ("dtype", (77, 8)),
        ("dtype", (2, 999)),
        ("dtype", (2, 32, 2)),
        ("data_ptr", 0),
        ("data_ptr", -1),
        ("data_ptr", 2**64),
        ("data_ptr", "x"),
        ("device", "moon"),
        ("device", (99, 0)),
        ("device", (1, 1)),
        ("device", (2, -1)),
    ],
)
def test_wrong_field_is_named(field, value):
    with pytest.raises(dx.ExchangeError, match=rf"Description\.{field} is"):
        describe(**{field: value})


@pytest.mark.parametrize("value", [0, 2**64, -2, "stream", 1.0, True])
def test_ambiguous_or_wrong_stream_is_named(value):
    with pytest.raises(dx.StreamError, match=r"Description\.stream is"):
        describe(device="cuda:0", stream=value)


def test_stream_of_another_device_is_named():
    other = dx.Stream.legacy_default("cuda:1")
    with pytest.raises(dx.StreamError, match=r"Description\.stream is .*device \(2, 0\)"):
        describe(device="cuda:0", stream=other)
    with pytest.raises(dx.StreamError, match=r"Description\.allocation_stream is"):
        describe(device="cuda:0", stream=-1, allocation_stream=other)


def test_device_memory_must_say_its_streams_and_host_memory_has_none():
    with pytest.raises(dx.StreamError, match=r"Description\.stream is missing"):
        describe(device="cuda:0")
    with pytest.raises(dx.StreamError, match=r"Description\.stream is 1"):
        describe(stream=1)
    with pytest.raises(dx.StreamError, match="beside other streams"):
        describe(device="cuda:0", stream=[1, -1])
    describe(stream=-1)
    describe(device="cuda:0", stream=())


@pytest.mark.parametrize(
    ("args", "keywords"),
    [
        ((), {}),
        ((1, (1,)), {}),
        ((1, (1,), "int8", None), {}),
        ((1, (1,), "int8"), {"shape": ()}),
        ((1, (1,), "int8"), {"colour": 1}),
    ],
)
def test_wrong_arguments_are_a_type_error(args, keywords):
    with pytest.raises(TypeError, match=r"Description\(\)"):
        dx.Description(*args, **keywords)


def test_owner_in_a_cycle_is_collected():
    class Owner:
        pass

    owner = Owner()
    owner.said = describe(owner=owner)
    seen = weakref.ref(owner)
    del owner
    gc.collect()
    assert seen() is None


# ---- a layout is read once from the same objects ------------------------------------------


def test_same_objects_again_describe_the_same_layout():
    shape, strides = (2, 3), (1, 2)
    for address in (4096, 8192):
        said = describe(data_ptr=address, shape=shape, strides=strides)
        assert (said.data_ptr, said.shape, said.strides) == (address, shape, strides)
        del said


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("shape", (3, 2), (3, 2)),
        ("strides", (1, 2), (1, 2)),
        ("dtype", "int8", (0, 8, 1)),
        ("device", "cuda:1", (2, 1)),
    ],
)
def test_one_other_object_is_another_layout(field, value, expected):
    shape = (2, 3)
    describe(shape=shape, stream=-1)
    described = describe(**{"shape": shape, "stream": -1, field: value})
    assert getattr(described, field) == expected


def test_shape_that_can_change_is_read_each_time():
    class Extent(int):
        now = 2

        def __index__(self):
            return self.now

    for shape in ([2, 3], (Extent(2), 3)):
        assert describe(shape=shape).shape == (2, 3)
    changed = [2, 3]
    describe(shape=changed)
    changed[0] = 5
    assert describe(shape=changed).shape == (5, 3)


def test_missing_address_is_named_also_where_the_layout_is_known():
    shape = (2, 3)
    describe(shape=shape)
    with pytest.raises(dx.ExchangeError, match=r"Description\.data_ptr is 0"):
        describe(shape=shape, data_ptr=0)


def test_wrong_layout_is_not_remembered():
    wrong = (-1, 3)
    for _ in range(2):
        with pytest.raises(dx.ExchangeError, match=r"Description\.shape is"):
            describe(shape=wrong)
    assert describe(shape=(2, 3)).shape == (2, 3)


SHAPES = [(2, 3), (3, 2), (6,), (0, 4), (), (1,) * 12, [2, 3], (-1,), (2**40, 2**40)]
DTYPES = ["float32", "int8", (1, 16), dx.DType(5, 64), "float33"]


@given(
    st.lists(
        st.tuples(st.sampled_from(SHAPES), st.sampled_from(DTYPES), st.booleans()), max_size=30
    )
)
def test_what_was_described_before_never_shows(asked):
    kept = []
    for number, (shape, dtype, keep) in enumerate(asked):
        wrong = dtype == "float33" or shape in SHAPES[-2:]
        try:
            said = describe(shape=shape, dtype=dtype, data_ptr=64 * (number + 1))
        except dx.ExchangeError:
            assert wrong
            continue
        assert not wrong
        assert said.shape == tuple(shape)
        assert said.dtype == dx.DType.of(dtype)
        assert said.data_ptr == (0 if 0 in shape else 64 * (number + 1))
        if keep:
            kept.append((said, tuple(shape), dtype))
    assert all(said.shape == shape and said.dtype == dx.DType.of(d) for said, shape, d in kept)
