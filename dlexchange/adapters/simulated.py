"""Arrays of `dlexchange.testing`: a simulated framework, whose streams are known."""

from __future__ import annotations

from typing import Any

from . import Route


def classify(cls: type) -> Route | None:
    """Tell the stream an array was allocated on, so that its release can be an edge."""
    if not hasattr(cls, "framework") or not hasattr(cls, "stream"):
        return None
    api = getattr(cls, "__dlpack_c_exchange_api__", None)
    if api is None:
        return None
    return Route("exchange", "simulated", api, allocation_stream=allocation_stream)


def allocation_stream(x: Any) -> Any:
    """Return the stream that the array's memory comes from and goes back to."""
    return x.stream
