"""numpy's values, not its memory: byte orders, rare dtypes, masks, subclasses, read-only."""

from __future__ import annotations

import warnings

import ml_dtypes
import numpy as np
import pytest
from support.consumers import CONSUMERS, values
from support.peers import torch

import dlexchange as dx
from dlexchange.adapters.fit import Needs, through
from dlexchange.errors import ReadOnlyWarning

each_consumer = pytest.mark.parametrize("consumer", CONSUMERS.values(), ids=CONSUMERS.keys())

# ---- byte order -----------------------------------------------------------------------------

SWAPPED = [">f4", ">f8", ">f2", ">i2", ">i4", ">i8", ">u2", ">u4", ">u8", ">c8", ">c16"]


@each_consumer
@pytest.mark.parametrize("dtype", SWAPPED)
def test_foreign_byte_order_is_refused_or_made_native(consumer, dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)[:, ::-1]
    with pytest.raises(dx.ExchangeError, match=r"byte order.*copy=True"):
        consumer(array)
    with pytest.raises(dx.CopyError, match="byte order"):
        consumer(array, copy=False)
    if dtype == ">f2" and consumer is CONSUMERS["array_api_strict"]:
        return  # it has no such dtype
    before = dx.stats().copies
    result = consumer(array, copy=True)
    assert values(result) == array.tolist()
    at_most = 3 if consumer is CONSUMERS["jax"] else 1  # to align and to narrow as well
    assert 1 <= dx.stats().copies - before <= at_most


@pytest.mark.parametrize("dtype", ["=f4", "<i8", "|u1", "|b1"])
def test_native_byte_order_goes_through_however_it_is_written(dtype):
    array = np.ones(3, dtype)
    assert dx.from_dlpack(array).data_ptr == array.ctypes.data


# ---- dtypes that DLPack cannot name ------------------------------------------------------------

NAMELESS = {
    "object": (lambda: np.array([1, "a", None], object), "objects"),
    "object of numbers": (lambda: np.array([1, 2], object), "objects"),
    "long double": (lambda: np.ones(3, np.longdouble), "astype"),
    "long complex": (lambda: np.ones(3, np.clongdouble), "astype"),
    "structured": (lambda: np.zeros(3, [("a", "f4"), ("b", "i4")]), "field"),
    "structured, one field": (lambda: np.zeros(3, [("a", "f4")]), "field"),
    "structured, swapped field": (lambda: np.zeros(3, [("a", ">f4")]), "field"),
    "record array": (lambda: np.zeros(3, [("a", "f4")]).view(np.recarray), "field"),
    "text": (lambda: np.array(["a", "bc"]), "no name"),
    "text of foreign order": (lambda: np.array(["a", "bc"], ">U2"), "no name"),
    "bytes": (lambda: np.array([b"a", b"bc"]), "no name"),
    "void": (lambda: np.zeros(3, "V8"), "no name"),
    "datetime": (lambda: np.zeros(3, "datetime64[ns]"), "no name"),
    "datetime of foreign order": (lambda: np.zeros(3, ">M8[ns]"), "no name"),
    "timedelta": (lambda: np.zeros(3, "timedelta64[s]"), "no name"),
    "StringDType": (lambda: np.array(["a", "bc"], np.dtypes.StringDType()), "no name"),
    "subarray in a struct": (lambda: np.zeros(3, [("a", "f4", (2, 2))]), "field"),
}


@each_consumer
@pytest.mark.parametrize("copy", [None, True, False])
@pytest.mark.parametrize(("make", "says"), NAMELESS.values(), ids=NAMELESS.keys())
def test_dtype_without_a_name_is_refused(consumer, copy, make, says):
    with pytest.raises(dx.ExchangeError, match=f"numpy array of dtype .*{says}"):
        consumer(make(), copy=copy)


