"""Results that are not there yet, of producers whose mechanism nobody here knows.

What has ``wait_on(stream)`` (as `dx.Ready`) is ordered on the device, by itself. What has
``add_done_callback`` and ``result`` (a future) blocks nobody: the message that holds it goes
on once it is done, and whoever completes it brings that about. So does a message with an
array of which a `backends.Promise` says when its values are there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from .._core import Tensor
from ..backends import Promise, PromiseBackend, native, registered
from ..tree import map_tree

__all__ = ["Promised", "has_no_streams", "is_promise", "promise_of"]


def is_promise(leaf: Any) -> bool:
    """Tell whether an object is a future."""
    return hasattr(leaf, "add_done_callback") and hasattr(leaf, "result")


def has_no_streams(device_type: int) -> bool:
    """Tell whether promises order the memory of a device type."""
    return isinstance(registered(device_type), PromiseBackend)


def promise_of(tensor: Tensor) -> Promise | None:
    """Return what says that a Tensor's values are there; None where streams do."""
    event = tensor.ready_event if has_no_streams(tensor.device.type) else None
    return None if event is None else native(event.stream)


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
            self._await(self.promises.pop(), lambda: self.when_kept(go_on, fail), fail)
            return
        try:
            kept = map_tree(lambda x: x.result() if is_promise(x) else x, self.tree)
        except BaseException as error:
            fail(error)
        else:
            go_on(kept)

    @staticmethod
    def _await(
        promise: Any, go_on: Callable[[], None], fail: Callable[[BaseException], None]
    ) -> None:
        def done(said: Any = None) -> None:  # the future, or what a `Promise` failed with
            if isinstance(said, BaseException):
                fail(_own(said))
            else:
                go_on()

        try:
            promise.add_done_callback(done)
        except BaseException as error:
            fail(error)


def _own(error: BaseException) -> BaseException:
    """Copy an error that its scheduler keeps: raised here, it would keep all frames here."""
    try:
        return copy.copy(error).with_traceback(None)
    except Exception:
        return error  # it cannot be copied
