"""What happens in a pipeline, noted as it happens; formatted only when it is asked for."""

from __future__ import annotations

import sys
from collections import deque
from time import perf_counter_ns
from typing import Any, NamedTuple

from ..exchange import stats

__all__ = ["Recorder", "Span", "now"]

now = perf_counter_ns


class Span(NamedTuple):
    """Something that took its time. Times in nanoseconds."""

    kind: str
    """"run", "wait", "load" or "device" of a stage; "request" of the pipeline."""
    row: str
    """The stage's name, or the request's end: "finished", "failed" or "cancelled"."""
    request: int
    start: int
    end: int
    note: str
    middle: int = 0
    """Of a request: when it got its ticket; 0: never."""


class Recorder:
    """The newest events of a pipeline; the oldest are dropped.

    Parameters
    ----------
    room : int
        How many are kept. 0: nothing is noted.
    """

    def __init__(self, room: int) -> None:
        self.is_on = room > 0
        self._kept: deque[tuple[Any, ...]] = deque(maxlen=room)
        self.origin = now()
        self._host_waits = stats().host_waits
        self._device_syncs = _device_synchronisations()

    @property
    def spans(self) -> list[Span]:
        """What is kept, in the order in which it ended."""
        return [Span(*kept) for kept in list(self._kept)]

    def span(self, kind: str, row: str, request: int, start: int, note: str = "") -> None:
        """Note a span that ends now."""
        if self.is_on:
            self._kept.append((kind, row, request, start, now(), note))

    def request(self, number: int, times: tuple[int, int], outcome: str, site: str) -> None:
        """Note a request that has its outcome now."""
        if self.is_on:
            entered, started = times
            self._kept.append(("request", outcome, number, entered, now(), site, started))

    def counters(self) -> dict[str, int]:
        """Return what the process has waited since the pipeline was entered."""
        return {
            "device synchronisations": _device_synchronisations() - self._device_syncs,
            "host waits": stats().host_waits - self._host_waits,
        }


def _device_synchronisations() -> int:
    """Count them where they can be counted: in the simulated driver, whoever makes them.

    dlexchange itself has no driver call that synchronises a device (a test reads its list).
    """
    testing: Any = sys.modules.get("dlexchange.testing")
    frameworks = testing.active_frameworks() if testing is not None else []
    return sum(f.sim.calls["cuCtxSynchronize"] for f in frameworks[:1])
