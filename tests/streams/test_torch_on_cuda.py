"""torch's tensors in device memory, where torch has none: a stand-in of the same shape."""

from __future__ import annotations

import pytest
from support import child

_HEAD = """
import dlexchange as dx
from dlexchange.testing import drain, simulated_cuda
from support.torch_on_cuda import install

with simulated_cuda() as sim:
    sim.set_device()
    torch = install(sim)
    p, c = sim.stream(), sim.stream()
    x = torch.array(4, "int32", stream=p, fill=7)
    working_on_p = torch.Tensor.framework.use_stream(p)
    working_on_p.__enter__()
"""
_TAIL = """
    drain()
    assert sim.findings == [], list(map(str, sim.findings))
"""


def _in_child(code: str) -> None:
    child.run(_HEAD + code + _TAIL)


@pytest.mark.parametrize(
    ("stream", "handle"),
    [
        ("None", "p.handle"),
        ("1", "1"),
        ("2", "2"),
        ("c.handle", "c.handle"),
        ("c", "c.handle"),
        ("torch.cuda.default_stream(0)", "1"),
    ],
)
def test_torch_copies_on_the_stream_that_was_named(stream: str, handle: str) -> None:
    _in_child(
        f"""
    y = dx.to_torch(x, copy=True, stream={stream})
    assert type(y) is torch.Tensor and y.data_ptr != x.data_ptr
    assert y.stream.handle == {handle}
    assert y.tolist(stream=y.stream) == [7] * 4
    del x, y
"""
    )


def test_a_lazy_tensor_on_a_device_is_copied_once() -> None:
    _in_child(
        """
    x.is_lazy = True
    before = dx.stats().copies
    y = dx.to_torch(x, copy=True, stream=c)
    assert dx.stats().copies - before == 1, dx.stats()
    assert y.tolist(stream=c) == [7] * 4
    del x, y
"""
    )


_PINNED = """
    import asyncio, ctypes, numpy as np
    q = torch.pinned(4)
    ctypes.memset(q.data_ptr, 1, 4)
    if {subclass}:
        q.__class__ = type("Mine", (torch.Tensor,), {{}})
    sim.driver("cuMemsetD8Async", q.data_ptr, 7, 4, p.handle)  # a copy to it, not waited for
    waits = dx.stats().host_waits

    async def ready(x):
        await dx.ready(x)

    values = {values}
    assert values.tolist() == [7] * 4, values
    assert dx.stats().host_waits - waits == {waits}
    del q, values
"""


@pytest.mark.parametrize("subclass", [False, True])
@pytest.mark.parametrize(
    ("values", "waits"),
    [
        ("dx.to_numpy(q)", 1),
        ("dx.to_numpy(q, copy=True)", 1),
        ("dx.to_numpy(dx.from_dlpack(q))", 1),
        ("dx.to_numpy(dx.from_dlpack(q, copy=True))", 1),
        ("asyncio.run(dx.host(q))", 0),
        ("asyncio.run(ready(q)) or np.from_dlpack(dx.from_dlpack(q, stream=-1))", 0),
    ],
)
def test_pinned_tensor_is_waited_for(values: str, waits: int, subclass: bool) -> None:
    pytest.importorskip("numpy")
    _in_child(_PINNED.format(values=values, waits=waits, subclass=subclass))


def test_torch_copies_to_another_device_on_streams_of_ours() -> None:
    code = """
    from dlexchange.pipeline.copies import copy_to_device
    t = dx.from_dlpack(x)
    side = dx.Stream.create("cuda:1")
    before = sim.library.simcuda_submitted(0, p.handle)
    y = copy_to_device(t, torch.Tensor, side)
    assert sim.library.simcuda_submitted(0, p.handle) == before, "torch's own current stream"
    t.close()
    del x
    torch.array(4, "int32", stream=p, fill=9)
    assert y.device == dx.Device.of("cuda:1")
    assert dx.to_numpy(y, copy=True).tolist() == [7] * 4
    y.close()
"""
    child.run(
        _HEAD.replace("simulated_cuda()", "simulated_cuda(devices=2, reuse=True)") + code + _TAIL
    )
