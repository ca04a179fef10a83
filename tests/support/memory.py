"""What a process holds of memory, counted by its allocators.

Resident memory also counts what the arenas of ended threads keep for later, and that depends
on who met whom: it swings by megabytes between runs that hold the very same blocks. A new
arena still counts, once. So look at several rounds: what is lost is lost in each of them.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

#: Python's own blocks are counted too where this is a child's environment.
EVERYTHING = {"PYTHONMALLOC": "malloc"}

_FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _MallInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS.split()]


def in_use() -> int:
    """Count the bytes of all blocks that ``malloc`` has given out; glibc 2.33 or newer."""
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _MallInfo
    now = mallinfo()
    return int(now.uordblks + now.hblkhd)


class Growth(NamedTuple):
    """What a round of work left behind."""

    blocks: int
    """Of Python's own allocator."""
    nbytes: int
    """Of ``malloc``."""


def growth(work: Callable[[], object], rounds: int = 3) -> Growth:
    """Work once to warm up, then `rounds` times; the least that a round left behind."""
    seen = []
    for _ in range(rounds + 1):
        work()
        gc.collect()
        seen.append((sys.getallocatedblocks(), in_use()))
    blocks, nbytes = zip(*((b[0] - a[0], b[1] - a[1]) for a, b in pairwise(seen)), strict=True)
    return Growth(min(blocks), min(nbytes))
