"""What a device type must offer so that dlexchange can order its work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["StreamBackend"]


class StreamBackend(Protocol):
    """The streams and events of one DLPack device type.

    Streams and events are the backend's own objects; streams must be hashable, and two that
    are equal must be one and the same stream. Methods are called from any thread, with
    the GIL; whatever blocks must release it. They raise `StreamError` for a stream that
    cannot be used, `DeviceLost` for a device that is gone, and anything else for the
    rest.

    Besides the methods below a backend may have

    - ``create(device_id)``: a new stream that nothing else uses. It is kept for good.
      Needed for producers whose stream nobody knows, and for copies to the host;
    - ``copy_to_host(stream, address, destination)``: queue a copy of device memory to a
      writable `memoryview` of bytes, behind the stream's work;
    - ``stream_of(x)``: the stream that work on an array goes to, for `current_stream`;
    - ``is_host_accessible(device_id, address)``: whether the host may read the memory at
      its address once it is complete. Without it: never.
    """

    device_type: int
    """The number of `dlexchange.DeviceType` or of a later ``dlpack.h``."""

    name: str
    """For messages."""

    def device_of(self, stream: Any) -> int | None:
        """Return the device id of a stream, None for what is no stream of this backend.

        Raises
        ------
        StreamError
            It is a stream, but not one that may be used; the text says why.
        """

    def default(self, device_id: int) -> Any:
        """Return the stream that ``stream=None`` means in ``__dlpack__``."""

    def record(self, stream: Any) -> Any:
        """Mark the work now in a stream; return the event.

        Synchronization
        ---------------
        The host does not block.
        """

    def wait(self, stream: Any, event: Any) -> None:
        """Make later work of a stream wait for an event, of whichever stream and device.

        Synchronization
        ---------------
        On the device. The host does not block.
        """

    def query(self, event: Any) -> bool:
        """Return whether the marked work is done. Never blocks."""

    def synchronize(self, event: Any) -> None:
        """Block the calling thread, without the GIL, until the marked work is done."""

    def notify(self, event: Any, done: Callable[..., object]) -> None:
        """Have ``done()`` called once the marked work is done, from whatever thread.

        ``done(error)`` with an exception says that it never will be. Where the runtime has
        no callback, `dlexchange.backends.waiter.call_when` does it with one thread for
        the whole process.
        """
