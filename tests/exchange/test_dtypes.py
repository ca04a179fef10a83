"""Every element type between every pair: bit patterns kept, or an honest refusal."""

from __future__ import annotations

import ctypes

import jax
import ml_dtypes
import numpy as np
import pytest
from support import child
from support.dlpack import IS_COPIED, PADDED, Fake, delete, peek
from support.dlpack import claim as claim_capsule
from support.peers import torch

import dlexchange as dx

#: name -> (DLPack code, bits), numpy's dtype, torch's name for it or None, whether jax has it
#: (64 bits: only under x64, tested in a process of its own)
PLAIN = {
    "bool": ((6, 8), np.bool_, "bool", True),
    "int8": ((0, 8), np.int8, "int8", True),
    "int16": ((0, 16), np.int16, "int16", True),
    "int32": ((0, 32), np.int32, "int32", True),
    "int64": ((0, 64), np.int64, "int64", False),
    "uint8": ((1, 8), np.uint8, "uint8", True),
    "uint16": ((1, 16), np.uint16, "uint16", True),
    "uint32": ((1, 32), np.uint32, "uint32", True),
    "uint64": ((1, 64), np.uint64, "uint64", False),
    "float16": ((2, 16), np.float16, "float16", True),
    "float32": ((2, 32), np.float32, "float32", True),
    "float64": ((2, 64), np.float64, "float64", False),
    "complex64": ((5, 64), np.complex64, "complex64", True),
    "complex128": ((5, 128), np.complex128, "complex128", False),
}
ML = {
    "bfloat16": ((4, 16), ml_dtypes.bfloat16, "bfloat16", True),
    "float8_e3m4": ((7, 8), ml_dtypes.float8_e3m4, None, True),
    "float8_e4m3": ((8, 8), ml_dtypes.float8_e4m3, None, True),
    "float8_e4m3b11fnuz": ((9, 8), ml_dtypes.float8_e4m3b11fnuz, None, True),
    "float8_e4m3fn": ((10, 8), ml_dtypes.float8_e4m3fn, "float8_e4m3fn", True),
    "float8_e4m3fnuz": ((11, 8), ml_dtypes.float8_e4m3fnuz, "float8_e4m3fnuz", True),
    "float8_e5m2": ((12, 8), ml_dtypes.float8_e5m2, "float8_e5m2", True),
    "float8_e5m2fnuz": ((13, 8), ml_dtypes.float8_e5m2fnuz, "float8_e5m2fnuz", True),
    "float8_e8m0fnu": ((14, 8), ml_dtypes.float8_e8m0fnu, "float8_e8m0fnu", True),
}
#: One element a byte in numpy: nobody else has them so.
SMALL = {
    "float6_e2m3fn": ((15, 6), ml_dtypes.float6_e2m3fn),
    "float6_e3m2fn": ((16, 6), ml_dtypes.float6_e3m2fn),
    "float4_e2m1fn": ((17, 4), ml_dtypes.float4_e2m1fn),
    "int4": ((0, 4), ml_dtypes.int4),
    "uint4": ((1, 4), ml_dtypes.uint4),
    "int2": ((0, 2), ml_dtypes.int2),
    "uint2": ((1, 2), ml_dtypes.uint2),
    "int1": ((0, 1), ml_dtypes.int1),
    "uint1": ((1, 1), ml_dtypes.uint1),
}
BOTH = {**PLAIN, **ML}
each = pytest.mark.parametrize(("number", "numpy", "in_torch", "in_jax"), BOTH.values(), ids=BOTH)
jax_names = [name for name, entry in BOTH.items() if entry[3]]
each_of_jax = pytest.mark.parametrize(
    ("number", "numpy"), [BOTH[name][:2] for name in jax_names], ids=jax_names
)
pair_names = [name for name in jax_names if BOTH[name][2] is not None]
each_of_jax_and_torch = pytest.mark.parametrize(
    ("numpy", "in_torch"), [BOTH[name][1:3] for name in pair_names], ids=pair_names
)
each_small = pytest.mark.parametrize(("number", "numpy"), SMALL.values(), ids=SMALL)


def pattern(dtype, n=24):
    """Make an array whose bytes are all different, or 0 and 1 where others are invalid."""
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        return (np.arange(n) % 3 == 0).reshape(4, -1)
    memory = np.arange(7, 7 + n * dtype.itemsize, dtype=np.uint32).astype(np.uint8)
    return memory.view(dtype).reshape(4, -1)


