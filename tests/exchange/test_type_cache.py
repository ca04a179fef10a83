"""What is known of a type is true of that type, as it is now."""

from __future__ import annotations

import gc
import os

import ml_dtypes
import numpy as np
import pytest
import tvm_ffi
from support import child
from support.consumers import CONSUMERS, values
from support.dlpack import Fake, Reusable, Tabled, table, table_capsule
from support.peers import torch

import dlexchange as dx
from dlexchange import adapters


@pytest.fixture(autouse=True)
def a_fresh_cache():
    dx._core._forget_types()
    yield
    dx._core._forget_types()


def new_producer_type(name="Made", base=Reusable, **members):
    return type(name, (base,), members)


def slot(cls):
    return (id(cls) * 0x9E3779B97F4A7C15 % 2**64) >> 56


def types_of_one_slot(count):
    found = {}
    for i in range(5_000):
        made = new_producer_type(f"Made{i}")
        found.setdefault(slot(made), []).append(made)
        if len(found[slot(made)]) == count:
            return found[slot(made)]
    raise AssertionError("no types share a slot")


@pytest.mark.parametrize(("count", "asked_anew"), [(2, False), (3, True)])
def test_two_types_that_share_a_slot_take_turns_in_it(monkeypatch, count, asked_anew):
    asked = []
    classify = adapters.classify
    monkeypatch.setattr(adapters, "classify", lambda cls: asked.append(cls) or classify(cls))
    arrays = [made(np.zeros(2)) for made in types_of_one_slot(count)]
    for x in arrays * 3:
        assert dx.from_dlpack(x).shape == (2,)
    assert (len(asked) > count) == asked_anew


# ---- types that change --------------------------------------------------------------------------


def test_dlpack_given_to_a_class_later_is_seen():
    class Late:
        pass

    late = Late()
    with pytest.raises(TypeError, match="neither __dlpack__"):
        dx.from_dlpack(late)
    Late.__dlpack_device__ = lambda self: (1, 0)
    Late.__dlpack__ = lambda self, **keywords: Fake().capsule()
    assert dx.from_dlpack(late).shape == (2, 3)
    del Late.__dlpack__
    with pytest.raises(TypeError, match="neither __dlpack__"):
        dx.from_dlpack(late)


def test_dlpack_replaced_on_a_class_is_seen():
    made = new_producer_type()
    x = made(np.zeros(2))
    assert dx.from_dlpack(x).shape == (2,)
    made.__dlpack__ = lambda self, **keywords: Fake(np.zeros(5)).capsule()
    assert dx.from_dlpack(x).shape == (5,)


def test_dlpack_replaced_on_a_base_is_seen():
    base = new_producer_type("Base")
    derived = new_producer_type("Derived", base)
    x = derived(np.zeros(2))
    assert dx.from_dlpack(x).shape == (2,)
    base.__dlpack__ = lambda self, **keywords: Fake(np.zeros(5)).capsule()
    assert dx.from_dlpack(x).shape == (5,)
    base.__dlpack_device__ = lambda self: None
    with pytest.raises(dx.ExchangeError, match="__dlpack_device__"):
        dx.from_dlpack(x)


def test_dlpack_replaced_by_its_own_class_while_it_is_asked_is_seen():
    class Slotted:
        __slots__ = ()

        def __dlpack_device__(self):
            Slotted.__dlpack__ = lambda self, **keywords: Fake(np.zeros(5)).capsule()
            return (1, 0)

        def __dlpack__(self, **keywords):
            return Fake().capsule()

    del_me = Slotted.__dlpack__  # stays alive, so that a call of it is seen
    assert dx.from_dlpack(Slotted()).shape == (5,)
    Slotted.__dlpack__ = del_me
    dx.from_dlpack(Slotted())
    assert dx.from_dlpack(Slotted()).shape == (5,)


def test_table_given_to_a_class_later_is_used():
    calls = []

    class Late(Reusable):
        def managed(self):
            calls.append("table")
            return self.fake().address()

    x = Late()
    dx.from_dlpack(x)
    assert calls == []
    Late.__dlpack_c_exchange_api__ = table_capsule(table())
    dx.from_dlpack(x)
    assert calls == ["table"]
    Late.__dlpack_c_exchange_api__ = None
    dx.from_dlpack(x)
    assert calls == ["table"]


def test_class_of_an_instance_may_change():
    one, two = new_producer_type("One"), new_producer_type("Two", Tabled)
    two.managed = lambda self: self.fake().address()
    x = one(np.zeros(2))
    for cls in (one, two, one, two):
        x.__class__ = cls
        assert dx.from_dlpack(x).shape == (2,)


