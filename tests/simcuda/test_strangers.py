"""Real clients on the simulated driver, unchanged, each in a process of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def need(module: str) -> None:
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        pytest.skip(f"{module} is not installed")


def expect(done: Any, *lines: str) -> None:
    assert done.returncode == 0, done.output
    for line in lines:
        assert line in done.output.splitlines(), done.output


def test_cuda_bindings_orders_two_streams_and_captures(child: Callable[..., Any]) -> None:
    need("cuda.bindings.driver")
    done = child(
        """
        import array
        from dlexchange.testing import simulated_cuda
        with simulated_cuda(devices=2) as sim:
            from cuda.bindings import driver as cu
            def check(result):
                assert result[0] == cu.CUresult.CUDA_SUCCESS, result
                return result[1] if len(result) == 2 else result[1:]
            check(cu.cuInit(0))
            print("devices", check(cu.cuDeviceGetCount()))
            check(cu.cuCtxSetCurrent(check(cu.cuDevicePrimaryCtxRetain(0))))
            p, c = check(cu.cuStreamCreate(1)), check(cu.cuStreamCreate(1))
            event = check(cu.cuEventCreate(2))
            memory = check(cu.cuMemAllocAsync(64, p))
            host = array.array("i", [0] * 16)
            def read(stream):
                check(cu.cuMemcpyDtoHAsync(host.buffer_info()[0], memory, 64, stream))
                return host[3]
            check(cu.cuMemsetD32Async(memory, 1, 16, p))
            check(cu.cuStreamSynchronize(p))
            check(cu.cuMemsetD32Async(memory, 7, 16, p))
            print("without", read(c), [f.kind for f in sim.findings])
            sim.clear_findings()
            check(cu.cuMemsetD32Async(memory, 9, 16, p))
            check(cu.cuEventRecord(event, p))
            check(cu.cuStreamWaitEvent(c, event, 0))
            print("with", read(c), [f.kind for f in sim.findings])
            mode = cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL
            check(cu.cuStreamBeginCapture(p, mode))
            print("capturing", int(check(cu.cuStreamGetCaptureInfo(p))[0]))
            check(cu.cuMemsetD32Async(memory, 5, 16, p))
            graph = check(cu.cuStreamEndCapture(p))
            run = check(cu.cuGraphInstantiate(graph, 0))
            check(cu.cuGraphLaunch(run, p))
            print("graph", read(p))
            check(cu.cuMemFreeAsync(memory, p))
        """
    )
    expect(done, "devices 2", "without 1 ['race']", "with 9 []", "capturing 1", "graph 5")


def test_cuda_bindings_in_per_thread_mode_uses_the_threads_stream(
    child: Callable[..., Any],
) -> None:
    need("cuda.bindings.driver")
    done = child(
        """
        from dlexchange.testing import simulated_cuda
        with simulated_cuda() as sim:
            from cuda.bindings import driver as cu
            def check(result):
                assert result[0] == cu.CUresult.CUDA_SUCCESS, result
                return result[1] if len(result) == 2 else result[1:]
            check(cu.cuInit(0))
            check(cu.cuCtxSetCurrent(check(cu.cuDevicePrimaryCtxRetain(0))))
            check(cu.cuEventRecord(check(cu.cuEventCreate(2)), 0))
            print("legacy", sim.legacy().submitted, "own", sim.per_thread().submitted)
        """,
        CUDA_PYTHON_CUDA_PER_THREAD_DEFAULT_STREAM="1",
    )
    expect(done, "legacy 0 own 1")


CUDA_CORE = """
    import numpy as np
    from dlexchange.testing import simulated_cuda
    with simulated_cuda() as sim:
        import cuda.core as cc
        from cuda.core.utils import StridedMemoryView
        device = cc.Device()
        device.set_current()
        print("name", device.name)
        p, c = device.create_stream(), device.create_stream()
        buffer = device.allocate(64, stream=p)
        pinned = cc.LegacyPinnedMemoryResource().allocate(64)
        host = np.from_dlpack(pinned)
        buffer.fill(1, stream=p)
        p.sync()
        buffer.fill(7, stream=p)
        if {edge}:
            c.wait(p.record())
        buffer.copy_to(pinned, stream=c)
        c.sync()
        print("read", host[0], [f.kind for f in sim.findings])
        options = cc.EventOptions(timing_enabled=True)
        start = p.record(options=options)
        buffer.fill(1, stream=p)
        end = p.record(options=options)
        end.sync()
        print("elapsed", end - start > 0)
        view = StridedMemoryView.from_dlpack(buffer, stream_ptr=int(c.handle))
        print("buffer", view.ptr == int(buffer.handle), view.shape)
        q = sim.stream()
        for speaks in ("dlpack", "cai"):
            array = sim.array(16, "int32", stream=q, fill=3, speaks=speaks)
            make = {{"dlpack": StridedMemoryView.from_dlpack,
                     "cai": StridedMemoryView.from_cuda_array_interface}}[speaks]
            sim.reset_calls()
            view = make(array, stream_ptr=int(c.handle))
            calls = sim.calls
            print(speaks, view.shape, calls["cuEventRecord"], calls["cuStreamWaitEvent"])
        del view, array
        buffer.close(stream=p)
        c.sync()
        p.sync()
        print("not implemented", [f.message for f in sim.findings if "implem" in f.kind])
