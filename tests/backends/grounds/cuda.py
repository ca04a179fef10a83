"""A real CUDA device: the small framework of `dlexchange.testing`, over the real driver.

That framework, its latch and its streams are made of the driver API alone; what it lacks on a
device are kernels, which come as PTX here. The ground "rehearsal" runs this very class on the
simulated driver. It has not run on a GPU yet.
"""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any, ClassVar

from dlexchange.testing import Framework, Simulation, drain
from dlexchange.testing import dlpack_structs as dl
from dlexchange.testing import driver as driver_api

from . import N, sim

_KERNEL = """
.visible .entry {name}(.param .u64 p_out{parameters}, .param .u64 p_n)
{{
    .reg .pred %done;
    .reg .b32 %x, %y;
    .reg .b64 %out, %a, %b, %n;
    ld.param.u64 %out, [p_out];
    ld.param.u64 %n, [p_n];
    cvta.to.global.u64 %out, %out;
    {begin}
next:
    setp.eq.u64 %done, %n, 0;
    @%done bra end;
    {compute}
    st.global.u32 [%out], %x;
    add.u64 %out, %out, 4;
    sub.u64 %n, %n, 1;
    bra next;
end:
    ret;
}}
"""

#: The two kernels that the framework needs for int32, under the names it asks for.
PTX = (
    ".version 6.3\n.target sm_75\n.address_size 64\n"
    + _KERNEL.format(
        name="sim_fill_i32",
        parameters=", .param .u32 p_value",
        begin="ld.param.u32 %x, [p_value];",
        compute="",
    )
    + _KERNEL.format(
        name="sim_add_i32",
        parameters=", .param .u64 p_a, .param .u64 p_b",
        begin="ld.param.u64 %a, [p_a];\n    ld.param.u64 %b, [p_b];\n"
        "    cvta.to.global.u64 %a, %a;\n    cvta.to.global.u64 %b, %b;",
        compute="ld.global.u32 %x, [%a];\n    ld.global.u32 %y, [%b];\n"
        "    add.u32 %x, %x, %y;\n    add.u64 %a, %a, 4;\n    add.u64 %b, %b, 4;",
    )
)

#: Run in a process of its own: no driver is initialised in this one.
_COUNT = """
import ctypes
cuda, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
assert cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
assert count.value > 0
"""


class Device(Simulation):
    """`Simulation` over any driver, less the controls that only a simulated one has.

    Not initialised as such: that loads the simulated driver, which has the real one's name.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self.is_hip, self.is_active, self.device_type = False, True, dl.CUDA
        self.driver = driver_api.Driver(library)
        self.library = SimpleNamespace(simcuda_label=lambda text: None, simcuda_poke=lambda: None)  # type: ignore[assignment]
        self._contexts, self._frameworks, self._closed = {}, {}, set()
        self._words, self._word_blocks, self._lock = [], 0, threading.Lock()

    def framework(self, speaks: str = "exchange_api", name: str | None = None) -> Framework:
        """Return a framework whose kernels are on the device: loading them later could block."""
        framework = super().framework(speaks, name)
        if not framework._module:
            with self.on_device(0):
                self.driver("cuModuleLoadData", ctypes.byref(framework._module), PTX.encode())
            stream = self.stream()
            x = framework.array(N, "int32", stream=stream, fill=1)
            assert x.add(x, stream=stream).tolist(stream=stream) == [2] * N
        return framework

    def count(self) -> int:
        count = ctypes.c_int()
        self.driver("cuDeviceGetCount", ctypes.byref(count))
        return count.value


class Ground(sim.Ground):
    name = "cuda"
    _device: ClassVar[Device | None] = None

    @staticmethod
    def absent() -> str:
        found = subprocess.run(
            [sys.executable, "-c", _COUNT], capture_output=True, timeout=60, check=False
        )
        return "" if found.returncode == 0 else "no CUDA driver with a device is here"

    def open(self) -> None:
        if Ground._device is None:
            Ground._device = Device(ctypes.CDLL("libcuda.so.1"))
        self.begin(Ground._device)

    def begin(self, device: Device) -> None:
        self.sim = device
        self.producer = device.framework("exchange_api")
        self.consumer = device.framework("exchange_api", "other")

    def close(self) -> None:
        gc.collect()
        drain()
        with self.sim.on_device(0):
            self.sim.driver("cuCtxSynchronize")
        del self.producer, self.consumer

    def bad_streams(self) -> list[tuple[Any, str]]:
        assert isinstance(self.sim, Device)
        return super().bad_streams() if self.sim.count() > 1 else [(-2, "is not a stream handle")]