def test_field_of_a_structured_array_is_refused_or_copied_where_it_is_misplaced():
    array = np.zeros(3, np.dtype([("a", "i1"), ("b", "i4")], align=False))
    array["b"] = [1, 2, 3]
    with pytest.raises(dx.ExchangeError, match=r"multiples of the element size.*copy=True"):
        dx.from_dlpack(array["b"])
    with pytest.raises(dx.CopyError, match="multiples"):
        dx.from_dlpack(array["b"], copy=False)
    assert dx.to_numpy(array["b"], copy=True).tolist() == [1, 2, 3]


def test_field_of_a_structured_array_goes_through_where_it_fits():
    array = np.zeros(3, [("a", "i4"), ("b", "i4")])
    array["b"] = [1, 2, 3]
    tensor = dx.from_dlpack(array["b"])
    assert tensor.strides == (2,)
    assert dx.to_numpy(tensor).tolist() == [1, 2, 3]


@each_consumer
@pytest.mark.parametrize(
    "part", [np.s_[:1, 2:], np.s_[:0], np.s_[:, :0]], ids=["one", "none", "no columns"]
)
def test_strides_between_elements_do_not_matter_where_nobody_steps_by_them(consumer, part):
    array = np.zeros((3, 3), [("a", "i4"), ("b", "f8")])["b"][part]
    assert array.strides == (36, 12)
    assert values(consumer(array)) == array.tolist()


@each_consumer
@pytest.mark.parametrize("stride", [1, 3, 5, 6, -3])
def test_strides_between_elements_are_refused_or_copied(consumer, stride):
    memory = np.arange(64, dtype=np.uint8)
    array = np.ndarray((3,), np.float32, memory, offset=32, strides=(stride,))
    with pytest.raises(dx.ExchangeError, match="multiples of the element size"):
        consumer(array)
    assert values(consumer(array, copy=True)) == array.tolist()


# ---- subclasses --------------------------------------------------------------------------------


@each_consumer
@pytest.mark.parametrize("copy", [None, True, False])
@pytest.mark.parametrize(
    "masked",
    [
        np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0]),
        np.ma.masked_array([1.0, 2.0, 3.0]),
        np.ma.masked_all((2, 2)),
    ],
    ids=["masked", "nothing masked", "all masked"],
)
def test_masked_array_is_refused_and_not_stripped(consumer, copy, masked):
    with pytest.raises(dx.ExchangeError, match=r"mask.*filled"):
        consumer(masked, copy=copy)


def test_subclass_of_a_masked_array_is_refused():
    class Mine(np.ma.MaskedArray):
        pass

    with pytest.raises(dx.ExchangeError, match="mask"):
        dx.to_numpy(Mine([1.0], mask=[True]))


def test_matrix_becomes_a_plain_array():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        matrix = np.matrix([[1.0, 2.0], [3.0, 4.0]])
    result = dx.to_numpy(matrix)
    assert type(result) is np.ndarray
    assert result.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert dx.from_dlpack(matrix).shape == (2, 2)


def test_memmap_keeps_its_file(tmp_path):
    path = tmp_path / "values"
    mapped = np.memmap(path, np.float32, "w+", shape=(4,))
    mapped[:] = [1, 2, 3, 4]
    tensor = dx.from_dlpack(mapped)
    address = mapped.ctypes.data
    del mapped
    assert tensor.data_ptr == address
    assert dx.to_torch(tensor).tolist() == [1, 2, 3, 4]


def test_read_only_memmap_stays_read_only(tmp_path):
    path = tmp_path / "values"
    np.arange(4, dtype=np.float32).tofile(path)
    mapped = np.memmap(path, np.float32, "r")
    assert dx.from_dlpack(mapped).readonly


def test_subclass_that_is_its_memory_goes_through():
    class Mine(np.ndarray):
        pass

    array = Mine((3,))
    result = dx.to_numpy(array)
    assert type(result) is np.ndarray
    assert result.base is array


