"""The small array framework, and how each of its dialects orders work."""

from __future__ import annotations

import ctypes
import gc
import threading
from typing import Any

import numpy as np
import pytest

from dlexchange.testing import SimArray, SimStream, Simulation
from dlexchange.testing import dlpack_structs as dl

DIALECTS = ["exchange_api", "dlpack", "cai"]
DTYPES = ["float32", "float64", "int32", "int64", "uint8"]


def consume(sim: Simulation, array: SimArray, stream: SimStream) -> SimArray:
    """Import as a good library that speaks the array's protocol would."""
    speaks = array.framework.speaks
    consumer = sim.framework(speaks, name=f"consumer of {speaks}")
    with consumer.use_stream(stream):
        return consumer.from_cai(array) if speaks == "cai" else consumer.from_dlpack(array)


@pytest.mark.parametrize("dtype", DTYPES)
def test_arithmetic_gives_the_right_values(any_sim: Simulation, dtype: str) -> None:
    framework = any_sim.framework()
    with framework.use_stream(any_sim.stream()):
        a = framework.array((3, 4), dtype, fill=5)
        b = framework.array((3, 4), dtype, fill=7)
        assert (a + b).tolist() == [12] * 12
        assert a.copy().fill(2).tolist() == [2] * 12
        assert a.tolist() == [5] * 12
    assert any_sim.findings == []


def test_numpy_has_shape_and_dtype(sim: Simulation) -> None:
    numpy = pytest.importorskip("numpy")
    array = sim.array((2, 3), "int64", stream=sim.stream(), fill=4)
    host = array.numpy(stream=array.stream)
    assert host.shape == (2, 3)
    assert host.dtype == numpy.int64
    assert (host == 4).all()


@pytest.mark.parametrize("shape", [0, (), (0, 3), (1,)])
@pytest.mark.parametrize("speaks", DIALECTS)
def test_odd_shapes_go_through_every_dialect(sim: Simulation, shape: Any, speaks: str) -> None:
    p = sim.stream()
    array = sim.array(shape, stream=p, speaks=speaks, fill=1)
    got = consume(sim, array, p)
    assert got.shape == array.shape
    assert got.tolist(stream=p) == [1.0] * array.size


def test_current_streams_belong_to_thread_and_framework(sim: Simulation) -> None:
    one, two = sim.framework("dlpack"), sim.framework("cai")
    p = sim.stream()
    seen: list[int] = []
    with one.use_stream(p):
        assert one.current_stream().handle == p.handle
        assert two.current_stream().handle == 1
        thread = threading.Thread(target=lambda: seen.append(one.current_stream().handle))
        thread.start()
        thread.join()
    assert seen == [1]
    assert one.current_stream().handle == 1


@pytest.mark.parametrize("speaks", DIALECTS)
def test_dialect_orders_pending_work_into_the_consumers_stream(
    any_sim: Simulation, speaks: str
) -> None:
    p, c = any_sim.stream(), any_sim.stream()
    latch = any_sim.latch(p)
    array = any_sim.array(16, stream=p, speaks=speaks, fill=7)
    any_sim.reset_calls()
    got = consume(any_sim, array, c)
    assert not [name for name in any_sim.calls if "Synchronize" in name]
    assert not c.query()
    latch.open()
    assert got.tolist(stream=c)[0] == 7
    assert any_sim.findings == []


@pytest.mark.parametrize("speaks", DIALECTS)
def test_one_event_orders_one_pending_stream_and_none_the_same_stream(
    sim: Simulation, speaks: str
) -> None:
    p, c = sim.stream(), sim.stream()
    array = sim.array(16, stream=p, speaks=speaks, fill=7)
    for stream, expected in ((c, 1), (p, 0)):
        sim.reset_calls()
        got = consume(sim, array, stream)
        calls = sim.calls
        assert (calls["cuEventRecord"], calls["cuStreamWaitEvent"]) == (expected, expected)
        assert got.tolist(stream=stream)[0] == 7
        del got


