"""The model as a subject of the suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlexchange.conformance import _probe
from dlexchange.conformance.fakes import HostMemory, contiguous
from dlexchange.conformance.looking import DTYPES, encode
from dlexchange.conformance.subject import Subject
from dlexchange.conformance.verdict import Untested

from .array import CLAUSE_OF_ODD, Array
from .consumer import take, wrapped
from .table import Handler, TableOnType, by_table


class Model(Subject):
    """A subject with at most one fault."""

    name = "model"
    also_imports: tuple[int, ...] = ()
    #: What it passes as stream when it imports.
    passes: Any = None
    dtypes = tuple(["float32", *(name for name in DTYPES if name != "float32")])

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        self.handler = Handler(self)
        attributes: dict[str, Any] = {"__dlpack_c_exchange_api__": TableOnType(fault)}
        if fault == "cai.absent-on-host":
            attributes["__cuda_array_interface__"] = {}
        self.kind = type("ModelArray", (Array,), attributes)

    @property
    def version(self) -> str:
        return "0"

    def make(self, values: Any, shape: tuple[int, ...], dtype: str) -> Array:
        _probe.set_handler(self.handler)
        content = b"".join(encode(value, dtype) for value in values)
        misalign = 64 if self.fault == "struct.data-aligned-256" else 0
        memory = HostMemory(len(content), misalign)
        memory.fill(content)
        array: Array = self.kind(self, memory.address, shape, contiguous(shape, ...), dtype)
        array.owner = memory
        return array

    def odd_arrays(self) -> dict[str, Callable[[], Any]]:
        def maker(name: str) -> Callable[[], Any]:
            def make() -> Array:
                array = self.make(range(1, 7), (6,), "float32")
                array.odd = name
                return array

            return make

        return {name: maker(name) for name in CLAUSE_OF_ODD if "SYCL" not in name}

    def from_dlpack(self, x: Any, **options: Any) -> Any:
        fault = self.fault
        if fault == "keywords.from-dlpack" and "device" in options:
            raise TypeError("unexpected keyword argument 'device'")
        target = options.get("device")
        if target is not None and fault != "import.unknown-target-device":
            raise BufferError(f"no device {target!r}")
        if isinstance(x, Array):
            copies = options.get("copy") and fault != "import.own-array"
            return x._copied() if copies else x.view(0, x.shape, x.strides)
        if not (hasattr(x, "__dlpack__") and hasattr(x, "__dlpack_device__")):
            kind = TypeError if fault == "import.missing-methods" else AttributeError
            raise kind("no __dlpack__ and __dlpack_device__")
        return self._import(x, options)

    def _import(self, x: Any, options: dict[str, Any]) -> Any:
        if self.fault == "import.device-first":
            array = wrapped(self, lambda: take(self, x, options))
            x.__dlpack_device__()
            return array
        kind, _ = wrapped(self, x.__dlpack_device__)
        if type(kind) is not int and self.fault == "import.device-type-int-or-enum":
            raise BufferError("device_type is no int")
        if options.get("copy") is None:
            array = by_table(self, x)
            if array is not None:
                return array
        return wrapped(self, lambda: take(self, x, options))

    def values(self, array: Any) -> list[Any]:
        return list(array.values())

    def layout(self, array: Any, name: str) -> Any:
        strides = array.strides
        if name == "transposed":
            return array.view(0, array.shape[::-1], strides[::-1])
        if name == "every-second":
            return array.view(0, (array.shape[0], 2), (strides[0], 2 * strides[1]))
        if name == "from-the-middle":
            return array.view(sum(strides), tuple(n - 1 for n in array.shape), strides)
        if name == "column":
            return array.view(strides[1], array.shape[:1], strides[:1])
        raise Untested(f"no layout {name}")

    def write(self, array: Any, value: float) -> None:
        array.write(value)

    def read_only(self, array: Any) -> Any:
        array.writable = False
        return array

    def is_writable(self, array: Any) -> bool:
        return bool(array.writable)

    def mutate(self, array: Any) -> None:
        array.shape, array.strides = array.shape[::-1], array.strides[::-1]
        for fake in array.shown if self.fault == "lifetime.published-struct-frozen" else ():
            at = int.from_bytes(_probe.memory(fake.address + 32 + 24, 8), "little")
            _probe.poke(at, b"".join(n.to_bytes(8, "little") for n in array.shape))

    def settle(self) -> None:
        pass
