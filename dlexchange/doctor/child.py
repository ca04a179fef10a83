"""A process of its own for some exchanges: reads a job, writes a JSON line a result.

The job (one line on stdin) is ``{"imports": [...], "pairs": [[producer, consumer], ...]}``.
What frameworks print goes to stderr, so that stdout carries only the protocol.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import dlexchange as dx

from ..adapters import ADAPTERS
from .exchange import Verdict, exchange, in_short

__all__ = ["look_at"]


def look_at(imports: list[str], pairs: list[list[str]], tell: Callable[..., None]) -> None:
    """Import, exchange, describe; `tell` hears of every step, also of those to come."""
    broken = {}
    for name in imports:
        tell(importing=name)
        try:
            importlib.import_module(_adapter(name).MODULE)
        except Exception as error:
            broken[name] = f"import of {name}: {type(error).__name__}: {in_short(error)}"
    for producer, consumer in pairs:
        tell(exchanging=[producer, consumer])
        why = broken.get(producer) or broken.get(consumer)
        verdict = (
            Verdict(producer, consumer, "failed", why) if why else exchange(producer, consumer)
        )
        tell(verdict=verdict._asdict())
    for info in dx.frameworks():
        if info.name in imports and info.imported:
            tell(framework={**info._asdict(), "devices": _devices(info.name)})


def _adapter(name: str) -> Any:
    return importlib.import_module(f"dlexchange.adapters.{name}")


def _devices(name: str) -> list[str]:
    adapter = _adapter(name)
    if not hasattr(adapter, "devices"):
        return ["cpu"]
    try:
        return list(adapter.devices(sys.modules[adapter.MODULE]))
    except Exception:  # no driver, no device: the matrix says why
        return []


def _main() -> None:
    job = json.loads(sys.stdin.readline())
    protocol = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    assert set(job["imports"]) <= set(ADAPTERS.values())

    def tell(**fact: Any) -> None:
        protocol.write(json.dumps(fact) + "\n")

    look_at(job["imports"], job["pairs"], tell)
    tell(done=True)
    protocol.flush()
    os._exit(0)  # frameworks that clash do so at exit, too


if __name__ == "__main__":
    _main()
