"""Results that are not there yet, of producers whose mechanism nobody here knows.

What has ``wait_on(stream)`` (as `dx.Ready`) is ordered on the device, by itself. What has
``add_done_callback`` and ``result`` (a future) blocks nobody: the message that holds it goes
on once it is done, and whoever completes it brings that about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..tree import map_tree

__all__ = ["Promised", "is_promise"]


def is_promise(leaf: Any) -> bool:
    """Tell whether an object is a future."""
    return hasattr(leaf, "add_done_callback") and hasattr(leaf, "result")


class Promised:
    """A message some of whose leaves are futures."""

    __slots__ = ("promises", "tree")

    def __init__(self, tree: Any, promises: list[Any]) -> None:
        self.tree = tree
        self.promises = promises

    def when_kept(
        self, go_on: Callable[[Any], None], fail: Callable[[BaseException], None]
    ) -> None:
        """Call `go_on` with the pytree, results in the places of futures, once all are done.

        Or `fail` with the error of one. In the thread that completes the last, or here.
        """
        if self.promises:
            promise = self.promises.pop()
            promise.add_done_callback(lambda _: self.when_kept(go_on, fail))
            return
        try:
            kept = map_tree(lambda x: x.result() if is_promise(x) else x, self.tree)
        except BaseException as error:
            fail(error)
        else:
            go_on(kept)