@pytest.mark.parametrize("speaks", ["dlpack", "cai"])
def test_several_streams_with_pending_work_are_all_ordered(
    any_sim: Simulation, speaks: str
) -> None:
    streams = [any_sim.stream() for _ in range(3)]
    c = any_sim.stream()
    array = any_sim.array(15, stream=streams, speaks=speaks, fill=7)
    got = consume(any_sim, array, c)
    assert got.tolist(stream=c) == [7] * 15
    assert any_sim.findings == []


def test_dlpack_dialect_leaves_ordering_to_the_caller_for_minus_one(sim: Simulation) -> None:
    p = sim.stream()
    array: Any = sim.array(16, stream=p, speaks="dlpack", fill=7)
    sim.reset_calls()
    array.__dlpack__(stream=-1, max_version=(1, 0))
    assert not sim.calls


def test_dlpack_dialect_takes_none_for_the_legacy_stream_and_refuses_zero(
    sim: Simulation,
) -> None:
    array: Any = sim.array(16, stream=sim.stream(), speaks="dlpack", fill=7)
    legacy = sim.legacy().submitted
    array.__dlpack__()
    assert sim.legacy().submitted == legacy + 1
    with pytest.raises(ValueError, match="no stream of CUDA"):
        array.__dlpack__(stream=0)


def test_cai_dialect_names_a_stream_and_never_zero(sim: Simulation) -> None:
    p = sim.stream()
    array: Any = sim.array((2, 3), "int32", stream=p, speaks="cai", fill=7)
    interface = array.__cuda_array_interface__
    assert interface["stream"] == p.handle
    assert interface["version"] == 3
    assert interface["data"] == (array.data_ptr, False)
    assert interface["typestr"] == "<i4"
    on_legacy: Any = sim.array(3, speaks="cai", fill=7)
    assert on_legacy.__cuda_array_interface__["stream"] == 1


def test_cai_consumer_makes_the_exported_stream_wait_when_it_lets_go(
    any_sim: Simulation,
) -> None:
    p, c = any_sim.stream(), any_sim.stream()
    array = any_sim.array(16, stream=p, speaks="cai", fill=7)
    got = consume(any_sim, array, c)
    got.fill(9, stream=c)
    del got
    assert array.tolist(stream=p)[0] == 9
    assert any_sim.findings == []


@pytest.mark.parametrize("versioned", [True, False])
def test_unconsumed_capsule_gives_its_memory_back(sim: Simulation, versioned: bool) -> None:
    p = sim.stream()
    array: Any = sim.array(16, stream=p, speaks="dlpack", fill=7)
    capsule = array.__dlpack__(stream=-1, max_version=(1, 0) if versioned else None)
    assert len(dl.exports) == 1
    del array
    assert sim.live["block"] == 1
    del capsule
    gc.collect()
    assert len(dl.exports) == 0
    assert sim.live["block"] == 0


@pytest.mark.parametrize("speaks", ["dlpack", "exchange_api"])
def test_consumer_that_refuses_a_capsule_is_heard(sim: Simulation, speaks: str) -> None:
    array = sim.array(16, stream=sim.stream(), speaks=speaks, fill=7)
    with pytest.raises((BufferError, RuntimeError), match=r"[Uu]nsupported device"):
        np.from_dlpack(array)
    assert len(dl.exports) == 0


def test_consumed_capsule_gives_its_memory_back_with_the_consumer(sim: Simulation) -> None:
    p = sim.stream()
    array = sim.array(16, stream=p, speaks="dlpack", fill=7)
    got = consume(sim, array, p)
    del array
    assert sim.live["block"] == 1
    assert got.tolist(stream=p)[0] == 7
    del got
    gc.collect()
    assert sim.live["block"] == 0


# --- the C exchange API ---


def table_of(array: SimArray) -> dl.ExchangeTable:
    capsule = type(array).__dlpack_c_exchange_api__  # type: ignore[attr-defined]
    return dl.ExchangeTable.from_address(dl.capsule_pointer(capsule, dl.EXCHANGE_API))


