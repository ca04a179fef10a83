"""Results that are not there yet, of producers whose mechanism nobody here knows.

What has ``wait_on(stream)`` is ordered on the device by itself. What has
``add_done_callback`` (a future) is waited for by nobody: the message that holds it goes on
once it is done, and whoever completes it brings that about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..tree import map_tree

__all__ = ["has_promises", "when_kept"]


def is_promise(leaf: Any) -> bool:
    """Tell whether an object is a future."""
    return hasattr(leaf, "add_done_callback") and hasattr(leaf, "result")


def has_promises(tree: Any) -> bool:
    """Tell whether there is a future in a pytree."""
    found: list[Any] = []
    map_tree(lambda leaf: found.append(leaf) if is_promise(leaf) else None, tree)
    return bool(found)


def when_kept(tree: Any, go_on: Callable[[Any], None], fail: Callable[[Any], None]) -> None:
    """Call `go_on` with a pytree once its futures are done, their results in their places.

    `fail` is called with the error of one instead. Both are called in the thread that
    completes the last future, or here.
    """
    waiting: list[Any] = []
    map_tree(lambda leaf: waiting.append(leaf) if is_promise(leaf) else None, tree)
    _next(tree, waiting, go_on, fail)


def _next(
    tree: Any, waiting: list[Any], go_on: Callable[[Any], None], fail: Callable[[Any], None]
) -> None:
    if waiting:
        promise = waiting.pop()
        promise.add_done_callback(lambda _: _next(tree, waiting, go_on, fail))
        return
    try:
        kept = map_tree(lambda leaf: leaf.result() if is_promise(leaf) else leaf, tree)
    except BaseException as error:
        fail(error)
    else:
        go_on(kept)
