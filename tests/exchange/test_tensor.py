"""dlexchange.Tensor: attributes, `__dlpack__` as the standard says, host protocols, close."""

from __future__ import annotations

import copy
import ctypes
import gc
import itertools
import pickle
from enum import IntEnum

import ml_dtypes
import numpy as np
import pytest
from support import dlpack
from support.dlpack import Fake
from support.peers import torch

import dlexchange as dx

# ---- attributes ---------------------------------------------------------------------------


def test_attributes_say_what_the_array_is():
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)[:, ::-1, ::2]
    tensor = dx.from_dlpack(array)
    assert tensor.shape == (2, 3, 2)
    assert tensor.strides == (12, -4, 2)
    assert tensor.ndim == 3
    assert tensor.dtype == (0, 16, 1)
    assert tensor.device == (1, 0)
    assert tensor.data_ptr == array.ctypes.data
    assert tensor.nbytes == array.nbytes == 24
    assert tensor.readonly is False
    assert tensor.is_copied is False
    assert tensor.closed is False


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: np.zeros((2, 3), "f4"), "<dlexchange.Tensor (2, 3) float32 on cpu>"),
        (lambda: np.zeros((), "?"), "<dlexchange.Tensor () bool on cpu>"),
        (lambda: np.zeros((0,), "c8"), "<dlexchange.Tensor (0,) complex64 on cpu>"),
        (lambda: np.broadcast_to(1, 2), "<dlexchange.Tensor (2,) int64 on cpu, read-only>"),
        (lambda: np.zeros(2, ml_dtypes.int4), "<dlexchange.Tensor (2,) int4 on cpu>"),
        (
            lambda: np.zeros(2, ml_dtypes.float8_e4m3fn),
            "<dlexchange.Tensor (2,) float8_e4m3fn on cpu>",
        ),
    ],
)
def test_repr_says_what_it_is(make, text):
    assert repr(dx.from_dlpack(make())) == text


def test_repr_says_that_it_is_closed():
    tensor = dx.from_dlpack(np.zeros(2, "f4"))
    tensor.close()
    assert repr(tensor) == "<dlexchange.Tensor (2,) float32 on cpu, closed>"


@pytest.mark.parametrize(
    "name",
    ["shape", "strides", "ndim", "dtype", "device", "data_ptr", "nbytes", "readonly", "closed"],
)
def test_attributes_cannot_be_set(name):
    tensor = dx.from_dlpack(np.zeros(2))
    with pytest.raises(AttributeError):
        setattr(tensor, name, 1)
    with pytest.raises(AttributeError):
        tensor.another = 1


def test_tensors_are_made_by_from_dlpack_only():
    with pytest.raises(TypeError, match="cannot create"):
        dx.Tensor()
    with pytest.raises(TypeError):
        object.__new__(dx.Tensor)
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Derived", (dx.Tensor,), {})
    with pytest.raises(TypeError):
        dx.Tensor.shape = 3


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_tensors_are_not_duplicated_behind_our_back(duplicate):
    with pytest.raises(TypeError):
        duplicate(dx.from_dlpack(np.zeros(2)))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_nbytes_of_small_elements(bits):
    name = {1: "uint1", 2: "uint2", 4: "uint4"}[bits]
    padded = dx.from_dlpack(np.zeros(5, getattr(ml_dtypes, name)))
    assert padded.nbytes == 5
    packed = dx.from_dlpack(
        Fake(np.zeros(8, np.uint8), dtype=(1, bits, 1), shape=(5,), strides=(1,))
    )
    assert packed.nbytes == {1: 1, 2: 2, 4: 3}[bits]


# ---- __dlpack__ -----------------------------------------------------------------------------


class Kind(IntEnum):
    CPU = 1


VERSIONS = {
    "absent": None,
    "None": {"max_version": None},
    "0.8": {"max_version": (0, 8)},
    "1.0": {"max_version": (1, 0)},
    "1.3": {"max_version": (1, 3)},
    "1.99": {"max_version": (1, 99)},
    "2.0": {"max_version": (2, 0)},
}
COPIES = [{}, {"copy": None}, {"copy": False}, {"copy": True}]
DEVICES = [{}, {"dl_device": None}, {"dl_device": (1, 0)}, {"dl_device": (Kind.CPU, 0)}]
STREAMS = [{}, {"stream": None}]


