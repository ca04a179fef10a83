"""A device type that an outside package brings: registration, and what its methods may do."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import dlexchange as dx
from dlexchange import backends
from dlexchange.testing import drain

from . import toy
from .toy import DEVICE_TYPE, Array, Toy


@pytest.fixture
def vendor() -> Iterator[Toy]:
    yield toy.register()
    gc.collect()
    drain()
    backends.unregister(DEVICE_TYPE)


def test_memory_of_an_unknown_type_is_refused_until_it_is_registered() -> None:
    first = Toy()
    with pytest.raises(dx.ExchangeError):
        dx.from_dlpack(Array.full(4, 1, first.devices[0].default))
    backends.register(first)
    x = Array.full(4, 1, first.devices[0].default)
    dx.from_dlpack(x).close()
    backends.unregister(DEVICE_TYPE)
    assert backends.registered(DEVICE_TYPE) is None
    with pytest.raises(dx.StreamError):
        dx.from_dlpack(x)


@pytest.mark.parametrize("device_type", [1, 2, 3, 10, 11, 13])
def test_types_that_dlexchange_drives_cannot_be_taken(device_type: int) -> None:
    class Thief(Toy):
        pass

    Thief.device_type = device_type
    with pytest.raises(dx.ExchangeError, match="itself"):
        backends.register(Thief())


@pytest.mark.parametrize("method", ["record", "wait", "query", "synchronize", "notify"])
def test_a_backend_that_lacks_a_method_is_named(method: str) -> None:
    class Half(Toy):
        pass

    setattr(Half, method, None)
    with pytest.raises(dx.ExchangeError, match=f"Half is no StreamBackend: .*{method}"):
        backends.register(Half())


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (lambda: ValueError("why"), dx.DriverError),
        (lambda: dx.StreamError("why"), dx.StreamError),
        (lambda: dx.DeviceLost("call", 0, "why"), dx.DeviceLost),
        (lambda: NotImplementedError("why"), dx.ExchangeError),
    ],
)
def test_what_a_method_raises_reaches_the_caller(
    vendor: Toy,
    monkeypatch: pytest.MonkeyPatch,
    raised: Callable[[], Exception],
    expected: type,
) -> None:
    def fail(*_: Any) -> None:
        raise raised()

    x = Array.full(4, 1, vendor.devices[0].stream())
    t = dx.from_dlpack(x)
    monkeypatch.setattr(vendor, "wait", fail)
    with pytest.raises(expected, match="why"):
        t.__dlpack__(stream=vendor.devices[0].stream())
    monkeypatch.setattr(vendor, "notify", fail)
    with pytest.raises(expected, match="why"):
        dx.ready(t)
    monkeypatch.setattr(vendor, "record", fail)
    with pytest.raises(expected, match="why"):
        dx.from_dlpack(x)
    monkeypatch.undo()
    dx.from_dlpack(x).close()


def test_none_means_the_default_stream(vendor: Toy) -> None:
    default = vendor.devices[0].default
    x = Array.full(4, 1, vendor.devices[0].stream())
    t = dx.from_dlpack(x)
    waiting = len(default.work)
    t.__dlpack__(max_version=(1, 3))
    assert len(default.work) == waiting + 1
    t.__dlpack__(max_version=(1, 3), stream=-1)
    assert len(default.work) == waiting + 1


def test_a_producer_that_nobody_knows_orders_into_a_stream_of_ours(
    vendor: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Foreign:
        """Has the protocol, and no description that dlexchange could read."""

        def __init__(self, array: Array) -> None:
            self.array = array

        def __dlpack__(self, **keywords: Any) -> Any:
            asked.append(keywords.get("stream"))
            return self.array.__dlpack__(**keywords)

        def __dlpack_device__(self) -> tuple[int, int]:
            return (DEVICE_TYPE, self.array.stream.device.number)

    x = Array.full(4, 5, vendor.devices[0].stream())
    got = Array.of(Foreign(x), vendor.devices[0].stream())
    assert isinstance(asked[0], toy.Stream)
    assert asked[0] not in (x.stream, got.stream)
    assert got.tolist() == [5] * 4
    monkeypatch.setattr(vendor, "create", None)
    there = Foreign(Array.full(4, 5, vendor.devices[1].stream()))  # no stream of ours is there
    with pytest.raises(dx.ExchangeError, match="has no method 'create'"):
        dx.from_dlpack(there)


def test_a_stream_is_kept_until_the_release_and_no_longer(vendor: Toy) -> None:
    import weakref

    x = Array.full(4, 1, vendor.devices[0].stream())
    c = toy.Stream(vendor.devices[0])
    vendor.devices[0].streams.append(c)
    seen = weakref.ref(c)
    t = dx.from_dlpack(x)
    t.record_stream(c)
    vendor.devices[0].streams.remove(c)
    del c
    gc.collect()
    assert seen() is not None
    vendor.devices[0].streams.append(seen())
    t.close()
    drain()
    vendor.devices[0].streams.pop()
    gc.collect()
    assert seen() is None


def test_streams_of_two_device_types_do_not_wait_for_each_other(vendor: Toy) -> None:
    stream = vendor.devices[0].stream()
    with pytest.raises(dx.ExchangeError, match="cannot wait"):
        dx.push(stream, dx.Stream.legacy_default("cuda:0"))


def test_a_notifier_that_is_let_go_of_says_so(vendor: Toy, monkeypatch: Any) -> None:
    x = Array.full(4, 1, vendor.devices[0].stream())
    vendor.devices[0].stream()
    monkeypatch.setattr(vendor, "notify", lambda event, done: None)
    with dx.from_dlpack(x) as t:
        ready = dx.ready(t)
        with pytest.raises(dx.DriverError, match="never be reported"):
            ready.done()


def test_a_host_wait_is_the_backends(vendor: Toy) -> None:
    stream = vendor.devices[0].stream()
    x = Array.full(4, 1, stream)
    stream.submit(lambda: False)
    with dx.from_dlpack(x) as t:
        assert t.ready_event is not None
        for wait in (t.ready_event.synchronize, t.ready_event.stream.synchronize):
            with pytest.raises(dx.DriverError, match="the stream is held"):
                wait()
    stream.work.popleft()


def test_native_gives_the_backends_own_object(vendor: Toy) -> None:
    stream = vendor.devices[0].stream()
    named = dx.Stream.from_handle((DEVICE_TYPE, 0), stream)
    assert backends.native(named) is stream
    assert named == dx.Stream.from_handle((DEVICE_TYPE, 0), stream)
    number = named.handle
    del named
    with pytest.raises(dx.StreamError, match="gone"):
        backends.native(number)


def test_the_nth_failing_allocation_leaves_nothing_behind(vendor: Toy) -> None:
    p, c = vendor.devices[0].stream(), vendor.devices[0].stream()
    failed = 0
    for nth in range(1, 100):
        x = Array.full(4, 3, p)
        dx._core._fail_allocation(nth)
        try:
            with dx.from_dlpack(x) as t:
                t.record_stream(c)
                ready = dx.ready(t)
                t.__dlpack__(stream=c, max_version=(1, 3))
                values = dx.to_numpy(t, copy=True).tolist()
            left = dx._core._fail_allocation(0)
            assert values == [3] * 4
        except MemoryError:
            failed, left = failed + 1, 0
        finally:
            dx._core._fail_allocation(0)
            ready = t = None  # type: ignore[assignment]
        gc.collect()
        drain()
        stats = dx.stats()
        assert (stats.live, stats.parked, stats.notifications) == (0, 0, 0), (nth, stats)
        if left > 0:  # all went well: no allocation was the nth
            break
    else:
        pytest.fail("allocations without end")
    assert failed > 5
    del ready, t