def test_bases_of_a_class_may_change():
    class Empty:
        def __init__(self, array):
            self.array, self.fields = array, {}

    class Made(Empty):
        pass

    x = Made(np.zeros(3))
    with pytest.raises(TypeError):
        dx.from_dlpack(x)
    Made.__bases__ = (Empty, Reusable)
    assert dx.from_dlpack(x).shape == (3,)


def test_class_that_changes_at_every_hand_off():
    made = new_producer_type()
    x = made(np.zeros(2))
    for i in range(2000):  # more often than there are cached version tags for one type
        made.changing = i
        if i % 2:
            made.__dlpack__ = lambda self, **keywords: Fake(np.zeros(1)).capsule()
        else:
            made.__dlpack__ = Reusable.__dlpack__
        assert dx.from_dlpack(x).shape == ((1,) if i % 2 else (2,))
        if i % 100 == 0:
            del Fake.kept[-40:]


@pytest.mark.parametrize("when", range(1, 12))
def test_class_that_changes_while_it_is_being_looked_at(when):
    """As another thread may do it; here the metaclass does, at every possible moment."""

    class Meta(type):
        looks = 0

        def __getattribute__(cls, name):
            if name in ("__dlpack__", "__dlpack_c_exchange_api__", "__mro__", "__module__"):
                Meta.looks += 1
                if Meta.looks == when:
                    cls.__dlpack_c_exchange_api__ = table_capsule(table())
            return super().__getattribute__(name)

    class Changing(Reusable, metaclass=Meta):
        def managed(self):
            self.by_table = True
            return self.fake().address()

    x = Changing()
    dx.from_dlpack(x)
    if "__dlpack_c_exchange_api__" not in vars(Changing):
        return
    x.by_table = False
    dx.from_dlpack(x)
    assert x.by_table


# ---- types that go ---------------------------------------------------------------------------


def test_types_are_not_kept_alive():
    import weakref

    alive = []
    for i in range(20):
        made = new_producer_type(f"Made{i}")
        dx.from_dlpack(made())
        dx.convert(np.zeros(1), "numpy")
        alive.append(weakref.ref(made))
        del made
    gc.collect()
    assert [ref() for ref in alive] == [None] * 20


@pytest.mark.skipif(
    "libasan" in os.environ.get("LD_PRELOAD", ""),
    reason="AddressSanitizer gives no address out twice; without it this runs",
)
def test_type_at_the_address_of_a_dead_one_is_another():
    addresses, reused = set(), 0
    for i in range(3000):
        size = 1 + i % 3
        members = {"export": lambda self, size=size: Fake(np.zeros(size)).capsule()}
        if i % 3 == 0:
            made = new_producer_type("New", __dlpack__=lambda self, **k: self.export(), **members)
        elif i % 3 == 1:
            made = new_producer_type("Old", __dlpack__=lambda self: self.export(), **members)
        else:
            made = type("None", (), members)
        reused += id(made) in addresses
        addresses.add(id(made))
        if i % 3 == 2:
            with pytest.raises(TypeError):
                dx.from_dlpack(made())
        else:
            assert dx.from_dlpack(made()).shape == (size,)
        del made, members
        if i % 10 == 0:
            gc.collect(0)
            del Fake.kept[-3:]
    assert reused > 100, "no address was used twice: the test shows nothing"


def test_more_types_than_the_cache_has_room_for():
    types = [new_producer_type(f"Made{i}") for i in range(500)]
    producers = [made(np.zeros(i % 7 + 1)) for i, made in enumerate(types)]
    everyday = [np.zeros(3), torch.zeros(4), tvm_ffi.from_dlpack(np.zeros(5))]
    for _ in range(3):
        for i, producer in enumerate(producers):
            assert dx.from_dlpack(producer).shape == (i % 7 + 1,)
            assert [dx.from_dlpack(x).shape for x in everyday] == [(3,), (4,), (5,)]


def test_a_type_knows_its_dialect_as_long_as_it_stands():
    asked = []

    class Old(Reusable):
        def __dlpack__(self, **keywords):
            asked.append(sorted(keywords))
            if keywords:
                raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
            return super().__dlpack__()

    for _ in range(3):
        dx.from_dlpack(Old())
    Old.other = 1  # the type is not what it was
    dx.from_dlpack(Old())
    assert asked == [["max_version"], [], [], [], ["max_version"], []]


