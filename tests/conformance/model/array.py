"""The model's array: host memory, and how it is exported."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from dlexchange.conformance import _probe
from dlexchange.conformance.fakes import HostMemory
from dlexchange.conformance.looking import DTYPES, decode, encode, item_size, positions

OWN_VERSION = (1, 3)
leaked: list[Any] = []  # where faults keep what they should let go


class Array:
    """A strided view of memory that `owner` keeps alive."""

    def __init__(self, model: Any, address: int, shape: Any, strides: Any, dtype: str) -> None:
        self.model = model
        self.address = address
        self.shape = tuple(shape)
        self.strides = tuple(strides)
        self.dtype = dtype
        self.owner: Any = None
        self.offset = 0  # bytes from the start of the memory
        self.writable = True
        self.odd = ""
        self.imported = False
        self.device = (1, 0)
        self.made_by = threading.get_ident()
        self.shown: list[_probe.Fake] = []
        self.copy_at: HostMemory | None = None
        self.borrowable = False  # exported by a model that keeps nothing alive

    # --- values

    def item(self, position: int) -> Any:
        size = item_size(self.dtype)
        return decode(_probe.memory(self.address + position * size, size), self.dtype)

    def values(self) -> list[Any]:
        if self.model.fault == "capsule.not-shown-to-users" and callable(self.owner):
            self.owner()
        values = [self.item(position) for position in positions(self.shape, self.strides)]
        return [-v for v in values] if self.odd == "negated" else values

    def write(self, value: float) -> None:
        for position in positions(self.shape, self.strides):
            at = self.address + position * item_size(self.dtype)
            _probe.poke(at, encode(value, self.dtype))

    def view(self, start: int, shape: Any, strides: Any) -> Array:
        size = item_size(self.dtype)
        made = type(self)(self.model, self.address + start * size, shape, strides, self.dtype)
        made.owner = self
        made.offset = self.offset + start * size
        made.imported = self.imported
        if self.model.fault == "lifetime.views-keep-memory" and self.imported:
            made.owner = None
        return made

    def __del__(self) -> None:
        if getattr(self, "borrowable", False) and isinstance(self.owner, HostMemory):
            leaked.append(self.owner)
            self.owner.fill(b"\xdd" * self.owner.nbytes)

    # --- the protocol

    def __dlpack_device__(self) -> Any:
        fault = self.model.fault
        if self.odd and fault != "device.no-lie":
            raise BufferError(f"an array that is {self.odd} is on no device")
        return {
            "device.no-lie": (0, 0) if self.odd else self.device,
            "device.pair": ("host", 0),
            "device.capsule-agrees": (1, 1),
            "device.host-id-zero": (1, 7),
            "import.same-device": (2, 0) if self.imported else self.device,
        }.get(fault, self.device)

    def __dlpack__(self, *positional: Any, **asked: Any) -> Any:
        fault = self.model.fault
        if positional and fault != "keywords.keyword-only":
            raise TypeError("the arguments of __dlpack__ are keyword-only")
        known = {"stream", "max_version", "dl_device", "copy"}
        if fault == "keywords.accepted":
            known.remove("copy")
        if set(asked) - known:
            raise TypeError(f"unexpected keyword arguments: {sorted(set(asked) - known)}")
        if fault == "export.concurrent" and threading.get_ident() != self.made_by:
            raise RuntimeError("this array belongs to another thread")
        try:
            self._check(asked)
        except Exception:
            if fault == "export.failure-leaks-nothing":
                leaked.append(self)
            raise
        return self._exported(asked)

    def _check(self, asked: dict[str, Any]) -> None:
        """Raise what has to be refused."""
        fault = self.model.fault
        if self.odd and fault != CLAUSE_OF_ODD.get(self.odd):
            kind = ValueError if fault == "errors.buffer-error" else BufferError
            raise kind(f"an array that is {self.odd} can not be exported")
        self._check_stream(asked.get("stream"))
        version = asked.get("max_version")
        pair = isinstance(version, tuple) and len(version) == 2
        if version is not None and not pair and fault != "version.pair":
            raise TypeError("max_version is a pair")
        newer_refused = fault == "version.newer-asked-gives-own"
        if newer_refused and pair and version[0] > OWN_VERSION[0]:
            raise BufferError("that version is not known yet")
        if fault == "version.both-structs" and version is None:
            raise BufferError("the legacy struct is not supported")
        copy = asked.get("copy")
        if copy not in (None, True, False) and fault != "copy.not-a-bool":
            raise TypeError("copy is a bool or None")
        device = asked.get("dl_device")
        own = device is None or tuple(device) == self.__dlpack_device__()
        if not own and fault != "copy.unknown-device-refused":
            raise BufferError(f"no export to the device {device}")
        if device is not None and own and fault == "copy.own-device-as-is":
            raise BufferError("this array is there already")

    def _check_stream(self, stream: Any) -> None:
        """Raise unless the stream is one that this memory knows."""
        if stream is not None and self.model.fault != "stream.host-takes-none-only":
            raise ValueError("host memory has no stream")

    def _order(self, asked: dict[str, Any]) -> None:
        """Order pending work into the consumer's stream; the host has none."""

    def _versioned(self, asked: Any) -> bool:
        fault = self.model.fault
        if asked is None:
            return fault == "version.legacy-by-default"
        if not isinstance(asked, tuple) or len(asked) != 2:
            return True
        if fault == "version.minor-may-exceed" and asked == (1, 0):
            return False
        return asked[0] >= 1 or fault == "version.older-major-falls-back"

    def _copies(self, asked: dict[str, Any], versioned: bool) -> bool:
        fault, copy = self.model.fault, asked.get("copy")
        if copy is None:
            copies = fault == "copy.none-shares" and self.writable
            return copies and not set(asked) - {"max_version"}
        if not copy:
            return fault == "copy.false-shares"
        return fault != ("copy.true-copies" if versioned else "copy.legacy-copies-too")

    def _copied(self) -> Array:
        """A contiguous copy with memory of its own."""
        made = self.model.make(self.values(), self.shape, self.dtype)
        if self.model.fault == "copy.alone":
            self.copy_at = self.copy_at or made.owner
            made.address, made.owner = self.copy_at.address, self.copy_at
        return made

    def _exported(self, asked: dict[str, Any]) -> Any:
        fault = self.model.fault
        versioned = self._versioned(asked.get("max_version"))
        copies = self._copies(asked, versioned)
        shown = self._copied() if copies else self
        shown._order(asked)
        quietly = fault == "copy.none-shares" and asked.get("copy") is None
        fields = shown.fields(copied=copies and not quietly)
        if fault == "lifetime.export-outlives-source" and not (self.imported or copies):
            self.borrowable = True
            fields["owner"] = None
        if fault == "struct.strides-non-null" and not isinstance(shown.owner, Array):
            fields["strides"] = None
        sabotage = Sabotage() if fault == "capsule.exports-independent" else None
        if sabotage is not None:
            fields["owner"] = (fields["owner"], sabotage)
        swapped = fault == "capsule.name-matches-struct"
        fake = _probe.Fake(versioned=versioned != swapped, **fields)
        if fault == "lifetime.published-struct-frozen":
            self.shown = [fake]
        if sabotage is not None:
            self.shown = [*self.shown[-1:], fake]
            sabotage.fakes = self.shown
        if fault == "struct.layout":
            at = fake.address + (32 if fake.versioned else 0) + 24
            _probe.poke(at, (0x10).to_bytes(8, "little"))
        name = "dltensor_versioned" if versioned else "dltensor"
        if fault == "capsule.is-managed-tensor":
            name = "dlpack"
        return fake.capsule(name, fault != "capsule.name-is-static")

    def fields(self, copied: bool = False) -> dict[str, Any]:
        """What the struct says."""
        fault = self.model.fault
        empty = 0 in self.shape
        strides: Any = self.strides
        shape: Any = self.shape
        offset = self.offset
        is_view = isinstance(self.owner, Array)
        dtype = DTYPES[self.dtype]
        version = OWN_VERSION
        flags = (0 if self.writable else 1) | (2 if copied else 0)
        if fault == "struct.strides-in-elements" and is_view:
            strides = tuple(s * item_size(self.dtype) for s in strides)
        if fault == "struct.shape-valid" and len(shape) == 3:
            shape = (-1, *shape[1:])
        if fault == "struct.zero-dim" and shape == ():
            shape, strides = (1,), (1,)
        if fault == "dtype.code-bits-lanes" and self.dtype == "bool":
            dtype = (1, 8, 1)
        if fault == "version.struct-keeps-its-rules" and self.dtype.startswith("float8"):
            version = (1, 0)
        if fault == "flags.only-defined-bits":
            flags |= 32
        if fault == "flags.read-only":
            flags &= ~1
        if fault == "flags.is-copied":
            flags &= ~2
        if fault == "flags.is-copied-is-true":
            flags |= 2
        data = 0 if empty and fault != "struct.empty-data-null" else self.address - offset
        return {
            "version": version,
            "flags": flags,
            "data": data,
            "byte_offset": 0 if fault == "struct.element-zero" else offset,
            "device": (1, 7) if fault == "device.host-id-zero" else self.device,
            "dtype": dtype,
            "shape": shape,
            "strides": strides,
            "owner": self._kept(),
            "deleter": self._deleter(empty),
            "destructor": DESTRUCTORS.get(fault, "right")
            if not (fault == "capsule.null-deleter-skipped" and empty)
            else "always",
        }

    def _kept(self) -> Any:
        fault = self.model.fault
        if fault == "lifetime.re-export-keeps-memory" and self.imported:
            return None
        base: Any = self
        while isinstance(base.owner, Array):
            base = base.owner
        return base.owner

    def _deleter(self, empty: bool) -> str:
        if self.model.fault == "capsule.null-deleter-skipped":
            return "null" if empty else "right"
        leaks = self.model.fault == "deleter.frees-everything" and self.imported
        return "right" if leaks else DELETERS.get(self.model.fault, "right")


class Sabotage:
    """The fault of an export whose release takes the other exports' shape away."""

    fakes: Sequence[_probe.Fake] = ()

    def __del__(self) -> None:
        for fake in self.fakes:
            at = fake.address + (32 if fake.versioned else 0) + 24
            _probe.poke(int.from_bytes(_probe.memory(at, 8), "little"), bytes(8))


#: What a broken model exports instead of refusing it.
CLAUSE_OF_ODD = {
    "on a SYCL sub-device": "sycl.default-context-only",
    "negated": "export.values-as-shown",
    "byte-swapped": "dtype.native-byte-order",
    "long-double": "dtype.float-is-ieee",
    "indivisible-strides": "export.indivisible-strides-refused",
}
DESTRUCTORS = {
    "capsule.is-managed-tensor": "always",
    "capsule.dropped-runs-deleter": "twice",
    "capsule.consumed-skips-deleter": "always",
    "capsule.destructor-keeps-exception": "eats",
}
DELETERS = {
    "deleter.frees-everything": "leaky",
    "deleter.leaves-no-exception": "raises",
    "deleter.with-gil": "refuses-gil",
    "deleter.foreign-thread": "needs-gil",
    "deleter.after-finalization": "needs-interpreter",
}
