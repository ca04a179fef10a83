"""``Tensor.__dlpack__(dl_device=(1, 0))``: a copy on the host, behind the pending work."""

from __future__ import annotations

import numpy as np
import pytest
from support import dlpack

import dlexchange as dx
from dlexchange.testing import Simulation

HOST = {"dl_device": (1, 0), "max_version": (1, 0)}


def test_export_to_the_host_holds_the_pending_values(any_sim: Simulation) -> None:
    sim = any_sim
    p = sim.stream()
    x = sim.array((2, 3), "int32", stream=p, fill=1)
    x.fill(7, stream=p)
    for t in (dx.from_dlpack(x, stream=p), dx.from_dlpack(dx.from_dlpack(x, stream=p))):
        waits = dx.stats().host_waits
        capsule = t.__dlpack__(**HOST)
        managed = dlpack.peek(capsule)
        assert managed.flags == dlpack.IS_COPIED
        assert managed.dl_tensor.device.device_type == 1
        assert dx.to_numpy(capsule).tolist() == [[7] * 3] * 2
        assert dx.stats().host_waits == waits + 1


def test_export_to_the_host_outlives_the_tensor(sim: Simulation) -> None:
    p = sim.stream()
    with dx.from_dlpack(sim.array(4, "int32", stream=p, fill=7), stream=p) as t:
        y = np.asarray(dx.to_numpy(t.__dlpack__(**HOST, copy=True)))
    assert y.tolist() == [7] * 4


@pytest.mark.parametrize(
    ("keywords", "error"), [({"copy": False}, dx.CopyError), ({"stream": 1}, dx.StreamError)]
)
def test_export_to_the_host_takes_no_stream_and_is_a_copy(
    sim: Simulation, keywords: dict[str, object], error: type[Exception]
) -> None:
    t = dx.from_dlpack(sim.array(4, stream=sim.stream(), fill=1))
    with pytest.raises(error, match="cannot be exported"):
        t.__dlpack__(**HOST, **keywords)


@pytest.mark.parametrize("device", [(3, 0), (13, 0)], ids=["pinned", "managed"])
def test_copy_of_memory_that_the_host_reads_waits_for_the_pending_work(
    sim: Simulation, device: tuple[int, int]
) -> None:
    memory = dlpack.Fake(np.arange(6, dtype=np.float32), device=device)
    t = dx.from_dlpack(memory.capsule(), stream=sim.stream())
    waits = dx.stats().host_waits
    copy = t.__dlpack__(stream=sim.stream().handle, copy=True, max_version=(1, 0))
    assert dlpack.peek(copy).dl_tensor.device.device_type == 1
    assert dx.stats().host_waits == waits + 1


def test_numpy_gets_the_pending_values_where_it_may_copy_and_else_a_clear_no(
    sim: Simulation,
) -> None:
    p = sim.stream()
    t = dx.from_dlpack(sim.array(4, "int32", stream=p, fill=7), stream=p)
    with pytest.raises(dx.CopyError, match="on a device"):
        np.asarray(t)
    assert np.array(t, copy=True).tolist() == [7] * 4


@pytest.mark.parametrize("neutral", [True, False], ids=["Tensor", "array"])
def test_copy_is_behind_the_stream_that_the_caller_names(sim: Simulation, neutral: bool) -> None:
    p, c = sim.stream(), sim.stream()
    x = sim.array(4, "int32", stream=p, fill=1)
    p.synchronize()
    x.fill(7, stream=c)  # the producer's current stream is another
    given = dx.from_dlpack(x, stream=p) if neutral else x
    assert dx.to_numpy(given, copy=True, stream=c).tolist() == [7] * 4


def test_export_to_a_third_device_is_refused(two_devices: Simulation) -> None:
    t = dx.from_dlpack(two_devices.array(4, stream=two_devices.stream(), fill=1))
    with pytest.raises(dx.ExchangeError, match=r"cannot be exported to \(2, 1\)"):
        t.__dlpack__(dl_device=(2, 1))


def test_failing_copy_to_the_host_raises_and_leaves_nothing(sim: Simulation) -> None:
    t = dx.from_dlpack(sim.array(4, stream=sim.stream(), fill=1))
    sim.fail("cuMemcpyDtoHAsync")
    with pytest.raises(dx.DriverError, match="cuMemcpyDtoHAsync"):
        t.__dlpack__(**HOST)
    assert dx.stats().blocks == 0