@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS.keys())
@pytest.mark.parametrize("copies", COPIES, ids=str)
def test_export_in_every_combination_of_keywords(version, copies):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    asked = (version or {}).get("max_version")
    for devices, streams in itertools.product(DEVICES, STREAMS):
        tensor = dx.from_dlpack(array)
        capsule = tensor.__dlpack__(**(version or {}), **copies, **devices, **streams)
        versioned = asked is not None and asked[0] >= 1
        assert dlpack.name_of(capsule) == (dlpack.VERSIONED if versioned else dlpack.LEGACY)
        managed = dlpack.peek(capsule)
        copied = copies.get("copy") is True
        if versioned:
            assert (managed.version.major, managed.version.minor) == (1, 3)
            assert managed.flags == (dlpack.IS_COPIED if copied else 0)
        view = managed.dl_tensor
        assert (view.data == array.ctypes.data) is not copied
        assert view.byte_offset == 0
        assert dlpack.shape_of(view) == (2, 3)
        assert dlpack.strides_of(view) == (3, 1)
        assert (view.device.device_type, view.device.device_id) == tensor.__dlpack_device__()
        assert (view.dtype.code, view.dtype.bits, view.dtype.lanes) == (2, 32, 1)
        assert np.array_equal(dx.to_numpy(capsule), array)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 2, 0)], ids=str)
@pytest.mark.parametrize("strides", [{}, {"strides": None}], ids=str)
def test_export_without_elements_has_no_address(shape, strides):
    tensor = dx.from_dlpack(Fake(np.zeros(shape, np.float32), byte_offset=8, **strides))
    for keywords in ({}, {"max_version": (1, 0)}):
        capsule = tensor.__dlpack__(**keywords)
        view = dlpack.peek(capsule).dl_tensor
        assert (view.data, view.byte_offset) == (None, 0)


@pytest.mark.parametrize(
    ("keywords", "error", "says"),
    [
        ({"stream": 0}, dx.StreamError, "stream=None"),
        ({"stream": 1}, dx.StreamError, "stream=None"),
        ({"stream": -1}, dx.StreamError, "stream=None"),
        ({"stream": "x"}, dx.StreamError, "stream=None"),
        ({"max_version": 1}, TypeError, "max_version must be"),
        ({"max_version": (1,)}, TypeError, "max_version must be"),
        ({"max_version": (1, 0, 0)}, TypeError, "max_version must be"),
        ({"max_version": [1, 0]}, TypeError, "max_version must be"),
        ({"max_version": ("1", "0")}, TypeError, "max_version must be"),
        ({"max_version": (1, "0")}, TypeError, "max_version must be"),
        ({"max_version": (2**70, 0)}, TypeError, "max_version must be"),
        ({"dl_device": (2, 0)}, BufferError, "cannot be exported"),
        ({"dl_device": (1, 1)}, BufferError, "cannot be exported"),
        ({"dl_device": (3, 0)}, BufferError, "cannot be exported"),
        ({"dl_device": (99, 0)}, BufferError, "cannot be exported"),
        ({"dl_device": 1}, TypeError, "dl_device must be"),
        ({"dl_device": "cpu"}, TypeError, "dl_device must be"),
        ({"dl_device": (1,)}, TypeError, "dl_device must be"),
        ({"dl_device": ("1", 0)}, TypeError, "dl_device must be"),
        ({"dl_device": (2**40, 0)}, TypeError, "dl_device must be"),
        ({"copy": 1}, TypeError, "copy must be"),
        ({"copy": "True"}, TypeError, "copy must be"),
        ({"nonsense": 1}, TypeError, "unexpected keyword argument 'nonsense'"),
    ],
    ids=str,
)
def test_export_refuses_what_the_standard_does_not_know(keywords, error, says):
    tensor = dx.from_dlpack(np.zeros(3))
    with pytest.raises(error, match=says):
        tensor.__dlpack__(**keywords)


def test_export_takes_keywords_only():
    with pytest.raises(TypeError, match="keyword"):
        dx.from_dlpack(np.zeros(3)).__dlpack__(None)


def test_keywords_need_not_be_interned():
    keyword = "".join(["max_", "version"])
    capsule = dx.from_dlpack(np.zeros(3)).__dlpack__(**{keyword: (1, 0)})
    assert dlpack.name_of(capsule) == dlpack.VERSIONED


def test_every_export_is_a_struct_of_its_own():
    tensor = dx.from_dlpack(np.arange(3.0))
    one, two = (dlpack.claim(tensor.__dlpack__(max_version=(1, 0))) for _ in range(2))
    assert ctypes.addressof(one) != ctypes.addressof(two)
    dlpack.delete(one)
    assert dlpack.shape_of(two.dl_tensor) == (3,)
    dlpack.delete(two)


