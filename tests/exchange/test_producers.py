"""Producers of every dialect: which keywords they see, how often they are asked."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import pytest
from support import dlpack
from support.consumers import CONSUMERS
from support.dlpack import Fake

import dlexchange as dx

each_consumer = pytest.mark.parametrize("consumer", CONSUMERS.values(), ids=CONSUMERS.keys())


class Recorder:
    """A producer that writes down what it is asked; subclasses give its `__dlpack__`."""

    def __init__(self, fake=None):
        self.fake = fake if fake is not None else Fake()
        self.calls = []

    def __dlpack_device__(self):
        self.calls.append("device")
        return (1, 0)

    def export(self, **keywords):
        self.calls.append(keywords)
        return self.fake.capsule()


class New(Recorder):
    def __dlpack__(self, /, *, stream=None, max_version=None, dl_device=None, copy=None):
        said = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
        return self.export(**{name: value for name, value in said.items() if value is not None})


class Old(Recorder):
    """From before the standard of 2023: knows only the stream."""

    def __dlpack__(self, stream=None):
        return self.export(**({} if stream is None else {"stream": stream}))


class Bare(Recorder):
    def __dlpack__(self):
        return self.export()


class Positional(Recorder):
    def __dlpack__(self, stream=None, /):
        return self.export()


class Wrapped(Recorder):
    """The TypeError comes out of a frame of its own."""

    def __dlpack__(self, *args, **keywords):
        return self.inner(*args, **keywords)

    def inner(self, stream=None):
        return self.export()


class KnowsCopy(Recorder):
    def __dlpack__(self, *, stream=None, copy=None):
        return self.export(**({} if copy is None else {"copy": copy}))


# ---- who is asked for what ---------------------------------------------------------------


@each_consumer
def test_new_producer_is_asked_once_with_max_version(consumer):
    producer = New()
    consumer(producer)
    assert producer.calls == ["device", {"max_version": (1, 3)}]
    assert producer.fake.calls == 1


@pytest.mark.parametrize("dialect", [Old, Bare, Positional, Wrapped, KnowsCopy])
@pytest.mark.parametrize("legacy", [False, True])
def test_old_producer_is_asked_again_without_the_keyword(dialect, legacy):
    producer = dialect(Fake(legacy=legacy))
    assert np.array_equal(dx.to_numpy(producer), producer.fake.array)
    assert producer.calls == ["device", {}]
    assert producer.fake.calls == 1


def test_old_producer_is_not_offered_max_version_again():
    asked = []

    class Counted(Recorder):
        def __dlpack__(self, **keywords):
            asked.append(sorted(keywords))
            if keywords:
                raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
            return self.export()

    for _ in range(3):
        dx.from_dlpack(Counted())
    assert asked == [["max_version"], [], [], []]


def test_copy_false_is_asked_for():
    producer = New()
    dx.from_dlpack(producer, copy=False)
    assert producer.calls == ["device", {"max_version": (1, 3), "copy": False}]


@pytest.mark.parametrize("copy", [None, True])
def test_copy_is_not_sent_where_it_need_not_be(copy):
    producer = New()
    tensor = dx.from_dlpack(producer, copy=copy)
    assert producer.calls == ["device", {"max_version": (1, 3)}]
    assert tensor.is_copied == bool(copy)


def test_copy_false_reaches_a_producer_that_knows_copy_but_not_max_version():
    producer = KnowsCopy()
    dx.from_dlpack(producer, copy=False)
    assert producer.calls == ["device", {"copy": False}]


@pytest.mark.parametrize("dialect", [Old, Bare, Positional, Wrapped])
def test_copy_false_is_possible_with_producers_from_before_copies(dialect):
    producer = dialect()
    tensor = dx.from_dlpack(producer, copy=False)
    assert tensor.data_ptr == producer.fake.array.ctypes.data
    assert producer.calls == ["device", {}]


def test_a_copy_made_in_spite_of_copy_false_is_an_error():
    producer = New(Fake(flags=dlpack.IS_COPIED))
    with pytest.raises(dx.CopyError, match="copy=False"):
        dx.from_dlpack(producer, copy=False)
    assert producer.fake.calls == 1


def test_stream_is_not_sent_to_the_host():
    producer = New()
    dx.from_dlpack(producer, stream=-1)
    assert producer.calls == ["device", {"max_version": (1, 3)}]


# ---- errors of its own ---------------------------------------------------------------------

OWN_ERRORS = [
    TypeError("internal bug"),
    TypeError("unsupported operand: copy of a frozen array"),
    TypeError("expected max_version to be below 9"),
    TypeError(),
    TypeError(3),
    ValueError("no"),
    BufferError("cannot be exported"),
    RuntimeError("no"),
    MemoryError(),
    AttributeError("no"),
    OSError("no"),
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
]


@contextmanager
def raises_of_the_producer(error):
    """Demand `error` itself; for a BufferError, one that names the producer and its cause."""
    if not isinstance(error, BufferError):
        with pytest.raises(type(error)) as caught:
            yield
        assert caught.value is error
    else:
        with pytest.raises(dx.ExchangeError, match=r"test_.* refused to export .* cause") as caught:
            yield
        assert caught.value.__cause__ is error


@each_consumer
@pytest.mark.parametrize("error", OWN_ERRORS, ids=repr)
@pytest.mark.parametrize("copy", [None, False])
def test_error_of_dlpack_comes_through_and_is_not_tried_again(consumer, error, copy):
    class Failing(Recorder):
        def __dlpack__(self, **keywords):
            self.calls.append("export")
            raise error

    producer = Failing()
    with raises_of_the_producer(error):
        consumer(producer, copy=copy)
    assert producer.calls.count("export") == 1


@pytest.mark.parametrize("error", OWN_ERRORS, ids=repr)
def test_error_of_dlpack_device_comes_through(error):
    class Failing(Recorder):
        def __dlpack_device__(self):
            raise error

        __dlpack__ = New.__dlpack__

    producer = Failing()
    with raises_of_the_producer(error):
        dx.from_dlpack(producer)
    assert producer.calls == []


def test_error_half_way_through_the_second_call_comes_through():
    class Failing(Recorder):
        def __dlpack__(self):
            self.calls.append("export")
            raise error

    producer, error = Failing(), TypeError("half-way")
    with raises_of_the_producer(error):
        dx.from_dlpack(producer)
    assert producer.calls == ["device", "export"]


def test_a_raising_producer_loses_the_capsule_it_had_made():
    fake = Fake()

    class Failing(Recorder):
        def __dlpack__(self, **keywords):
            self.made = fake.capsule()
            del self.made
            raise error

    error = BufferError("half-way")
    with raises_of_the_producer(error):
        dx.from_dlpack(Failing())
    assert fake.calls == 1


def test_a_type_error_that_cannot_be_printed_comes_through():
    class Unprintable(TypeError):
        def __str__(self):
            raise RuntimeError("no text")

    class Failing(Recorder):
        def __dlpack__(self, **keywords):
            self.calls.append("export")
            raise error

    producer, error = Failing(), Unprintable()
    with raises_of_the_producer(error):
        dx.from_dlpack(producer)
    assert producer.calls.count("export") == 1


# ---- answers that are none -------------------------------------------------------------------

NO_CAPSULES = [None, 0, b"dltensor", (), object(), np.zeros(3), type]


@each_consumer
@pytest.mark.parametrize("answer", NO_CAPSULES, ids=lambda value: type(value).__name__)
def test_what_is_no_capsule_is_refused(consumer, answer):
    class Odd(Recorder):
        def __dlpack__(self, **keywords):
            return answer

    with pytest.raises(dx.ExchangeError, match=r"Odd\.__dlpack__ returned .*, not a capsule"):
        consumer(Odd())


class Kind(IntEnum):
    CPU = 1


class Indexed:
    def __index__(self):
        return 1


NO_DEVICES = [None, 1, [1, 0], (1,), (1, 0, 0), (), "cpu", (1, None), ("1", "0"), (1.0, 0)]


@pytest.mark.parametrize("device", NO_DEVICES, ids=repr)
def test_what_is_no_device_is_refused(device):
    fake = Fake(says_device=device)
    if device is None:
        fake.__class__ = NoDevice
    with pytest.raises(dx.ExchangeError, match=r"__dlpack_device__ returned .*, not "):
        dx.from_dlpack(fake)
    assert fake.calls == 0


class NoDevice(Fake):
    def __dlpack_device__(self):
        return None


@pytest.mark.parametrize("device", [(2**31, 0), (1, 2**31), (1, 2**32), (2**64, 0), (1, -(2**40))])
def test_device_that_fits_no_int_is_refused(device):
    fake = Fake(says_device=device)
    with pytest.raises(dx.ExchangeError):
        dx.from_dlpack(fake)
    gc.collect()
    assert fake.calls == 0


@pytest.mark.parametrize("device", [(Kind.CPU, 0), (True, False), (Indexed(), 0)], ids=repr)
def test_device_may_be_anything_that_is_an_integer(device):
    assert dx.from_dlpack(Fake(says_device=device)).device == (1, 0)


def test_interrupt_while_the_device_is_read_comes_through():
    class Interrupting:
        def __index__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dx.from_dlpack(Fake(says_device=(1, Interrupting())))


@pytest.mark.parametrize("device", [(2, 0), (99, 0)])
def test_a_lie_about_the_device_takes_nothing(device):
    fake = Fake(says_device=device)
    with pytest.raises(dx.ExchangeError):
        dx.from_dlpack(fake)
    gc.collect()
    assert fake.calls in (0, 1)
    assert dx.stats().live == 0


def test_the_capsule_says_which_device_it_is():
    """Frameworks disagree about pinned memory; the struct is what will be read."""
    assert dx.from_dlpack(Fake(says_device=(1, 7))).device == (1, 0)


def test_a_capsule_of_another_device_than_was_said_is_refused():
    fake = Fake(device=(2, 0), says_device=(1, 0))
    with pytest.raises(dx.ExchangeError):
        dx.from_dlpack(fake)
    assert fake.calls == 1


# ---- producers without their methods ------------------------------------------------------------


def test_producer_that_takes_its_base_s_method_back_is_none():
    class Lacking(Fake):
        __dlpack__ = None

    with pytest.raises(TypeError, match="neither __dlpack__ nor"):
        dx.from_dlpack(Lacking())


def test_producer_without_a_device_says_so():
    class Lacking:
        def __dlpack__(self, **keywords):
            raise AssertionError("must not be asked")

    with pytest.raises(AttributeError, match="__dlpack_device__"):
        dx.from_dlpack(Lacking())


def test_producer_without_an_export_is_no_tensor():
    class Lacking:
        def __dlpack_device__(self):
            raise AssertionError("must not be asked")

    with pytest.raises(TypeError, match="neither __dlpack__") as caught:
        dx.from_dlpack(Lacking())
    assert isinstance(caught.value, AttributeError)


def test_class_is_not_taken_for_its_instances():
    with pytest.raises(TypeError):
        dx.from_dlpack(New)


# ---- producers that call back ----------------------------------------------------------------


@each_consumer
def test_producer_may_hand_off_while_it_is_asked(consumer):
    class Nested(Recorder):
        def __dlpack_device__(self):
            dx.to_numpy(dx.from_dlpack(np.arange(4)))
            return (1, 0)

        def __dlpack__(self, **keywords):
            consumer(Fake())
            return dx.from_dlpack(self.fake).__dlpack__(max_version=(1, 3))

    producer = Nested()
    consumer(producer)
    gc.collect()
    assert producer.fake.calls == 1


def test_producer_may_ask_for_itself_until_the_stack_ends():
    class Endless(Recorder):
        def __dlpack__(self, **keywords):
            return dx.from_dlpack(self)

    with pytest.raises((RecursionError, dx.ExchangeError)):
        dx.from_dlpack(Endless())


def test_producer_may_forget_every_type_while_it_is_asked():
    class Forgetful(Recorder):
        def __dlpack__(self, *, max_version=None, copy=None):
            dx._core._forget_types()
            return self.export()

    producer = Forgetful()
    assert np.array_equal(dx.to_numpy(producer), producer.fake.array)


def test_producer_may_change_its_class_while_it_is_asked():
    class Changing(Recorder):
        def __dlpack__(self, *, max_version=None, copy=None):
            type(self).__dlpack__ = New.__dlpack__
            return self.export(first=True)

    first, second = Changing(), Changing()
    dx.from_dlpack(first)
    dx.from_dlpack(second)
    assert first.calls == ["device", {"first": True}]
    assert second.calls == ["device", {"max_version": (1, 3)}]


def test_deleter_may_hand_off():
    results = []
    fake = Fake()
    fake.on_delete(lambda: results.append(dx.to_numpy(dx.from_dlpack(np.arange(3))).sum()))
    tensor = dx.from_dlpack(fake)
    del tensor
    assert results == [3]
    assert fake.calls == 1


def test_deleter_may_hand_off_while_ours_is_being_refused():
    results = []
    fake = Fake(ndim=65)
    fake.on_delete(lambda: results.append(dx.to_numpy(dx.from_dlpack(np.arange(3))).sum()))
    with pytest.raises(dx.ExchangeError, match="ndim"):
        dx.to_numpy(fake)
    assert results == [3]


def test_device_of_array_protocol_objects_may_be_a_property_that_fails():
    class Odd:
        @property
        def __dlpack__(self):
            raise error

        def __dlpack_device__(self):
            return (1, 0)

    error = AttributeError("not today")
    with raises_of_the_producer(error):
        dx.from_dlpack(Odd())
