"""What the battery runs on, one file each."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, Protocol

N = 16

__all__ = ["Ground", "Latch", "N"]


class Latch(Protocol):
    """Holds a stream: what is queued behind it waits."""

    def open(self) -> None: ...


class Ground:
    """A device with streams, and a framework to make and use arrays of N int32 on it."""

    name: str
    #: Kinds of streams, each pair of which the battery tries.
    kinds: tuple[str, ...]
    #: Those of which there is only one stream.
    single: tuple[str, ...] = ()
    #: Pairs that wait for each other without anybody's help.
    implicit: frozenset[tuple[str, str]] = frozenset()
    #: What it cannot do: the name of a test, and why. Shown as skipped, with the reason; a
    #: name that no test has is an error.
    limits: Mapping[str, str] = MappingProxyType({})
    #: A test sets it that makes races on purpose, where the device finds them.
    races_expected = False

    @staticmethod
    def absent() -> str:
        """Say why it is not here; "" where it is."""
        raise NotImplementedError

    def open(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Let everything end; demand that nothing was found wrong."""
        raise NotImplementedError

    def stream(self, kind: str) -> Any:
        raise NotImplementedError

    def named(self, stream: Any) -> Any:
        """Return what `dx.push` takes for a stream: itself, where it says what it is."""
        raise NotImplementedError

    def current(self, stream: Any) -> AbstractContextManager[Any]:
        """Make a stream the one that work on arrays of it goes to."""
        raise NotImplementedError

    def array(self, stream: Any, value: int) -> Any:
        """Make an array full of a value, complete when this returns."""
        raise NotImplementedError

    def latch(self, stream: Any) -> Latch:
        raise NotImplementedError

    def fill(self, array: Any, value: int, stream: Any) -> None:
        """Queue a write to the array that `array` made on that stream."""
        raise NotImplementedError

    def take(self, x: Any, stream: Any) -> Any:
        """Hand x to the framework, to be used on a stream."""
        raise NotImplementedError

    def double(self, array: Any, stream: Any) -> Any:
        """Queue a computation; return the array it will fill."""
        raise NotImplementedError

    def read(self, array: Any, stream: Any) -> list[int]:
        """Read the values behind the stream's work. The host waits."""
        raise NotImplementedError

    def bad_streams(self) -> list[tuple[Any, str]]:
        """Return streams that cannot be used for memory of device 0, and what is said of each."""
        raise NotImplementedError
