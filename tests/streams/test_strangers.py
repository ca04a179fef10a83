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