def test_names_of_capsules_are_static():
    tensor = dx.from_dlpack(np.zeros(3))
    get_name = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(
        ("PyCapsule_GetName", ctypes.pythonapi)
    )
    for keywords in ({}, {"max_version": (1, 0)}):
        capsules = [tensor.__dlpack__(**keywords) for _ in range(4)]
        before = {get_name(capsule) for capsule in capsules}
        for capsule in capsules:
            dx.from_dlpack(capsule)
        after = {get_name(capsule) for capsule in capsules}
        assert len(before) == len(after) == 1
        assert ctypes.string_at(after.pop()).startswith(b"used_dltensor")


def test_read_only_is_said_or_refused():
    tensor = dx.from_dlpack(np.broadcast_to(np.arange(3), (2, 3)))
    assert dlpack.peek(tensor.__dlpack__(max_version=(1, 0))).flags == dlpack.READ_ONLY
    with pytest.raises(BufferError, match=r"read-only.*max_version=\(1, 0\)"):
        tensor.__dlpack__()
    copied = dlpack.peek(tensor.__dlpack__(max_version=(1, 0), copy=True))
    assert copied.flags == dlpack.IS_COPIED
    assert dlpack.name_of(tensor.__dlpack__(copy=True)) == dlpack.LEGACY


def test_padding_is_said_or_refused():
    tensor = dx.from_dlpack(np.zeros(4, ml_dtypes.int4))
    assert dlpack.peek(tensor.__dlpack__(max_version=(1, 0))).flags == dlpack.PADDED
    with pytest.raises(BufferError, match="unversioned"):
        tensor.__dlpack__()


def test_a_copy_belongs_to_its_consumer_alone():
    array = np.arange(4.0)
    tensor = dx.from_dlpack(array)
    copied = dx.from_dlpack(tensor.__dlpack__(max_version=(1, 0), copy=True))
    assert copied.is_copied
    dx.to_numpy(copied)[0] = 9
    assert array[0] == 0
    array[1] = 8
    assert dx.to_numpy(copied)[1] == 1


def test_a_shared_export_of_a_copy_does_not_claim_to_be_one():
    tensor = dx.from_dlpack(np.arange(4.0), copy=True)
    assert tensor.is_copied
    assert dlpack.peek(tensor.__dlpack__(max_version=(1, 0))).flags == 0
    assert not dx.from_dlpack(tensor).is_copied


@pytest.mark.parametrize("ndim", [0, 1, 8, 9, 64])
def test_strides_are_always_given(ndim):
    tensor = dx.from_dlpack(np.zeros([1] * ndim))
    view = dlpack.peek(tensor.__dlpack__(max_version=(1, 0))).dl_tensor
    assert view.ndim == ndim
    assert dlpack.shape_of(view) == (1,) * ndim
    if ndim:
        assert dlpack.strides_of(view) == (1,) * ndim


def test_a_published_struct_does_not_change_with_the_source():
    array = np.arange(6.0)
    tensor = dx.from_dlpack(array)
    capsule = tensor.__dlpack__(max_version=(1, 0))
    array.shape = (2, 3)
    view = dlpack.peek(capsule).dl_tensor
    assert (view.ndim, dlpack.shape_of(view), tensor.shape) == (1, (6,), (6,))


# ---- close ------------------------------------------------------------------------------------


def test_close_lets_go_at_once():
    fake = Fake()
    tensor = dx.from_dlpack(fake)
    tensor.close()
    assert fake.calls == 1
    assert tensor.closed
    tensor.close()
    assert fake.calls == 1


def test_leaving_the_block_closes():
    fake = Fake()
    with dx.from_dlpack(fake) as tensor:
        assert not tensor.closed
    assert tensor.closed
    assert fake.calls == 1


def test_an_error_in_the_block_closes_and_comes_through():
    fake = Fake()
    with pytest.raises(KeyError), dx.from_dlpack(fake):
        raise KeyError
    assert fake.calls == 1


def test_close_waits_for_every_export():
    fake = Fake()
    tensor = dx.from_dlpack(fake)
    holders = [
        tensor.__dlpack__(),
        tensor.__dlpack__(max_version=(1, 0)),
        memoryview(tensor),
        dx.to_numpy(tensor),
        dx.to_torch(tensor),
        dx.from_dlpack(tensor),
    ]
    tensor.close()
    while holders:
        assert fake.calls == 0
        holders.pop()
        gc.collect()
    assert fake.calls == 1