"""


@pytest.mark.parametrize("edge", [True, False])
def test_cuda_core_streams_events_buffers_and_views(child: Callable[..., Any], edge: bool) -> None:
    need("cuda.core")
    need("numpy")
    done = child(CUDA_CORE.format(edge=edge))
    expect(
        done,
        "name Simulated CUDA device 0",
        "read 7 []" if edge else "read 1 ['race']",
        "elapsed True",
        "buffer True (64,)",
        "dlpack (16,) 1 1",
        "cai (16,) 1 1",
        "not implemented []",
    )


def test_cuda_core_launches_built_in_and_registered_kernels(child: Callable[..., Any]) -> None:
    need("cuda.core")
    need("numpy")
    done = child(
        """
        import ctypes
        import numpy as np
        from dlexchange.testing import simulated_cuda
        with simulated_cuda() as sim:
            import cuda.core as cc
            device = cc.Device()
            device.set_current()
            p = device.create_stream()
            memory = device.allocate(64, stream=p)
            pinned = cc.LegacyPinnedMemoryResource().allocate(64)
            host = np.from_dlpack(pinned).view(np.float32)
            def double(address, count):
                data = (ctypes.c_float * count).from_address(sim.host_pointer(address))
                for i in range(count):
                    data[i] *= 2
            sim.register_kernel("twice", double, modes="b-")
            code = cc.ObjectCode.from_cubin(b"no code at all")
            config = cc.LaunchConfig(grid=1, block=16)
            fill, twice = code.get_kernel("sim_fill_f32"), code.get_kernel("twice")
            cc.launch(p, config, fill, memory, np.float32(1.5), np.uint64(16))
            cc.launch(p, config, twice, memory, np.uint64(16))
            memory.copy_to(pinned, stream=p)
            p.sync()
            print("values", set(host.tolist()))
            try:
                cc.launch(p, config, code.get_kernel("stranger"), memory)
            except Exception as error:
                print("stranger", "NOT_SUPPORTED" in str(error))
            print([f.kind for f in sim.findings])
            memory.close(stream=p)
        """
    )
    expect(done, "values {3.0}", "stranger True", "['unknown-kernel']")


def test_numba_cuda_copies_streams_events_and_interfaces(child: Callable[..., Any]) -> None:
    need("numba.cuda")
    need("numpy")
    done = child(
        """
        import numpy as np
        from dlexchange.testing import simulated_cuda
        with simulated_cuda() as sim:
            from numba import cuda
            def number(stream):  # a ctypes pointer or an integer, by release
                return int(getattr(stream.handle, "value", stream.handle))
            s, t = cuda.stream(), cuda.stream()
            values = np.arange(8, dtype=np.float32)
            d = cuda.to_device(values, stream=s)
            back = d.copy_to_host(stream=s)
            s.synchronize()
            print("round trip", (back == values).all())
            event = cuda.event()
            event.record(s)
            event.wait(t)
            event.synchronize()
            print("event", event.query())
            pinned = cuda.pinned_array(8, dtype=np.float32)
            pinned[:] = 3
            d.copy_to_device(pinned, stream=s)
            print("pinned", set(d.copy_to_host(stream=s).tolist()))
            interface = d.__cuda_array_interface__
            print("exports", interface["version"], interface["stream"] == number(s))
            managed = cuda.managed_array(8, dtype=np.float32)
            managed[:] = 1
            mapped = cuda.mapped_array(8, dtype=np.float32)
            mapped[:] = 2
            print("visible", managed[0], mapped[0])
            array = sim.array(8, stream=sim.stream(), fill=4, speaks="cai")
            sim.reset_calls()
            got = cuda.as_cuda_array(array)
            print("host waits", sim.calls["cuStreamSynchronize"])
            print("import", set(got.copy_to_host().tolist()))
            names = (cuda.legacy_default_stream(), cuda.per_thread_default_stream())
            print("defaults", [number(n) for n in names])
            del got, array
            print("findings", [str(f) for f in sim.findings])
        """
    )
    expect(
        done,
        "round trip True",
        "event True",
        "pinned {3.0}",
        "exports 3 True",
        "visible 1.0 2.0",
        "host waits 1",
        "import {4.0}",
        "defaults [1, 2]",
        "findings []",
    )
