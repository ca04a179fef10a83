"""Waiting, without a clock, for those who let go of memory on threads of their own."""

from __future__ import annotations

import gc
from collections.abc import Callable

from dlexchange.testing import drain

#: Rounds of collecting. jax frees one link of a chain each; others need none.
PATIENCE = 50


def settle(is_done: Callable[[], bool]) -> bool:
    """Collect and drain until `is_done`; False where it never is."""
    for _ in range(PATIENCE):
        if is_done():
            return True
        gc.collect()
        drain()
    return is_done()
