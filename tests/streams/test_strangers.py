"""Real libraries on the simulated driver, each in a process of its own."""

from __future__ import annotations

import importlib.util

import pytest
from support import child

pytestmark = pytest.mark.slow


def need(module: str) -> None:
    pytest.importorskip(module.partition(".")[0])
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


def test_numba_arrays_are_ordered_both_ways() -> None:
    need("numba.cuda")
    done = child.run(
        """
        import warnings
        warnings.simplefilter("ignore")
        import numpy as np
        import dlexchange as dx
        from dlexchange.testing import drain, simulated_cuda
        with simulated_cuda() as sim:
            from numba import cuda
            def number(stream):  # a ctypes pointer or an integer, by release
                return int(getattr(stream.handle, "value", stream.handle))
            s = cuda.stream()
            d = cuda.to_device(np.arange(8, dtype=np.float32), stream=s)
            with dx.from_dlpack(d) as t:
                print("own", t.ready_event.stream.handle == number(s))
            e = cuda.to_device(np.arange(8, dtype=np.float32))
            with dx.from_dlpack(e) as t:
                print("default", t.ready_event.stream.handle)
            with dx.from_dlpack(d, stream=s) as t:
                print("named", t.ready_event.stream.handle == number(s))
            x = sim.array(8, stream=sim.stream(), fill=4)
            t = dx.from_dlpack(x, stream=x.stream)
            got = cuda.as_cuda_array(t)
            print("import", set(got.copy_to_host().tolist()))
            del got, t, x
            drain()
            print("findings", [str(f) for f in sim.findings])
        """
    )
    for line in ("own True", "default 1", "named True", "import {4.0}", "findings []"):
        assert line in done.splitlines(), done


def test_cuda_core_buffers_need_a_stream_and_its_streams_are_streams() -> None:
    need("cuda.core")
    done = child.run(
        """
        import warnings
        warnings.simplefilter("ignore")
        import dlexchange as dx
        from dlexchange.testing import drain, simulated_cuda
        with simulated_cuda() as sim:
            import cuda.core as cc
            from cuda.core.utils import StridedMemoryView
            device = cc.Device()
            device.set_current()
            p, c = device.create_stream(), device.create_stream()
            buffer = device.allocate(64, stream=p)
            buffer.fill(7, stream=p)
            try:
                dx.from_dlpack(buffer)
            except dx.StreamError as error:
                print("refused", "which stream" in str(error))
            t = dx.from_dlpack(buffer, stream=p)
            print("named", t.ready_event.stream.handle == int(p.handle))
            dx.push(p, c)
            view = StridedMemoryView.from_dlpack(t, stream_ptr=int(c.handle))
            print("view", view.ptr == t.data_ptr)
            t.record_stream(c)
            del view
            t.close()
            drain()
            print("findings", [str(f) for f in sim.findings])
            buffer.close(stream=p)
            p.sync()
        """
    )
    for line in ("refused True", "named True", "view True", "findings []"):
        assert line in done.splitlines(), done


def test_streams_of_cuda_bindings_are_streams() -> None:
    need("cuda.bindings.driver")
    done = child.run(
        """
        import dlexchange as dx
        from dlexchange.testing import drain, simulated_cuda
        with simulated_cuda(devices=2) as sim:
            from cuda.bindings import driver as cu
            def check(result):
                assert result[0] == cu.CUresult.CUDA_SUCCESS, result
                return result[1] if len(result) == 2 else result[1:]
            check(cu.cuInit(0))
            for device in (0, 1):
                check(cu.cuCtxSetCurrent(check(cu.cuDevicePrimaryCtxRetain(device))))
                p, c = check(cu.cuStreamCreate(1)), check(cu.cuStreamCreate(1))
                check(cu.cuCtxSetCurrent(0))
                latch = sim.latch(int(p), device)
                dx.push(p, c)  # such a stream tells no device: the driver is asked, once
                sim.reset_calls()
                dx.push(p, c)
                print("waits", not sim.query("cuStreamQuery", int(c), device))
                print("calls", sim.calls["cuEventRecord"], sim.calls["cuStreamWaitEvent"])
                x = sim.array(8, "int32", stream=sim.stream(device), fill=4, speaks="dlpack")
                t = dx.from_dlpack(x, stream=p)
                print("named", t.ready_event.stream.handle == int(p), t.device)
                t.record_stream(c)
                t.close()
                print("parked", dx.stats().parked)
                latch.open()
                drain()
            print("findings", [str(f) for f in sim.findings])
        """
    )
    lines = done.splitlines()
    for line in ("waits True", "calls 1 1", "parked 1"):
        assert lines.count(line) == 2, done
    for line in ("named True cuda:0", "named True cuda:1", "findings []"):
        assert line in lines, done


@pytest.mark.parametrize("mode", ["0", "1"])
def test_numbas_default_stream_is_the_one_it_is_set_to(
    monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    need("numba.cuda")
    monkeypatch.setenv("NUMBA_CUDA_PER_THREAD_DEFAULT_STREAM", mode)
    monkeypatch.setenv("CUDA_PYTHON_CUDA_PER_THREAD_DEFAULT_STREAM", mode)
    done = child.run(
        """
        import warnings
        warnings.simplefilter("ignore")
        import numpy as np
        import dlexchange as dx
        from dlexchange.testing import drain, simulated_cuda
        with simulated_cuda() as sim:
            from numba import cuda
            d = cuda.to_device(np.arange(8, dtype=np.float32))
            with dx.from_dlpack(d) as t:
                print("made on", t.ready_event.stream.handle)
            print("current", dx.current_stream("numba").handle)
            for stream in (cuda.legacy_default_stream(), cuda.per_thread_default_stream()):
                with dx.from_dlpack(d, stream=stream) as t:
                    print("named", t.ready_event.stream.handle)
            c = sim.stream()
            latch = sim.latch(sim.per_thread())
            dx.push(cuda.per_thread_default_stream(), c)
            print("waits", not c.query())
            latch.open()
            drain()
            print("findings", [str(f) for f in sim.findings])
        """
    )
    number = {"0": 1, "1": 2}[mode]
    for line in (f"made on {number}", f"current {number}", "named 1", "named 2", "waits True"):
        assert line in done.splitlines(), done
    assert "findings []" in done.splitlines(), done
