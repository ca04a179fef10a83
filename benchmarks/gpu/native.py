"""The two C helpers: the driver's bare prices, and CUPTI's count of everybody's calls."""

from __future__ import annotations

import ctypes
import glob
import re
from collections import Counter
from collections.abc import Iterator
from ctypes import c_char, c_int64, c_size_t
from pathlib import Path

from benchmarks import build

_HERE = Path(__file__).resolve().parent
#: What one turn of `Calls.time` does.
RECORD, WAIT, QUERY, PUSH, BOTH_WAYS, OWN_EVENT = "rwqpbe"
_CUPTI_FOLDERS = (
    "/usr/local/cuda*/lib64",
    "/usr/local/cuda*/extras/CUPTI/lib64",
    "/usr/lib/x86_64-linux-gnu",
)


class Calls:
    """Bare driver calls between two streams, timed in C. A context must be current."""

    def __init__(self, driver: str) -> None:
        self._library = build.load_library(_HERE / "calls.c")
        self._library.calls_time.restype = c_int64
        status = self._library.calls_open(driver.encode())
        if status != 0:
            raise RuntimeError(f"{driver} does not open: status {status}")

    def time(self, what: str, producer: int, consumer: int, turns: int) -> int:
        """Nanoseconds of so many turns."""
        arguments = (c_char(what.encode()), c_size_t(producer), c_size_t(consumer))
        taken = int(self._library.calls_time(*arguments, c_int64(turns)))
        if taken < 0:
            raise RuntimeError(f"a bare driver call ({what!r}) failed with status {-taken}")
        return taken


class Cupti:
    """Counts calls of the driver and the runtime, whoever in this process makes them."""

    def __init__(self) -> None:
        self._library = build.load_library(_HERE / "cupti.c")
        for name in ("cupti_count", "cupti_synchronised", "cupti_lost"):
            getattr(self._library, name).restype = c_int64

    def open(self) -> str:
        """Begin to count; returns why not, or an empty text."""
        tried = []
        for path in dict.fromkeys(_libraries()):
            status = self._library.cupti_open(path.encode())
            if status == 0:
                return ""
            tried.append(f"{path}: {'does not load' if status < 0 else f'CUPTI status {status}'}")
        return "; ".join(tried) or "no libcupti found"

    def reset(self) -> None:
        """Set every count to zero."""
        self._library.cupti_reset()

    def counts(self) -> Counter[str]:
        """Calls by name, without version suffixes; "synchronised" is CUPTI's own count."""
        found: Counter[str] = Counter()
        name = ctypes.create_string_buffer(64)
        index = 0
        while (count := int(self._library.cupti_count(index, name))) >= 0:
            found[plain_name(name.value.decode())] += count
            index += 1
        found["synchronised"] = int(self._library.cupti_synchronised())
        if lost := int(self._library.cupti_lost()):
            raise RuntimeError(f"{lost} calls had names beyond the room of cupti.c")
        return +found


def plain_name(name: str) -> str:
    """A name without version and variant: cuEventDestroy of cuEventDestroy_v2."""
    return re.sub(r"(_v\d+|_ptsz|_ptds)+$", "", name)


def _libraries() -> Iterator[str]:
    """Where CUPTI may be: what is loaded already (torch brings one), then the usual places."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "/libcupti.so" in line:
            yield line.split(maxsplit=5)[-1]
    import sysconfig

    packages = sysconfig.get_path("purelib")
    for folder in (f"{packages}/nvidia/*/lib", *_CUPTI_FOLDERS):
        yield from sorted(glob.glob(f"{folder}/libcupti.so*"), key=len)
    yield from ("libcupti.so.13", "libcupti.so.12", "libcupti.so")
