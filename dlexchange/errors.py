"""What can go wrong, one class a kind."""

from __future__ import annotations

__all__ = [
    "Cancelled",
    "CaptureError",
    "CopyError",
    "DeviceLost",
    "DriverError",
    "ExchangeError",
    "NotATensorError",
    "ReadOnlyWarning",
    "StreamError",
]


class ExchangeError(BufferError):
    """The values cannot be exchanged as strided memory."""


class CopyError(ExchangeError, ValueError):
    """A copy would be needed and was not allowed (both kinds the array API names)."""


class CaptureError(ExchangeError):
    """A push would harm a graph capture; the driver was not touched."""


class StreamError(ExchangeError, ValueError):
    """A stream is ambiguous, unknown, or of another device."""


class NotATensorError(TypeError, AttributeError):
    """The object speaks no protocol (a wrong type, and what the array API asks for)."""


class Cancelled(BaseException):
    """Nobody wants this request of a pipeline any more.

    Not an Exception, so that a stage's ``except Exception`` cannot swallow it.
    """


class DriverError(RuntimeError):
    """A driver call failed.

    Attributes
    ----------
    call : str
        The driver's name of the call.
    status : int
        The driver's status code.
    text : str
        What the driver says of it.
    """

    def __init__(self, call: str, status: int, text: str) -> None:
        super().__init__(call, status, text)
        self.call = call
        self.status = status
        self.text = text

    def __str__(self) -> str:
        return f"{self.call} failed with status {self.status}: {self.text}"


class DeviceLost(DriverError):
    """The device's context is in error for good; only a new process can use it again."""


class ReadOnlyWarning(UserWarning):
    """Read-only memory was handed to a framework that cannot express it."""