# ---- subclasses of everything ---------------------------------------------------------------

BASES = {
    "numpy": (lambda: np.ndarray, lambda cls: np.arange(3.0).view(cls)),
    "numpy matrix": (lambda: np.memmap, lambda cls: np.arange(3.0).view(cls)),
    "torch": (lambda: type(torch.zeros(1)), lambda cls: torch.arange(3.0).as_subclass(cls)),
    "Parameter": (lambda: torch.nn.Parameter, lambda cls: torch.arange(3.0).as_subclass(cls)),
    "fake": (lambda: Reusable, lambda cls: cls(np.arange(3.0))),
    "table": (lambda: Tabled, lambda cls: cls(np.arange(3.0))),
}


@pytest.mark.parametrize(("base", "make"), BASES.values(), ids=BASES.keys())
@pytest.mark.parametrize("consumer", CONSUMERS.values(), ids=CONSUMERS.keys())
def test_subclasses_are_read_as_what_they_are(base, make, consumer):
    plain = type("Plain", (base(),), {})
    for depth in range(3):
        assert values(consumer(make(plain))) == [0.0, 1.0, 2.0]
        plain = type(f"Deeper{depth}", (plain,), {"attribute": depth})


@pytest.mark.parametrize(("base", "make"), BASES.values(), ids=BASES.keys())
def test_subclasses_that_export_otherwise_are_asked(base, make):
    class Own(base()):
        def __dlpack_device__(self):
            return (1, 0)

        def __dlpack__(self, **keywords):
            return Fake(np.array([7.0])).capsule()

    for cls in (Own, type("Deeper", (Own,), {})):
        assert values(dx.to_numpy(make(cls))) == [7.0]


@pytest.mark.parametrize(("base", "make"), BASES.values(), ids=BASES.keys())
def test_subclasses_that_export_nothing_are_refused(base, make):
    class Nothing(base()):
        __dlpack__ = None

    with pytest.raises((dx.ExchangeError, TypeError)):
        dx.to_numpy(make(Nothing))


def test_subclass_that_hides_what_it_is_is_read_as_numpy():
    class Hidden(np.ndarray):
        __module__ = "torch"

    Hidden.__name__ = Hidden.__qualname__ = "Tensor"
    assert values(dx.to_torch(np.arange(3.0).view(Hidden))) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("module", ["torch", "jax", "numpy", "cupy", "tvm_ffi", "", "a.b", None])
def test_type_that_claims_to_be_of_a_framework_is_read_as_what_it_is(module):
    made = new_producer_type()
    made.__module__ = module
    assert dx.to_numpy(made(np.zeros(3))).shape == (3,)
    plain = type("Tensor", (), {"__module__": module})
    with pytest.raises((TypeError, dx.ExchangeError)):
        dx.to_numpy(plain())


def test_dtypes_that_ml_dtypes_brings_later_are_read():
    child.run(
        """
        import numpy as np
        import dlexchange as dx
        dx.from_dlpack(np.zeros(3))
        import ml_dtypes
        assert dx.from_dlpack(np.zeros(3, ml_dtypes.bfloat16)).dtype == (4, 16, 1)
        """
    )
    assert dx.from_dlpack(np.zeros(3, ml_dtypes.bfloat16)).dtype == (4, 16, 1)


# ---- consumers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "to",
    [
        lambda: "torch",
        lambda: torch,
        lambda: torch.Tensor,
        lambda: torch.nn.Parameter,
        lambda: torch.zeros(1),
        lambda: type("S", (torch.Tensor,), {}),
    ],
    ids=["name", "module", "type", "Parameter", "array", "subclass"],
)
def test_a_consumer_may_be_named_in_many_ways(to):
    expected = type(torch.zeros(1))
    result = dx.convert(np.arange(3.0), to())
    assert type(result) is expected
    assert result.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("to", ["no_such_framework", "", "json", 3, None, object(), "torch.nope"])
def test_a_consumer_that_is_none_is_refused(to):
    if to == "torch.nope":  # the first part names the framework
        assert dx.convert(np.zeros(1), to).shape == (1,)
        return
    with pytest.raises(dx.ExchangeError, match="cannot convert to"):
        dx.convert(np.zeros(1), to)


def test_consumers_are_not_kept_alive_by_their_arrays():
    import weakref

    class Array(np.ndarray):
        pass

    target = Array((2,))
    alive = weakref.ref(target)
    assert type(dx.convert(torch.zeros(2), target)) is np.ndarray
    del target
    gc.collect()
    assert alive() is None
