"""nanobind: what bound C++ functions return; its export ignores ``stream``."""

from __future__ import annotations

from . import Route

MODULE = "nanobind"
DISTRIBUTIONS = ("nanobind",)
NOTES = ("a producer only; device memory of it needs stream=",)


def classify(cls: type) -> Route | None:
    """Its array type accepts ``stream`` and does nothing with it."""
    if hasattr(cls, "__dlpack__"):
        return Route("dlpack", "nanobind", ignores_stream=True)
    return None