def small_pattern(dtype, bits):
    """Every value of a small type, one a byte."""
    return np.arange(2**bits, dtype=np.uint8).view(np.dtype(dtype))


def bits_of(array):
    """Read the memory of a contiguous array of any framework, as bytes."""
    if isinstance(array, torch.Tensor):
        return array.contiguous().view(torch.uint8).numpy().tobytes()
    return np.ascontiguousarray(np.asarray(array)).tobytes()


@each
def test_numpy_shows_and_names_it(number, numpy, in_torch, in_jax):
    array = pattern(numpy)
    tensor = dx.from_dlpack(array)
    assert tensor.dtype == (*number, 1)
    assert tensor.nbytes == array.nbytes
    result = dx.to_numpy(tensor)
    assert result.dtype == array.dtype
    assert result.tobytes() == array.tobytes()
    assert result.ctypes.data == array.ctypes.data


@each
def test_numpy_to_torch_and_back(number, numpy, in_torch, in_jax):
    array = pattern(numpy)
    if in_torch is None:
        with pytest.raises(dx.ExchangeError, match=f"torch refused .*code {number[0]}, bits"):
            dx.to_torch(array)
        return
    tensor = dx.to_torch(array)
    assert tensor.dtype == getattr(torch, in_torch)
    assert tensor.data_ptr() == array.ctypes.data
    assert bits_of(tensor) == array.tobytes()
    back = dx.to_numpy(tensor)
    assert back.dtype == array.dtype
    assert back.ctypes.data == array.ctypes.data


@each_of_jax
def test_numpy_to_jax_and_back(number, numpy):
    array = pattern(numpy)
    there = dx.to_jax(array)
    assert there.dtype == array.dtype
    assert bits_of(there) == array.tobytes()
    assert dx.to_numpy(there).tobytes() == array.tobytes()
    assert dx.from_dlpack(there).dtype == (*number, 1)


@each_of_jax_and_torch
def test_torch_to_jax_and_back(numpy, in_torch):
    torch_dtype = getattr(torch, in_torch)
    tensor = torch.from_numpy(pattern(numpy).view(np.uint8).copy()).view(torch_dtype)
    there = dx.to_jax(tensor)
    assert bits_of(there) == bits_of(tensor)
    back = dx.to_torch(there, copy=True)
    assert back.dtype == torch_dtype
    assert bits_of(back) == bits_of(tensor)


@each
def test_through_tvm_ffi_and_back(number, numpy, in_torch, in_jax):
    array = pattern(numpy)
    there = dx.convert(array, "tvm_ffi")
    back = dx.to_numpy(there)
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


@each
def test_copies_keep_the_bits(number, numpy, in_torch, in_jax):
    array = pattern(numpy)[:, ::-1]
    tensor = dx.from_dlpack(array, copy=True)
    assert tensor.is_copied
    assert dx.to_numpy(tensor).tobytes() == np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize("dtype", ["longlong", "ulonglong", "intc", "uintc", "int_", "uint"])
def test_c_names_of_one_size_are_one_type(dtype):
    array = np.arange(4).astype(dtype)
    assert dx.from_dlpack(array).dtype.bits == array.itemsize * 8
    assert dx.to_numpy(dx.from_dlpack(array)).tolist() == array.tolist()


# ---- jax and 64 bits ---------------------------------------------------------------------------

WIDE = {"int64": np.int64, "uint64": np.uint64, "float64": np.float64, "complex128": np.complex128}


def wide(dtype):
    memory = np.zeros(64 + 16 * 8, np.uint8)
    start = -memory.ctypes.data % 64
    array = memory[start : start + np.dtype(dtype).itemsize * 4].view(dtype)
    array[:] = range(4)
    return array


@pytest.mark.parametrize("dtype", WIDE.values(), ids=WIDE.keys())
def test_jax_without_x64_narrows_as_its_own_import_does(dtype):
    array = wide(dtype)
    before = dx.stats().copies
    result = dx.to_jax(array)
    assert result.dtype == jax.dlpack.from_dlpack(array).dtype
    assert result.dtype.itemsize == array.itemsize // 2
    assert np.asarray(result).tolist() == array.tolist()
    assert dx.stats().copies == before + 1