def test_only_the_exchange_dialect_has_the_table_and_it_is_on_the_type(sim: Simulation) -> None:
    array = sim.array(4, stream=sim.stream())
    table = table_of(array)
    assert (table.version.major, table.version.minor) == dl.VERSION
    for speaks in ("dlpack", "cai"):
        other = sim.array(4, stream=sim.stream(), speaks=speaks)
        assert not hasattr(type(other), "__dlpack_c_exchange_api__")
    assert not hasattr(sim.array(4, stream=sim.stream(), speaks="cai"), "__dlpack__")


def test_work_stream_is_the_frameworks_current_one(sim: Simulation) -> None:
    p = sim.stream()
    array = sim.array(4, stream=p)
    table, out = table_of(array), ctypes.c_void_p(7)
    with array.framework.use_stream(p):
        assert table.current_work_stream(dl.CUDA, 0, ctypes.pointer(out)) == 0
        assert out.value == p.handle
    assert table.current_work_stream(dl.CUDA, 0, ctypes.pointer(out)) == 0
    assert out.value is None  # the raw handle of the legacy default stream
    assert table.current_work_stream(1, 0, ctypes.pointer(out)) == 0
    assert out.value is None


def test_table_exports_and_imports_without_any_driver_call(sim: Simulation) -> None:
    p = sim.stream()
    array = sim.array((2, 3), "int32", stream=p, fill=7)
    table, managed, back = table_of(array), ctypes.c_void_p(), ctypes.c_void_p()
    sim.reset_calls()
    export = table.managed_tensor_from_py_object_no_sync
    assert export(id(array), ctypes.pointer(managed)) == 0
    tensor = dl.ManagedVersioned.from_address(managed.value or 0).tensor
    assert (tensor.device_type, tensor.device_id, tensor.ndim) == (dl.CUDA, 0, 2)
    assert (tensor.shape[0], tensor.shape[1], tensor.strides[0]) == (2, 3, 3)
    assert tensor.data == array.data_ptr
    assert table.managed_tensor_to_py_object_no_sync(managed, ctypes.pointer(back)) == 0
    got = ctypes.cast(back, ctypes.py_object).value
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(got))
    assert type(got) is type(array)
    assert not sim.calls
    assert got.tolist(stream=p) == [7] * 6
    del got
    assert len(dl.exports) == 0


def test_table_describes_an_array_without_ownership(sim: Simulation) -> None:
    array = sim.array((2, 3), stream=sim.stream())
    tensor = dl.Tensor()
    view = table_of(array).dltensor_from_py_object_no_sync
    assert view(id(array), ctypes.pointer(tensor)) == 0
    assert (tensor.data, tensor.ndim, tensor.bits) == (array.data_ptr, 2, 32)
    assert len(dl.exports) == 0


def test_table_allocates_on_the_current_stream(sim: Simulation) -> None:
    p = sim.stream()
    array = sim.array((2, 3), "int32", stream=p)
    prototype, managed = dl.Tensor(), ctypes.c_void_p()
    array.describe(prototype)
    with array.framework.use_stream(p):
        allocate = table_of(array).managed_tensor_allocator
        assert allocate(ctypes.pointer(prototype), ctypes.pointer(managed), None, None) == 0
    assert managed.value is not None
    tensor = dl.ManagedVersioned.from_address(managed.value).tensor
    assert tensor.data != array.data_ptr
    dl.delete(managed.value, dl.ManagedVersioned)
    assert sim.live["block"] == 1


def test_array_of_a_framework_released_in_a_host_function_is_freed_later(
    sim: Simulation,
) -> None:
    p = sim.stream()
    held = [sim.array(4, stream=p, fill=1)]
    p.host_function(held.clear)
    p.synchronize()
    assert sim.live["block"] == 1
    assert [f.kind for f in sim.findings] == ["call-in-host-function"]
    sim.array(4, stream=p)
    assert sim.live["block"] == 0
