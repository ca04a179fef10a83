"""What the exchange reports and how it is set: stats, strict mode, frameworks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from . import _core
from .adapters.info import FrameworkInfo, frameworks

__all__ = ["FrameworkInfo", "Stats", "frameworks", "get_include", "stats", "strict", "to_cupy"]


class Stats(NamedTuple):
    """Counters of this process, as `stats()` saw them."""

    copies: int
    """Copies made because a consumer needed them or the caller asked."""
    host_waits: int
    """Times the host waited for a device or for asynchronous host work."""
    leaked: int
    """Releases given up: after finalisation, in a forked child, or after a lost device."""
    tensors: int
    """Tensor objects alive."""
    blocks: int
    """Managed tensors handed out and not yet deleted."""
    pushes: int
    """Events recorded on one stream for another to wait for at once. A Tensor's is not counted."""
    elided: int
    """Pushes and waits that needed no driver call. A hand-off within one stream asks for none."""
    edges: int
    """Releases ordered by an event that the producer's stream waits for."""
    parked: int
    """Releases that wait for their event now."""
    held: int
    """Releases that wait for a graph capture to end."""
    events_created: int
    """Driver events ever created; they are pooled."""
    events_in_use: int
    """Driver events that Tensors, releases and awaits hold now."""
    notifications: int
    """Awaits pending."""

    @property
    def live(self) -> int:
        """Objects of ours that are alive."""
        return self.tensors + self.blocks


def stats() -> Stats:
    """Return the counters of this process."""
    raw = _core._stats()
    for name in ("leaked", "host_waits", "copies"):
        raw[name] += raw.pop(f"{name}_by_driver")
    return Stats(**{name: raw[name] for name in Stats._fields})


@contextmanager
def strict(enable: bool = True) -> Iterator[None]:
    """Turn the library's warnings into errors inside a ``with`` block.

    ``DLEXCHANGE_STRICT=1`` in the environment does so for the whole process.

    Parameters
    ----------
    enable : bool
        False: allow again what an outer block forbids.
    """
    before = _core._set_strict(enable)
    try:
        yield
    finally:
        _core._set_strict(before)


def to_cupy(x: Any, /, *, stream: Any = None, copy: bool | None = None) -> Any:
    """Hand a tensor to CuPy.

    Parameters
    ----------
    x : producer
        Tensor of shape (...), any strides, in CUDA device memory.
    stream : stream or None
        Where CuPy will work. None: its current stream in the calling thread.
    copy : bool or None
        None: share the memory. True: always a copy. False: never.

    Returns
    -------
    cupy.ndarray
        Shape (...), same memory as `x` unless copied.

    Raises
    ------
    CopyError
        `x` is on the host and `copy` is not True.
    ExchangeError
        CuPy cannot take it.

    Synchronization
    ---------------
    Later work on `stream` waits for the producer's work. The host does not block.

    Ownership
    ---------
    The result keeps the producer's memory alive.

    Source
    ------
    import.values-equal, deleter.once-at-the-end
    """
    return _core.convert(x, "cupy", stream=stream, copy=copy)


def get_include() -> str:
    """Return the folder of the C headers (``#include "dlexchange/..."``)."""
    return str(Path(__file__).parent / "include")


_core._set_strict(os.environ.get("DLEXCHANGE_STRICT", "") not in ("", "0"))