def test_close_waits_for_a_view_of_a_buffer():
    fake = Fake()
    tensor = dx.from_dlpack(fake)
    part = memoryview(tensor)[0:1]
    tensor.close()
    assert part.tolist() == [[0.0, 1.0, 2.0]]
    assert fake.calls == 0
    part.release()
    gc.collect()
    assert fake.calls == 1


def test_close_keeps_memory_whose_address_was_given_out():
    fake = Fake()
    tensor = dx.from_dlpack(fake)
    interface = tensor.__array_interface__
    tensor.close()
    assert interface["data"][0] == fake.array.ctypes.data
    assert fake.calls == 0
    del tensor
    assert fake.calls == 1


def test_array_of_the_interface_keeps_the_tensor():
    fake = Fake()

    class Holder:
        def __init__(self):
            self.tensor = dx.from_dlpack(fake)

        @property
        def __array_interface__(self):
            return self.tensor.__array_interface__

    holder = Holder()
    array = np.asarray(holder)
    holder.tensor.close()
    del holder
    gc.collect()
    assert fake.calls == 0
    assert np.array_equal(array, fake.array)
    del array
    assert fake.calls == 1


@pytest.mark.parametrize(
    "use",
    [
        lambda t: t.__dlpack__(),
        lambda t: t.__dlpack__(copy=True),
        lambda t: t.data_ptr,
        lambda t: t.__array_interface__,
        dx.from_dlpack,
        dx.to_numpy,
        dx.to_torch,
        dx.to_jax,
        lambda t: dx.convert(t, "tvm_ffi"),
        memoryview,
    ],
)
def test_a_closed_tensor_is_refused(use):
    tensor = dx.from_dlpack(np.zeros(3))
    tensor.close()
    with pytest.raises((ValueError, BufferError), match="closed"):
        use(tensor)


def test_a_closed_tensor_still_says_what_it_was():
    tensor = dx.from_dlpack(np.zeros((2, 3), "f4"))
    tensor.close()
    assert (tensor.shape, tensor.strides, tensor.nbytes) == ((2, 3), (3, 1), 24)
    assert tensor.__dlpack_device__() == (1, 0)


def test_deleter_may_look_at_the_tensor_that_is_closing():
    fake, seen = Fake(), []
    tensor = dx.from_dlpack(fake)
    fake.on_delete(lambda: (tensor.close(), seen.append(tensor.closed)))
    tensor.close()
    assert seen == [True]
    assert fake.calls == 1
    fake.context.callback = None
    del fake._callback


# ---- buffer protocol ----------------------------------------------------------------------------

SIMPLE, WRITABLE, FORMAT, ND, STRIDES = 0, 1, 4, 8, 0x18
C_CONTIGUOUS, F_CONTIGUOUS, ANY_CONTIGUOUS, INDIRECT = 0x38, 0x58, 0x98, 0x118
FLAGS = {
    "SIMPLE": SIMPLE,
    "WRITABLE": WRITABLE,
    "FORMAT": FORMAT,
    "ND": ND,
    "STRIDES": STRIDES,
    "C_CONTIGUOUS": C_CONTIGUOUS,
    "F_CONTIGUOUS": F_CONTIGUOUS,
    "ANY_CONTIGUOUS": ANY_CONTIGUOUS,
    "INDIRECT": INDIRECT,
    "CONTIG": ND | WRITABLE,
    "STRIDED_RO": STRIDES,
    "RECORDS": STRIDES | WRITABLE | FORMAT,
    "FULL": INDIRECT | WRITABLE | FORMAT,
    "FULL_RO": INDIRECT | FORMAT,
}
LAYOUTS = {
    "C": lambda: np.arange(6.0).reshape(2, 3),
    "F": lambda: np.arange(6.0).reshape(2, 3).T,
    "1-d": lambda: np.arange(6.0),
    "steps": lambda: np.arange(12.0).reshape(3, 4)[:, ::2],
    "backwards": lambda: np.arange(6.0)[::-1],
    "0-d": lambda: np.array(3.0),
    "empty": lambda: np.zeros((3, 0, 2)),
    "one": lambda: np.zeros((1, 1, 1)),
    "3-d F": lambda: np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    "read-only": lambda: np.broadcast_to(np.arange(3.0), (1, 3)),
}


class PyBuffer(ctypes.Structure):
    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


_get_buffer = ctypes.PYFUNCTYPE(
    ctypes.c_int, ctypes.py_object, ctypes.POINTER(PyBuffer), ctypes.c_int
)(("PyObject_GetBuffer", ctypes.pythonapi))
_release_buffer = ctypes.PYFUNCTYPE(None, ctypes.POINTER(PyBuffer))(
    ("PyBuffer_Release", ctypes.pythonapi)
)


