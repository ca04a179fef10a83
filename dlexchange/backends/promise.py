"""Runtimes without streams: a scheduler that says only "ready?" and "wait".

A promise stands where a stream would: ``from_dlpack(x, stream=promise)`` says that `x` has
its values once the promise is kept. The Tensor's ready event is the promise, so
``await dlexchange.ready(x)`` is told by the producer's own notifier where it has one; no
thread, and no stream of the consumer's, waits meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .waiter import call_when

__all__ = ["Promise", "PromiseBackend"]


class Promise:
    """Work of a scheduler that dlexchange knows nothing of.

    Parameters
    ----------
    done : callable
        ``done()`` says whether the work is done, at once.
    wait : callable
        ``wait()`` blocks, without the GIL, until it is, and raises where the work has failed.
    add_done_callback : callable or None
        ``add_done_callback(f)`` has ``f()`` called then, from any thread. None: one thread
        of ours waits for all such promises.
    after : callable or None
        As a consumer: ``after(promise)`` makes later work of this scheduler wait for that
        promise, at once. None: the host waits instead, counted in ``stats().host_waits``.
    device_id : int
        The device whose memory the work makes.

    Synchronization
    ---------------
    None here. Given for memory of CUDA or ROCm, whose streams cannot safely wait for a host,
    the host waits at the call, counted in ``stats().host_waits``.
    """

    def __init__(
        self,
        done: Callable[[], bool],
        wait: Callable[[], object],
        *,
        add_done_callback: Callable[[Callable[[], object]], object] | None = None,
        after: Callable[[Promise], object] | None = None,
        device_id: int = 0,
    ) -> None:
        self.done = done
        self.wait = wait
        self.after = after
        self.device_id = device_id
        self._add_done_callback = add_done_callback

    def add_done_callback(self, function: Callable[..., object]) -> None:
        """Have ``function()`` called once the work is done; ``function(error)`` if it fails.

        Synchronization
        ---------------
        The host does not block: the producer's notifier calls, or the waiter's thread.
        """

        def tell(*_: object) -> None:
            try:
                self.wait()  # it is over
            except BaseException as error:
                function(error.with_traceback(None))  # its scheduler may keep it, but no frames
            else:
                function()

        if self.done():
            tell()
        elif self._add_done_callback is not None:
            self._add_done_callback(tell)
        else:
            call_when(self.wait, function)

    def join(self) -> None:
        """Wait on the host where the work is not done; raise where it has failed.

        Synchronization
        ---------------
        The host blocks; counted in ``stats().host_waits``.
        """
        if not self.done():
            from .._core import _count_host_wait

            _count_host_wait()
        self.wait()


class PromiseBackend:
    """A `StreamBackend` for a device type whose runtime offers promises only.

    Register it for that type: ``backends.register(PromiseBackend(17, "npu"))``.
    """

    def __init__(self, device_type: int, name: str) -> None:
        self.device_type = device_type
        self.name = name

    def device_of(self, stream: Any) -> int | None:
        """Return the device whose memory a promise is about."""
        return stream.device_id if isinstance(stream, Promise) else None

    def default(self, device_id: int) -> Promise:
        """Return a consumer that is always ready, and that cannot be made to wait."""
        return Promise(lambda: True, lambda: None, device_id=device_id)

    create = default

    def record(self, stream: Promise) -> Promise:
        """Return the promise: it marks its own end."""
        return stream

    def wait(self, stream: Promise, event: Promise) -> None:
        """Hand the promise to the consumer's scheduler; where it takes none, wait here."""
        if stream.after is not None and not event.done():
            stream.after(event)
        else:
            event.join()

    def query(self, event: Promise) -> bool:
        """Ask. Work that has failed is over, too."""
        return bool(event.done())

    def synchronize(self, event: Promise) -> None:
        """Block until it is kept."""
        event.wait()

    def notify(self, event: Promise, done: Callable[..., object]) -> None:
        """Use the producer's notifier, or the waiter's thread."""
        event.add_done_callback(done)
