"""For library authors: describe the memory, get every protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ._core import Description, Protocols, Tensor, from_dlpack
from .adapters.describe import describe_foreign
from .device import DeviceType

__all__ = ["Description", "Producer", "consume", "wrap"]


class Producer(Protocols):
    """A mixin: implement ``__dlexchange__``, and the class is a conforming producer.

    ``__dlpack__`` with every keyword, ``__dlpack_device__``, the DLPack C exchange API, the
    CUDA Array Interface, numpy's array interface and the buffer protocol come from here.
    ``class Image(dx.Producer, fixed=True)`` asks each object once, and keeps the answer.

    Parameters
    ----------
    fixed : bool
        The memory, shape and streams of an object never change. Needs a ``__dict__``.
    describe : callable or None
        Takes an object, returns its `Description`; instead of ``__dlexchange__``.

    Examples
    --------
    >>> class Image(dx.Producer):
    ...     def __dlexchange__(self):
    ...         return dx.Description(self.address, (480, 640, 3), "uint8")

    Synchronization
    ---------------
    The consumer's stream waits for every stream that the description names. It is not
    touched after ``__dlpack__`` has returned. The host does not block, but for a copy to
    the host (``dl_device=(1, 0)``), and for pinned or managed memory given to a consumer
    that names no stream.

    Ownership
    ---------
    An export keeps the object, or the description's ``owner``. The array interfaces carry no
    ownership: there the object must keep its own memory.

    Source
    ------
    keywords.accepted, deleter.frees-everything
    """

    __slots__ = ()
    _dlexchange_fixed: ClassVar[Any]

    def __init_subclass__(
        cls,
        *,
        fixed: bool | None = None,
        describe: Callable[[Any], Description] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init_subclass__(**keywords)
        if describe is not None:
            cls.__dlexchange__ = lambda self: describe(self)  # type: ignore[method-assign]
        if fixed and not cls.__dictoffset__:
            raise TypeError(
                f"fixed=True keeps the answer in each object, and {cls.__name__} has no __dict__: "
                "leave out __slots__"
            )
        if fixed is not None and "_dlexchange_fixed" not in cls.__dict__:
            cls._dlexchange_fixed = True if fixed else None

    def __dlexchange__(self) -> Description:
        """Describe the memory as it is now; called at each export."""
        raise NotImplementedError(f"{type(self).__name__} must implement __dlexchange__")


def consume(x: Any, /, *, stream: Any = None) -> Tensor:
    """Take a producer's memory, from which an author builds an array of his library.

    Parameters
    ----------
    x : producer
        Whatever `from_dlpack` reads; shape (...), any strides.
    stream : stream or None
        Where the author's library will work on the memory: it waits for the producer, and
        the release waits for it. None: nothing is ordered yet; the Tensor's ``ready_event``
        says what to wait for. Host memory has none.

    Returns
    -------
    Tensor
        ``data_ptr``, ``shape``, ``strides`` (in elements), ``dtype``, ``device``; keep it as
        long as the memory is used. ``to_managed_capsule()`` gives the raw DLPack capsule.

    Raises
    ------
    ExchangeError
        The producer cannot describe its values as strided memory.
    StreamError
        The stream is ambiguous or not of that device.

    Synchronization
    ---------------
    Later work on `stream` waits for the producer's work. The host does not block.

    Ownership
    ---------
    The Tensor keeps the producer's memory alive until it is closed or collected; then the
    memory is released behind the work on `stream`.

    Source
    ------
    import.values-equal, deleter.once-at-the-end
    """
    tensor = from_dlpack(x)
    if stream is None or tensor.device.type == DeviceType.CPU:
        return tensor
    tensor.__dlpack__(stream=stream, max_version=(1, 3))  # orders; the capsule is not needed
    if stream != -1:
        tensor.record_stream(stream)
    return tensor


class _Wrapped(Producer):
    """An object of somebody else's, with the description that it lacks."""

    __slots__ = ("_describe", "wrapped")

    def __init__(self, wrapped: Any, describe: Callable[[Any], Description]) -> None:
        self.wrapped = wrapped
        self._describe = describe

    def __dlexchange__(self) -> Description:
        return self._describe(self.wrapped)

    def __repr__(self) -> str:
        return f"<dlexchange.wrap of {self.wrapped!r}>"


def wrap(
    x: Any, /, describe: Callable[[Any], Description] | None = None, *, stream: Any = None
) -> Producer:
    """Give an object the protocols that its library lacks or gets wrong, from outside.

    Parameters
    ----------
    x : object
        With ``__cuda_array_interface__``, ``__array_interface__``, the buffer protocol, or
        ``data_ptr()`` beside ``shape`` and ``dtype``; with `describe`, anything. Its own
        ``__dlpack__`` is not used.
    describe : callable or None
        Takes `x`, returns its `Description`; called at each export.
    stream : stream, sequence of streams, -1 or None
        Streams with pending work on device memory, where `x` does not tell them.

    Returns
    -------
    Producer
        Same memory as `x`.

    Raises
    ------
    TypeError
        `x` shows its memory in none of these ways.

    Synchronization
    ---------------
    None here; consumers wait for the streams named.

    Ownership
    ---------
    The result, and all that is made of it, keeps `x` alive.
    """
    if describe is None:
        describe = describe_foreign(x, stream)
    elif stream is not None:
        raise TypeError("name the streams in the Description, not beside a describer")
    return _Wrapped(x, describe)