@pytest.mark.parametrize("dtype", WIDE.values(), ids=WIDE.keys())
def test_jax_without_x64_cannot_import_without_a_copy(dtype):
    with pytest.raises(dx.CopyError, match=r"jax without x64.*copy=False.*jax_enable_x64"):
        dx.to_jax(wide(dtype), copy=False)


def test_jax_without_x64_takes_what_needs_no_narrowing():
    array = wide(np.complex64)
    assert dx.to_jax(array, copy=False).unsafe_buffer_pointer() == array.ctypes.data


@pytest.mark.slow
def test_jax_with_x64_keeps_64_bits():
    child.run(
        """
        import jax, numpy as np
        jax.config.update("jax_enable_x64", True)
        import dlexchange as dx
        for dtype in (np.int64, np.uint64, np.float64, np.complex128):
            memory = np.zeros(256, np.uint8)
            start = -memory.ctypes.data % 64
            array = memory[start : start + 4 * np.dtype(dtype).itemsize].view(dtype)
            array[:] = [2**40, 1, 2, 3]
            result = dx.to_jax(array, copy=False)
            assert result.dtype == dtype, result.dtype
            assert result.unsafe_buffer_pointer() == array.ctypes.data
            assert np.asarray(result).tolist() == array.tolist()
            assert dx.to_numpy(result).tolist() == array.tolist()
        assert dx.stats().copies == 0
        """
    )


# ---- smaller than a byte -------------------------------------------------------------------------


@each_small
def test_small_types_of_numpy_are_one_a_byte(number, numpy):
    array = small_pattern(numpy, number[1])
    tensor = dx.from_dlpack(array)
    assert tensor.dtype == (*number, 1)
    assert tensor.nbytes == array.nbytes == len(array)
    assert peek(tensor.__dlpack__(max_version=(1, 0))).flags == PADDED
    back = dx.to_numpy(tensor)
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


@each_small
def test_small_types_are_copied_one_a_byte(number, numpy):
    array = small_pattern(numpy, number[1])[::-1]
    tensor = dx.from_dlpack(array, copy=True)
    assert peek(tensor.__dlpack__(max_version=(1, 0))).flags == PADDED
    assert dx.to_numpy(tensor).tobytes() == array.tobytes()
    again = peek(tensor.__dlpack__(max_version=(1, 0), copy=True))
    assert again.flags == PADDED | IS_COPIED


@each_small
@pytest.mark.parametrize("consumer", [dx.to_torch, dx.to_jax, lambda x: dx.convert(x, "tvm_ffi")])
def test_small_types_are_not_given_to_who_packs_them(number, numpy, consumer):
    with pytest.raises(dx.ExchangeError):
        consumer(small_pattern(numpy, number[1]))


@each_small
def test_packed_elements_are_refused_by_numpy_and_kept_by_the_tensor(number, numpy):
    memory = np.arange(8, dtype=np.uint8)
    fake = Fake(memory, dtype=(*number, 1), shape=(8,), strides=(1,))
    tensor = dx.from_dlpack(fake)
    assert tensor.nbytes == number[1]
    with pytest.raises(dx.ExchangeError, match="packed"):
        dx.to_numpy(tensor)
    copied = dx.from_dlpack(tensor, copy=True)
    capsule = copied.__dlpack__(max_version=(1, 0))
    managed = claim_capsule(capsule)
    assert managed.flags == 0
    shown = ctypes.string_at(managed.dl_tensor.data, number[1])
    assert shown == memory.tobytes()[: number[1]]
    delete(managed)


def test_packed_elements_with_gaps_cannot_be_copied():
    fake = Fake(np.zeros(8, np.uint8), dtype=(0, 4, 1), shape=(4,), strides=(2,))
    tensor = dx.from_dlpack(fake)
    with pytest.raises(dx.CopyError, match=r"packed.*contiguous"):
        dx.from_dlpack(tensor, copy=True)
    del tensor
    assert fake.calls == 1