def test_subclass_with_an_export_of_its_own_is_asked():
    class Doubled(np.ndarray):
        def __dlpack__(self, **keywords):
            return (2 * self.view(np.ndarray)).__dlpack__(**keywords)

    assert dx.to_numpy(np.arange(3.0).view(Doubled)).tolist() == [0.0, 2.0, 4.0]


def test_subclass_that_refuses_is_refused():
    class Secret(np.ndarray):
        def __dlpack__(self, **keywords):
            raise BufferError("secret")

    with pytest.raises(dx.ExchangeError) as caught:
        dx.to_numpy(np.arange(3.0).view(Secret))
    assert str(caught.value.__cause__) == "secret"


def test_subclass_is_not_called_back():
    class Loud(np.ndarray):
        def __array_finalize__(self, parent):
            if getattr(self, "armed", False):
                raise AssertionError("must not be called")

        def __getattribute__(self, name):
            if name in ("shape", "strides", "dtype", "flags"):
                raise AssertionError("must not be asked")
            return super().__getattribute__(name)

    array = np.arange(3.0).view(Loud)
    assert dx.from_dlpack(array).shape == (3,)


# ---- read-only ---------------------------------------------------------------------------------


@pytest.fixture
def fresh_warning():
    """Let the read-only warning be given again."""
    dx._core._forget_types()
    yield
    dx._core._forget_types()


def frozen(values):
    array = np.array(values)
    array.flags.writeable = False
    return array


def test_read_only_stays_read_only_where_it_can_be_said():
    array = frozen([1.0, 2.0])
    tensor = dx.from_dlpack(array)
    assert tensor.readonly
    assert not dx.to_numpy(array).flags.writeable
    assert not dx.to_numpy(tensor).flags.writeable
    assert not np.from_dlpack(tensor).flags.writeable
    assert memoryview(tensor).readonly
    assert tensor.__array_interface__["data"][1] is True
    assert "read-only" in repr(tensor)


def test_writable_stays_writable():
    array = np.zeros(3)
    dx.to_numpy(dx.from_dlpack(array))[0] = 1
    dx.to_torch(array)[1] = 2
    assert array.tolist() == [1, 2, 0]


@pytest.mark.usefixtures("fresh_warning")
def test_read_only_into_torch_warns_once_a_process():
    pytest.importorskip("torch", reason="absent: torch is not installed")
    with pytest.warns(ReadOnlyWarning, match=r"read-only numpy array.*torch.*copy=True") as caught:
        dx.to_torch(frozen([1.0]))
    assert len(caught) == 1
    dx.to_torch(frozen([1.0]))  # a second warning would be an error here


@pytest.mark.usefixtures("fresh_warning")
def test_read_only_warning_names_the_callers_line():
    pytest.importorskip("torch", reason="absent: torch is not installed")
    with pytest.warns(ReadOnlyWarning) as caught:
        dx.to_torch(frozen([1.0]))
    assert caught[0].filename == __file__


@pytest.mark.usefixtures("fresh_warning")
def test_read_only_warning_of_an_adapter_names_the_callers_line():
    needs = Needs(keeps_read_only=False)
    *_, hand_over = through("stand-in", lambda tensor, _: tensor, needs, "stand-in")
    with pytest.warns(ReadOnlyWarning, match="read-only numpy array.*stand-in") as caught:
        hand_over(frozen([1.0]), None, None)
    assert caught[0].filename == __file__


@pytest.mark.usefixtures("fresh_warning")
def test_array_reshaped_by_whoever_is_warned_is_handed_over_as_it_was(monkeypatch):
    array = frozen(np.arange(24.0).reshape(2, 3, 4))
    others = []

    def reshape(*_warning):
        array.shape = (24,)
        others.extend(np.zeros((9, 9, 9)) for _ in range(50))  # where the shape was

    monkeypatch.setattr(warnings, "showwarning", reshape)
    with warnings.catch_warnings():
        warnings.simplefilter("always", ReadOnlyWarning)
        warnings.filterwarnings("ignore", message=".*shape.*", category=DeprecationWarning)
        tensor = dx.to_torch(array)
    assert others
    assert tuple(tensor.shape) == (2, 3, 4)