def buffer_of(x, flags):
    """Ask for a buffer: what it says, or None where it is refused."""
    view = PyBuffer()
    try:
        _get_buffer(x, ctypes.byref(view), flags)
    except BufferError:
        return None
    except ValueError:  # numpy's choice
        assert isinstance(x, np.ndarray)
        return None
    dims = range(view.ndim)
    said = {
        "buf": view.buf if view.len else None,
        "len": view.len,
        "readonly": bool(view.readonly),
        "ndim": view.ndim,
        "format": view.format,
        "shape": [view.shape[i] for i in dims] if view.shape else None,
        "strides": [view.strides[i] for i in dims] if view.strides else None,
        "suboffsets": view.suboffsets,
    }
    _release_buffer(ctypes.byref(view))
    return said


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS.keys())
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_buffers_are_given_as_numpy_gives_them(layout, flags):
    array = layout()
    tensor = dx.from_dlpack(array)
    assert np.array_equal(dx.to_numpy(tensor), array)
    expected, given = buffer_of(array, flags), buffer_of(tensor, flags)
    if expected is not None and given is not None:
        if 0 in array.shape or 1 in array.shape:  # strides without a meaning
            assert (expected.pop("strides") is None) == (given.pop("strides") is None)
        if not flags & ND:  # bytes and nothing else: memoryview says 1, numpy says 0
            assert (expected.pop("ndim"), given.pop("ndim")) == (0, 1)
        elif array.ndim == 0:  # "MUST be NULL", says the reference of the C API
            assert (given.pop("shape"), given.pop("strides", None)) == (None, None)
            del expected["shape"], expected["strides"]
    assert given == expected


@pytest.mark.parametrize("dtype", ["?", "b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d"])
def test_buffer_names_the_elements(dtype):
    array = np.ones(3, dtype)
    view = memoryview(dx.from_dlpack(array))
    assert np.dtype(view.format) == array.dtype
    if dtype != "e":
        assert view.tolist() == array.tolist()
    assert view.tobytes() == array.tobytes()


def test_buffer_of_complex_values():
    array = np.array([1 + 2j, 3 - 4j])
    assert np.array_equal(np.asarray(memoryview(dx.from_dlpack(array))), array)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, ml_dtypes.int4])
def test_buffer_without_a_name_for_the_elements_is_refused(dtype):
    tensor = dx.from_dlpack(np.zeros(3, dtype))
    with pytest.raises(BufferError, match="no format"):
        memoryview(tensor)
    with pytest.raises(AttributeError, match="cannot name"):
        tensor.__array_interface__  # noqa: B018
    assert not hasattr(tensor, "__array_interface__")


def test_buffer_is_written_through():
    array = np.zeros(3)
    memoryview(dx.from_dlpack(array))[1] = 5.0
    assert array.tolist() == [0.0, 5.0, 0.0]


def test_buffer_of_read_only_memory_is_read_only():
    view = memoryview(dx.from_dlpack(np.broadcast_to(np.float32(2), (3,))))
    assert view.readonly
    with pytest.raises(TypeError):
        view[0] = 1.0


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
@pytest.mark.parametrize("data", [None, 64])
def test_buffer_of_nothing(shape, data):
    fake = Fake(np.zeros(shape, np.float32), data=data)
    tensor = dx.from_dlpack(fake)
    view = memoryview(tensor)
    assert view.nbytes == 0
    assert view.tobytes() == b""
    assert np.asarray(view).shape == shape
    del view
    assert np.asarray(tensor).shape == shape


# ---- array interface --------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_array_interface_is_numpys(layout):
    array = layout()
    ours = dict(dx.from_dlpack(array).__array_interface__)
    theirs = dict(array.__array_interface__)
    strides = ours.pop("strides")
    assert theirs.pop("strides") in (None, strides) or 0 in array.shape or 1 in array.shape
    assert theirs.pop("descr")
    assert ours == theirs


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u1", "i2", "u4", "i8", "f2", "f4", "f8", "c8", "c16"]
)
def test_array_interface_names_the_elements(dtype):
    array = np.ones(3, dtype)
    assert dx.from_dlpack(array).__array_interface__["typestr"] == array.dtype.str


def test_numpy_reads_a_tensor_by_whatever_it_tries_first():
    tensor = dx.from_dlpack(torch.arange(6, dtype=torch.int32).reshape(2, 3).T)
    for read in (np.asarray, np.array, np.from_dlpack):
        assert read(tensor).tolist() == [[0, 3], [1, 4], [2, 5]]
