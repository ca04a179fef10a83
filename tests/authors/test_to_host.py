"""dl_device=(1, 0) and copy=True of device memory, for every worked author."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import dlexchange as dx
from dlexchange.testing import simulated_cuda

from .simulated import show

AUTHORS = [
    "pure_python",
    "ctypes_library",
    "c_extension",
    "nanobind_extension",
    "pybind11_extension",
    "cython_extension",
]
BY_HEADER = ["c_extension", "nanobind_extension", "pybind11_extension"]


@pytest.fixture
def author(request):
    """Return the name of an author; without the tool that binds it, absent."""
    tool = {"cython_extension": "Cython"}.get(request.param, request.param.split("_")[0])
    if tool in ("Cython", "nanobind", "pybind11"):
        pytest.importorskip(tool)
    return request.param


@pytest.fixture
def sim():
    with simulated_cuda() as sim:
        sim.set_device(0)
        yield sim


@pytest.mark.parametrize("author", AUTHORS, indirect=True)
def test_copy_to_the_host_is_complete_and_says_so(author, sim):
    stream = sim.stream()
    memory = sim.array((2, 3), stream=stream, fill=1)
    array = show(author, memory, [stream])
    memory.fill(7, stream=stream)
    copied = dx.from_dlpack(array.__dlpack__(dl_device=(1, 0), max_version=(1, 3)))
    assert (copied.device, copied.is_copied) == (dx.Device(1, 0), True)
    assert dx.to_numpy(copied).tolist() == [[7.0] * 3] * 2
    assert np.from_dlpack(array, device="cpu").tolist() == [[7.0] * 3] * 2
    assert sim.findings == []


@pytest.mark.parametrize("author", AUTHORS, indirect=True)
def test_what_copies_is_refused_where_it_may_not_or_cannot(author, sim):
    stream = sim.stream()
    array = show(author, sim.array((2, 3), stream=stream, fill=1), [stream])
    sim.reset_calls()
    with pytest.raises(BufferError, match="copy=False forbids it"):
        array.__dlpack__(dl_device=(1, 0), copy=False)
    with pytest.raises(BufferError, match="let the consumer copy"):
        array.__dlpack__(copy=True)
    with pytest.raises(BufferError, match="cannot be exported"):
        array.__dlpack__(dl_device=(2, 1))
    assert sim.calls == {}


@pytest.mark.parametrize("strides", [(1, 2), (-3, 1), (3, -1), (0, 1)])
def test_strided_view_comes_over_element_by_element(sim, strides):
    module = importlib.import_module(f"{__package__}.c_extension").module
    stream = sim.stream()
    memory = sim.array((12,), stream=stream, fill=0)
    values = np.arange(12, dtype=np.float32)
    stream.synchronize()
    sim.driver("cuMemcpyHtoD_v2", memory.data_ptr, values.ctypes.data, values.nbytes)
    address = memory.data_ptr + 4 * 6
    view = module.over(address, (2, 3), strides, (2, 0), (stream.handle,), memory, False)
    expected = np.lib.stride_tricks.as_strided(values[6:], (2, 3), [4 * s for s in strides])
    assert np.from_dlpack(view, device="cpu").tolist() == expected.tolist()


@pytest.mark.parametrize("author", BY_HEADER, indirect=True)
@pytest.mark.parametrize(
    "call",
    ["cuStreamCreate", "cuEventRecord", "cuMemcpyDtoHAsync", "cuStreamSynchronize"],
)
def test_failing_copy_is_reported_and_loses_nothing(author, sim, call):
    stream = sim.stream()
    array = show(author, sim.array((2, 3), stream=stream, fill=1), [stream])
    before = sim.live["stream"], sim.live["event"]
    sim.fail(call)
    with pytest.raises(RuntimeError, match="driver call failed"):
        array.__dlpack__(dl_device=(1, 0))
    assert (sim.live["stream"], sim.live["event"]) == before
    array.__dlpack__(dl_device=(1, 0))
    assert (sim.live["stream"], sim.live["event"]) == before


@pytest.mark.parametrize("device", [(3, 0), (13, 0)], ids=["pinned", "managed"])
def test_memory_the_host_can_read_is_waited_for_where_no_stream_is_named(sim, device):
    module = importlib.import_module(f"{__package__}.c_extension").module
    stream, consumer = sim.stream(), sim.stream()
    memory = sim.array((6,), stream=stream, fill=1)
    array = module.over(memory.data_ptr, (6,), (1,), device, (stream.handle,), memory, False)
    sim.reset_calls()
    array.__dlpack__(stream=consumer.handle)
    assert sim.calls["cuStreamSynchronize"] == 0
    assert sim.calls["cuStreamWaitEvent"] == 1
    memory.fill(2, stream=stream)
    array.__dlpack__()
    assert sim.calls["cuStreamSynchronize"] == 1
    assert sim.findings == []
