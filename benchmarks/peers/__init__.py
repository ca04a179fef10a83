"""The peers: one file each, so that a reader sees at a glance what is timed.

A peer's module holds

``label``
    The name that people know it by.
``consumer``
    What comes out: ``"tensor"`` (a neutral view), ``"numpy"``, ``"torch"``, ``"jax"``,
    ``"cupy"``.
``producers``
    The frameworks whose arrays it takes here.
``guarantees``
    What it does and does not do, against the four columns of the tables.
``setup()``
    Everything before the clock starts. Returns the callable that is timed. Raises
    `Absent` with the reason where this machine can not run it.
``call``
    Optional text that is timed, over the names ``f`` (what `setup` returned) and ``x``;
    ``"f(x)"`` if not given.
``call_many``, ``setup_many()``
    The same for the case in which ``x`` is a tuple of eight arrays.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from benchmarks.peers.contract import CALL, CALL_MANY, Absent, Guarantees

__all__ = ["Absent", "Guarantees", "Peer", "load", "modules"]


@dataclass(frozen=True)
class Peer:
    """A peer that is set up, or `absent` with the reason."""

    label: str
    consumer: str
    producers: tuple[str, ...]
    guarantees: Guarantees
    function: Callable[..., Any] | None
    function_many: Callable[..., Any] | None
    call: str
    call_many: str
    absent: str = ""


def _load_one(module: ModuleType) -> Peer:
    function, function_many, absent = None, None, ""
    try:
        function = module.setup()
        function_many = getattr(module, "setup_many", lambda: function)()
    except Absent as error:
        absent = str(error)
    return Peer(
        label=module.label,
        consumer=module.consumer,
        producers=module.producers,
        guarantees=module.guarantees,
        function=function,
        function_many=function_many,
        call=getattr(module, "call", CALL),
        call_many=getattr(module, "call_many", CALL_MANY),
        absent=absent,
    )


def modules() -> tuple[ModuleType, ...]:
    """Every peer's module, in the order of the file names; nothing is set up."""
    names = [info.name for info in pkgutil.iter_modules(__path__) if info.name != "contract"]
    return tuple(importlib.import_module(f"{__name__}.{name}") for name in names)


@cache
def load() -> tuple[Peer, ...]:
    """Every peer, set up once."""
    return tuple(_load_one(module) for module in modules())
