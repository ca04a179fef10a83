"""Every layout of memory into every consumer: values kept, or a copy, or a clear error."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support.consumers import CONSUMERS, values
from support.dlpack import Fake
from support.peers import torch

import dlexchange as dx

each_consumer = pytest.mark.parametrize("consumer", CONSUMERS.values(), ids=CONSUMERS.keys())
each_dialect = pytest.mark.parametrize("legacy", [False, True], ids=["versioned", "legacy"])

#: Consumers that must not copy what the other side can show as it is.
SHARING = ("tensor", "numpy", "torch", "tvm_ffi", "array_api_strict")


def address_of(result):
    """Where the consumer believes element zero to be."""
    if isinstance(result, torch.Tensor):
        return result.data_ptr()
    return dx.from_dlpack(result).data_ptr


def aligned(nbytes, offset=0, alignment=64):
    """Bytes whose first one lies `offset` behind a multiple of `alignment`."""
    memory = np.zeros(nbytes + offset + alignment, np.uint8)
    start = -memory.ctypes.data % alignment + offset
    return memory[start : start + nbytes]


# ---- strides ----------------------------------------------------------------------------------

BASE = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5)
FORWARD = {
    "C": BASE,
    "F": np.asfortranarray(BASE),
    "transposed": BASE.transpose(2, 0, 3, 1),
    "steps": BASE[:, ::2, ::3, ::2],
    "offset": BASE[1:, 1:, 1:, 1:],
    "row": BASE[1, 2],
    "column": BASE[1, 2, :, 3],
    "element": BASE[1, 2, 3, 4:5],
    "0-d": BASE[1, 2, 3, 4, ...],
    "diagonal": np.lib.stride_tricks.as_strided(BASE, (2, 3), (240, 84)),
    "new axes": BASE[:, None, 0, 0, None],
    "sliding": np.lib.stride_tricks.sliding_window_view(BASE[0, 0, 0].copy(), 3, writeable=True),
    "empty": BASE[:, :0],
    "empty, 1-d": BASE[0, 0, 0, :0],
    "no bytes at all": np.zeros((0, 0), np.float32),
}
BROADCAST = {
    "broadcast": np.lib.stride_tricks.as_strided(BASE, (4, 5), (0, 4)),
    "broadcast scalar": np.lib.stride_tricks.as_strided(BASE, (4, 5), (0, 0)),
    "broadcast middle": np.lib.stride_tricks.as_strided(BASE, (2, 7, 5), (240, 0, 4)),
}
BACKWARD = {
    "backward": BASE[0, 0, 0, ::-1],
    "backward rows": BASE[:, ::-1],
    "all backward": BASE[::-1, ::-1, ::-1, ::-1],
    "backward by two": BASE[..., ::-2],
    "backward, transposed": BASE[::-1].T,
}
EVERY = {**FORWARD, **BROADCAST, **BACKWARD}


@each_consumer
@pytest.mark.parametrize("array", EVERY.values(), ids=EVERY.keys())
@pytest.mark.parametrize("copy", [None, True])
def test_values_survive_every_layout(consumer, array, copy):
    result = consumer(array, copy=copy)
    assert tuple(result.shape) == array.shape
    assert values(result) == array.tolist()


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize("array", {**FORWARD, **BROADCAST}.values(), ids={**FORWARD, **BROADCAST})
def test_forward_layouts_are_shared(name, array):
    before = dx.stats().copies
    result = CONSUMERS[name](array, copy=False)
    assert dx.stats().copies == before
    if array.size:
        assert address_of(result) == array.ctypes.data
        assert values(result) == array.tolist()


@pytest.mark.parametrize("array", BACKWARD.values(), ids=BACKWARD.keys())
def test_negative_strides_are_shared_where_they_can_be_said(array):
    assert dx.to_numpy(array, copy=False).ctypes.data == array.ctypes.data
    assert dx.from_dlpack(array, copy=False).data_ptr == array.ctypes.data


@pytest.mark.parametrize("array", BACKWARD.values(), ids=BACKWARD.keys())
def test_negative_strides_into_torch_are_copied_or_refused(array):
    before = dx.stats().copies
    result = dx.to_torch(array)
    assert dx.stats().copies == before + 1
    result.zero_()
    assert np.array_equal(BASE, np.arange(120).reshape(2, 3, 4, 5))
    with pytest.raises(dx.CopyError, match=r"torch has no negative strides.*copy=False"):
        dx.to_torch(array, copy=False)


@pytest.mark.parametrize("array", {**BROADCAST, "steps": FORWARD["steps"]}.values())
def test_gaps_and_steps_into_jax_are_copied_or_refused(array):
    before = dx.stats().copies
    assert values(dx.to_jax(array)) == array.tolist()
    assert dx.stats().copies == before + 1
    with pytest.raises(dx.CopyError, match=r"jax.*copy=False"):
        dx.to_jax(array, copy=False)


def test_copies_are_compact():
    tensor = dx.from_dlpack(BASE[:, ::2, :, ::-1], copy=True)
    assert tensor.strides == (40, 20, 5, 1)
    assert tensor.is_copied
    assert tensor.data_ptr % 64 == 0


@pytest.mark.parametrize("size", [1, 63, 64, 65, 16383, 16384, 16385, 100_000])
def test_copies_of_every_size(size):
    """The larger ones are made without the GIL."""
    array = np.arange(2 * size, dtype=np.float32)[::2]
    assert np.array_equal(dx.to_numpy(array, copy=True), array)
    assert np.array_equal(dx.to_numpy(array[::-1], copy=True), array[::-1])


# ---- alignment ----------------------------------------------------------------------------------


@each_consumer
@pytest.mark.parametrize("offset", [1, 2, 4, 8, 63])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "c16"])
def test_misaligned_memory_keeps_its_values(consumer, offset, dtype):
    array = aligned(64, offset).view(dtype)
    array[:] = np.arange(len(array))
    if dtype in ("f8", "c16") and consumer is CONSUMERS["jax"]:
        assert values(consumer(array)) == array.tolist()  # exact in the smaller dtype too
        return
    for copy in (None, True):
        assert values(consumer(array, copy=copy)) == array.tolist()


@pytest.mark.parametrize(
    ("dtype", "offset", "shared"),
    [
        ("f4", 4, True),
        ("f4", 2, False),
        ("f8", 4, False),
        ("c8", 4, True),
        ("c16", 8, True),
        ("c16", 4, False),
        ("u1", 1, True),
        ("?", 3, True),
        ("f2", 1, False),
    ],
)
def test_torch_shares_what_is_aligned_to_its_elements(dtype, offset, shared):
    array = aligned(64, offset).view(dtype)
    if shared:
        assert dx.to_torch(array, copy=False).data_ptr() == array.ctypes.data
    else:
        with pytest.raises(dx.CopyError, match=r"aligned to its elements.*copy=False"):
            dx.to_torch(array, copy=False)
        before = dx.stats().copies
        assert dx.to_torch(array).data_ptr() % array.itemsize == 0
        assert dx.stats().copies == before + 1


@pytest.mark.parametrize("offset", [0, 4, 16, 32])
def test_jax_shares_what_is_aligned_to_64_bytes(offset):
    array = aligned(64, offset).view(np.float32)
    before = dx.stats().copies
    result = dx.to_jax(array)
    if offset == 0:
        assert result.unsafe_buffer_pointer() == array.ctypes.data
        assert dx.stats().copies == before
        assert dx.to_jax(array, copy=False).unsafe_buffer_pointer() == array.ctypes.data
        assert dx.to_jax(array, copy=True).unsafe_buffer_pointer() != array.ctypes.data
    else:
        assert result.unsafe_buffer_pointer() != array.ctypes.data
        assert dx.stats().copies == before + 1
        with pytest.raises(dx.CopyError, match=r"aligned to 64 bytes.*copy=None"):
            dx.to_jax(array, copy=False)


# ---- byte_offset ---------------------------------------------------------------------------------


@each_consumer
@each_dialect
@pytest.mark.parametrize("offset", [4, 8, 20, 256, 4096])
def test_byte_offset_is_applied(consumer, legacy, offset):
    memory = np.zeros(8192, np.uint8)
    array = memory[offset : offset + 24].view(np.float32).reshape(2, 3)
    array[:] = [[1, 2, 3], [4, 5, 6]]
    fake = Fake(array, legacy=legacy, data=memory.ctypes.data, byte_offset=offset)
    assert values(consumer(fake)) == array.tolist()


@each_dialect
@pytest.mark.parametrize("back", [4, 256])
def test_byte_offset_may_begin_before_the_memory(legacy, back):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    fake = Fake(array, legacy=legacy, data=array.ctypes.data - back, byte_offset=back)
    tensor = dx.from_dlpack(fake)
    assert tensor.data_ptr == array.ctypes.data
    assert values(dx.to_torch(tensor)) == array.tolist()


def test_byte_offset_is_gone_from_what_we_export():
    fake = Fake(data=0, byte_offset=0)
    array = fake.array
    fake.managed.dl_tensor.data = array.ctypes.data - 256
    fake.managed.dl_tensor.byte_offset = 256
    twice = dx.from_dlpack(dx.from_dlpack(fake))
    assert twice.data_ptr == array.ctypes.data
    assert np.from_dlpack(twice).ctypes.data == array.ctypes.data


@each_consumer
def test_byte_offset_of_a_0d_tensor_is_applied(consumer):
    memory = np.arange(8, dtype=np.float32)
    scalar = {"shape": None, "strides": None, "ndim": 0}
    assert values(consumer(Fake(memory, byte_offset=12, **scalar))) == 3.0


# ---- strides of fakes: NULL, meaningless, and more ---------------------------------------------


@each_consumer
@each_dialect
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3), (0, 3), (1,) * 9, ()], ids=str)
def test_null_strides_mean_row_major(consumer, legacy, shape):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    fake = Fake(array, legacy=legacy, strides=None, **({} if legacy else {"version": (1, 0)}))
    result = consumer(fake)
    assert tuple(result.shape) == shape
    assert values(result) == array.tolist()


ODD = [0, -1, 999, -999, 2**40, -(2**40), 2**62]


@each_consumer
@each_dialect
@pytest.mark.parametrize("odd", ODD)
def test_strides_of_single_extents_mean_nothing(consumer, legacy, odd):
    array = np.arange(6, dtype=np.float32)
    for shape, strides in [
        ((1, 6), (odd, 1)),
        ((6, 1), (1, odd)),
        ((2, 1, 3), (3, odd, 1)),
        ((1,), (odd,)),
        ((1, 1, 1), (odd, odd, odd)),
    ]:
        fake = Fake(array, legacy=legacy, shape=shape, strides=strides)
        size = int(np.prod(shape))
        result = consumer(fake)
        assert tuple(result.shape) == shape
        assert values(result) == array[:size].reshape(shape).tolist()


def test_single_extents_may_lie_outside_the_farthest_step():
    """The sanitizers see the product that no stride is wide enough for."""
    tensor = dx.from_dlpack(Fake(np.zeros(1, np.uint8), shape=(1, 2), strides=(0, 2**62)))
    assert (tensor.shape, tensor.strides[1], tensor.nbytes) == ((1, 2), 2**62, 2)


@pytest.mark.parametrize("odd", ODD)
def test_single_extents_do_not_force_a_copy(odd):
    memory = aligned(24).view(np.float32)
    memory[:] = range(6)
    for name in ("torch", "jax", "numpy"):
        fake = Fake(memory, shape=(1, 6, 1), strides=(odd, 1, odd))
        before = dx.stats().copies
        assert values(CONSUMERS[name](fake, copy=False)) == memory.reshape(1, 6, 1).tolist()
        assert dx.stats().copies == before


@pytest.mark.parametrize("odd", ODD)
def test_single_extents_leave_contiguous_arrays_contiguous(odd):
    fake = Fake(np.arange(6, dtype=np.float32), shape=(2, 1, 3), strides=(3, odd, 1))
    tensor = dx.from_dlpack(fake)
    assert dx.to_torch(tensor).is_contiguous()
    assert dx.to_torch(tensor).view(6).tolist() == [0, 1, 2, 3, 4, 5]
    assert dx.to_numpy(tensor).flags.c_contiguous
    assert memoryview(tensor).c_contiguous


@each_consumer
@each_dialect
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3), (0, 0)], ids=str)
def test_empty_tensors_need_neither_data_nor_strides(consumer, legacy, shape):
    for odd, data in itertools.product([None, 0, -999, 2**62], [None, 1, 64]):
        strides = None if odd is None else (odd,) * len(shape)
        fake = Fake(np.zeros(shape, np.float32), legacy=legacy, strides=strides, data=data)
        result = consumer(fake)
        assert tuple(result.shape) == shape
        assert values(result) == np.zeros(shape).tolist()
        del result
        assert fake.calls == 1


@each_consumer
@each_dialect
def test_scalars_need_neither_shape_nor_strides(consumer, legacy):
    fake = Fake(np.array(7, np.float32), legacy=legacy, shape=None, strides=None)
    result = consumer(fake)
    assert tuple(result.shape) == ()
    assert values(result) == 7.0


@each_consumer
def test_overlapping_memory_keeps_its_values(consumer):
    fake = Fake(np.arange(8, dtype=np.float32), shape=(3, 3), strides=(1, 1))
    assert values(consumer(fake)) == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]


# ---- many dimensions ------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [8, 9, 16, 32, 33, 63, 64])
@each_consumer
def test_up_to_64_dimensions(consumer, ndim):
    shape = (2, 3) + (1,) * (ndim - 2)
    array = np.arange(6, dtype=np.float32).reshape(shape)
    result = consumer(array)
    assert tuple(result.shape) == shape
    assert np.array_equal(np.asarray(values(result)).ravel(), array.ravel())


@pytest.mark.parametrize("ndim", [9, 64])
def test_many_dimensions_in_every_order(ndim):
    shape = (1,) * (ndim - 3) + (2, 3, 4)
    array = np.arange(24.0).reshape(shape)
    for order in (array, array.T, np.moveaxis(array, -1, 0), array[..., ::-1]):
        for copy in (None, True):
            tensor = dx.from_dlpack(order, copy=copy)
            assert tensor.shape == order.shape
            assert np.array_equal(dx.to_numpy(tensor), order)
            capsule = tensor.__dlpack__(max_version=(1, 0))
            assert np.array_equal(dx.to_numpy(dx.from_dlpack(capsule)), order)


# ---- the fast and the slow path agree -------------------------------------------------------


def test_fake_and_numpy_show_the_same():
    for array in EVERY.values():
        for name, copy in itertools.product(("tensor", "numpy", "torch"), (None, True)):
            ours = CONSUMERS[name](Fake(array), copy=copy)
            theirs = CONSUMERS[name](array, copy=copy)
            assert values(ours) == values(theirs)