@pytest.mark.usefixtures("fresh_warning")
def test_read_only_warning_made_an_error_is_given_again():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ReadOnlyWarning)
        for _ in range(2):
            with pytest.raises(ReadOnlyWarning):
                dx.to_torch(frozen([1.0]))
    assert dx.stats().live == 0


@pytest.mark.usefixtures("fresh_warning")
def test_read_only_into_torch_is_an_error_in_strict_mode():
    with dx.strict():
        with pytest.raises(dx.ExchangeError, match=r"read-only.*torch cannot express.*copy=True"):
            dx.to_torch(frozen([1.0]))
        assert dx.to_torch(frozen([1.0]), copy=True).tolist() == [1.0]
        with dx.strict(False), pytest.warns(ReadOnlyWarning):
            dx.to_torch(frozen([1.0]))
        with pytest.raises(dx.ExchangeError):
            dx.to_torch(frozen([1.0]))


@pytest.mark.usefixtures("fresh_warning")
def test_read_only_copy_is_writable_and_silent():
    array = frozen([1.0, 2.0])
    result = dx.to_torch(array, copy=True)
    result[0] = 5
    assert array.tolist() == [1.0, 2.0]
    assert dx.to_numpy(array, copy=True).flags.writeable


def test_read_only_into_jax_is_silent():
    assert values(dx.to_jax(frozen([1.0, 2.0]))) == [1.0, 2.0]


# ---- what numpy shows of others ------------------------------------------------------------------


def test_bfloat16_of_torch_is_that_of_ml_dtypes():
    result = dx.to_numpy(torch.tensor([1.0, -2.5], dtype=torch.bfloat16))
    assert result.dtype == ml_dtypes.bfloat16
    assert result.tolist() == [1.0, -2.5]


def test_numpy_array_is_based_on_the_object_itself():
    array, tensor = np.arange(3.0), torch.arange(3.0)
    assert dx.to_numpy(array).base is array
    assert dx.to_numpy(tensor).base is tensor


# ---- what numpy makes of ours ------------------------------------------------------------------


class Described(dx.Producer):
    def __init__(self, memory, dtype):
        self.memory, self.dtype = memory, dtype

    def __dlexchange__(self):
        return dx.Description(self.memory.ctypes.data, self.memory.shape, self.dtype)


def of_bfloat16(kind):
    memory = np.array([1, 2, 3], ml_dtypes.bfloat16)
    return dx.from_dlpack(memory) if kind == "Tensor" else Described(memory, "bfloat16")


each_kind = pytest.mark.parametrize("kind", ["Tensor", "Producer"])


@each_kind
def test_numpy_makes_an_array_of_what_no_buffer_can_say(kind):
    x = of_bfloat16(kind)
    shared = np.asarray(x, copy=False)
    assert (shared.dtype, shared.tolist()) == (ml_dtypes.bfloat16, [1, 2, 3])
    copied = np.array(x)
    shared[0] = 7
    assert copied.tolist() == [1, 2, 3]
    assert np.asarray(x, dtype=np.float32).tolist() == [7, 2, 3]
    assert np.stack([x, x]).shape == (2, 3)


@each_kind
def test_conversion_that_numpy_was_forbidden_is_refused(kind):
    with pytest.raises(ValueError, match=r"float32.* needs a copy"):
        np.asarray(of_bfloat16(kind), dtype=np.float32, copy=False)


@each_kind
def test_keywords_of_the_array_method_are_numpys(kind):
    x = of_bfloat16(kind)
    assert x.__array__(np.float64, copy=True).tolist() == [1, 2, 3]
    assert x.__array__(dtype=None).dtype == ml_dtypes.bfloat16
    for wrong in (lambda: x.__array__(None, None), lambda: x.__array__(order="C")):
        with pytest.raises(TypeError, match="__array__"):
            wrong()