def test_float4_pairs_of_torch_go_round():
    tensor = torch.arange(8, dtype=torch.uint8).view(torch.float4_e2m1fn_x2).reshape(2, 4)
    neutral = dx.from_dlpack(tensor)
    assert neutral.dtype == (17, 4, 2)
    assert neutral.nbytes == 8
    assert str(neutral.dtype) == "float4_e2m1fnx2"
    back = dx.to_torch(neutral)
    assert back.dtype == tensor.dtype
    assert back.data_ptr() == tensor.data_ptr()
    copied = dx.to_torch(tensor, copy=True)
    assert copied.view(torch.uint8).tolist() == tensor.view(torch.uint8).tolist()
    turned = dx.from_dlpack(tensor.T, copy=True)
    assert dx.to_torch(turned).view(torch.uint8).tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    with pytest.raises(dx.ExchangeError, match=r"numpy has no dtype.*lanes 2"):
        dx.to_numpy(tensor)
    with pytest.raises(BufferError, match="no format"):
        memoryview(neutral)


def test_float4_of_jax_is_packed_and_said_so():
    array = jax.numpy.array([1, 0.5, 1.5, 2, 3], jax.numpy.float4_e2m1fn)
    tensor = dx.from_dlpack(array)
    assert tensor.dtype == (17, 4, 1)
    assert tensor.nbytes == 3
    managed = claim_capsule(tensor.__dlpack__(max_version=(1, 0)))
    shown = ctypes.string_at(managed.dl_tensor.data, 3)
    delete(managed)
    codes = np.asarray(array).view(np.uint8)
    assert [shown[i // 2] >> 4 * (i % 2) & 15 for i in range(5)] == codes.tolist()


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
def test_half_complex_of_torch_goes_round_and_nowhere_else():
    tensor = torch.tensor([1 + 2j, 3 - 4j]).to(torch.complex32)
    neutral = dx.from_dlpack(tensor)
    assert neutral.dtype == (5, 32, 1)
    assert dx.to_torch(neutral).tolist() == tensor.tolist()
    assert dx.to_torch(tensor, copy=True).tolist() == tensor.tolist()
    with pytest.raises(dx.ExchangeError, match="numpy has no dtype"):
        dx.to_numpy(tensor)
    with pytest.raises(dx.ExchangeError, match="jax refused"):
        dx.to_jax(tensor)


@pytest.mark.slow
def test_numpy_without_ml_dtypes_says_what_to_install():
    child.run(
        """
        import sys
        sys.modules["ml_dtypes"] = None
        import torch, numpy as np, dlexchange as dx
        try:
            dx.to_numpy(torch.ones(2, dtype=torch.bfloat16))
        except dx.ExchangeError as error:
            assert "pip install ml_dtypes" in str(error), error
        else:
            raise SystemExit("not refused")
        del sys.modules["ml_dtypes"]
        assert dx.to_numpy(torch.ones(2, dtype=torch.bfloat16)).tolist() == [1, 1]
        """
    )


@pytest.mark.slow
def test_jax_by_its_public_import_gives_the_same():
    """The way out where jaxlib's inner functions are not as they were."""
    child.run(
        """
        import warnings
        import numpy as np, torch
        import dlexchange as dx
        from dlexchange.adapters import jax as adapter
        def fail():
            raise RuntimeError("no such functions")
        adapter._probe = fail
        memory = np.zeros(1024, np.uint8)
        memory = memory[-memory.ctypes.data % 64 :]
        array = memory[:64].view(np.float32).reshape(4, 4)
        array[:] = np.arange(16).reshape(4, 4)
        assert not dx._core._jax_load()
        assert adapter.fallback_reason == "RuntimeError: no such functions"
        shared = dx.to_jax(array, copy=False)
        assert shared.unsafe_buffer_pointer() == array.ctypes.data
        for x in (array, array.T, array[::2], array[:, ::-1], array[:0], torch.arange(6.0)):
            for copy in (None, True):
                assert np.asarray(dx.to_jax(x, copy=copy)).tolist() == x.tolist()
        assert dx.to_numpy(shared).tolist() == array.tolist()
        assert dx.from_dlpack(shared).readonly
        frozen = array.view()
        frozen.flags.writeable = False
        assert np.asarray(dx.to_jax(frozen)).tolist() == array.tolist()
        wide = memory[64:128].view(np.int64)
        before = dx.stats().copies
        assert dx.to_jax(wide).dtype == np.int32
        assert dx.stats().copies == before + 1
        for x in (wide, array[:, ::2]):
            try:
                dx.to_jax(x, copy=False)
            except dx.CopyError:
                pass
            else:
                raise SystemExit("copied in spite of copy=False")
        """
    )
