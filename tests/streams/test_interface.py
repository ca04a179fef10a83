"""The CUDA Array Interface, both ways, with the return half that it demands of consumers."""

from __future__ import annotations

import gc
import threading

import pytest

import dlexchange as dx
from dlexchange.testing import Simulation, drain, simulated_cuda

from .conftest import other


def test_interface_names_a_stream_of_ours_that_waits(any_sim: Simulation) -> None:
    sim = any_sim
    consumer = sim.framework("cai", "consumer")
    for p in (sim.stream(), sim.legacy(), sim.per_thread()):
        c = sim.stream()
        x = sim.array(16, "int32", stream=p, fill=1)
        p.synchronize()
        latch = sim.latch(p)
        x.fill(7, stream=p)
        t = dx.from_dlpack(x, stream=p)
        interface = t.__cuda_array_interface__
        assert interface["stream"] not in (None, 0, 1, 2, p.handle)
        assert interface == t.__cuda_array_interface__, "one stream a Tensor"
        assert (interface["version"], interface["shape"]) == (3, (16,))
        assert interface["data"] == (x.data_ptr, False)
        del interface["strides"]

        class Exported:
            device = 0
            kept = t
            __cuda_array_interface__ = interface

        with consumer.use_stream(c):
            y = consumer.from_cai(Exported())
            z = y + y
        del Exported, t, x
        assert not c.query()
        del y  # the return half: our stream waits for c, and the release for our stream
        gc.collect()
        latch.open()
        assert z.tolist(stream=c) == [14] * 16
        drain()


def test_consumer_of_an_interface_waits_and_returns(any_sim: Simulation) -> None:
    sim = any_sim
    producer, consumer = sim.framework("cai"), other(sim)
    p, q, c = sim.stream(), sim.stream(), sim.stream()
    x = producer.array(16, "int32", stream=[p, q], fill=7)
    edges = dx.stats().edges
    with consumer.use_stream(c):
        y = dx.convert(x, consumer.array_type)
        z = y + y
    del x, y
    gc.collect()
    assert dx.stats().edges == edges + 1, "the producer's stream must wait for the consumer"
    assert z.tolist(stream=c) == [14] * 16


def test_interface_of_vouched_memory_names_no_stream(sim: Simulation) -> None:
    t = dx.from_dlpack(sim.array(4, stream=sim.stream(), fill=1), stream=-1)
    assert t.__cuda_array_interface__["stream"] is None


def test_interface_with_stream_none_says_that_nothing_is_pending(sim: Simulation) -> None:
    class Plain:
        def __init__(self, stream: int | None) -> None:
            self.x = sim.array(4, "int32", stream=sim.stream(), fill=1)
            self.x.stream.synchronize()
            self.__cuda_array_interface__ = {
                "shape": (4,),
                "typestr": "<i4",
                "data": (self.x.data_ptr, True),
                "version": 3,
                "stream": stream,
            }

    sim.reset_calls()
    with dx.from_dlpack(Plain(None)) as t:
        assert t.ready_event is None
        assert t.readonly
    with pytest.raises(dx.ExchangeError) as error:
        dx.from_dlpack(Plain(0))
    assert "ambiguous" in str(error.value)
    for number in (1, 2):
        with dx.from_dlpack(Plain(number)) as t:
            assert t.ready_event.stream.handle == number


def test_driver_says_on_which_device_the_memory_is(two_devices: Simulation) -> None:
    class Stranger:
        def __init__(self, device: int) -> None:
            self.x = two_devices.array(4, stream=two_devices.stream(device), fill=1)
            self.x.stream.synchronize()
            self.__cuda_array_interface__ = {
                "shape": (4,),
                "typestr": "<f4",
                "data": (self.x.data_ptr, False),
                "version": 3,
            }

    for device in (0, 1):
        with dx.from_dlpack(Stranger(device)) as t:
            assert t.device == dx.Device.of(f"cuda:{device}")


def test_interface_is_of_device_memory_and_of_open_tensors(sim: Simulation) -> None:
    np = pytest.importorskip("numpy")
    assert not hasattr(dx.from_dlpack(np.zeros(3)), "__cuda_array_interface__")
    t = dx.from_dlpack(sim.array(4, stream=sim.stream(), fill=1))
    t.close()
    with pytest.raises(ValueError, match="closed"):
        t.__cuda_array_interface__  # noqa: B018


def test_close_in_another_thread_during_the_export_is_safe() -> None:
    with simulated_cuda() as sim:
        for _ in range(200):
            t = dx.from_dlpack(sim.array(4, stream=sim.stream(), fill=1, speaks="dlpack"))
            thread = threading.Thread(target=t.close)
            thread.start()
            try:
                assert t.__cuda_array_interface__["stream"] > 2
            except ValueError as error:
                assert "closed" in str(error)  # noqa: PT017
            thread.join()
            del t
        drain()
        assert sim.findings == []
