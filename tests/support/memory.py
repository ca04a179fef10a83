"""What a process holds of memory, counted by its allocator.

Resident memory also counts what the arenas of ended threads keep for later, and that depends
on who met whom: it swings by megabytes between runs that hold the very same blocks.
"""

from __future__ import annotations

import ctypes

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
