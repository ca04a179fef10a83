"""What is installed: the report behind `dlexchange.frameworks()`.

Nothing here imports a framework, starts a driver or creates a context: what only an
import can tell is told of frameworks that the program has imported already.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib import metadata
from types import ModuleType
from typing import Any, NamedTuple

__all__ = ["FrameworkInfo", "Report", "frameworks", "has_exchange_api", "route_note", "version_of"]


class Report(NamedTuple):
    """What an adapter can tell of its imported framework without side effects."""

    devices: tuple[str, ...] = ("cpu",)
    exchange_api: bool = False
    notes: tuple[str, ...] = ()
    stream: int | None = None


class FrameworkInfo(NamedTuple):
    """One framework that is installed here."""

    name: str
    """What `convert` calls it."""
    version: str
    imported: bool
    """Whether this process has imported it; the fields below are None where it has not."""
    devices: tuple[str, ...] | None
    """Devices known to be usable without starting a driver."""
    exchange_api: bool | None
    """Whether its array type offers the DLPack C exchange API."""
    stream: int | None
    """Its current stream in this thread, where it has started a device."""
    notes: tuple[str, ...]
    """How dlexchange reaches it, and what is special about it."""


def frameworks() -> tuple[FrameworkInfo, ...]:
    """List the frameworks that are installed.

    Nothing is imported, no driver is started and no context is created: devices, streams
    and the exchange API are told only of frameworks that have been imported already
    (``python -m dlexchange`` looks at all of them, in processes of their own).

    Returns
    -------
    tuple of FrameworkInfo
        One for each framework with an adapter, in the order of the adapters.

    Synchronization
    ---------------
    None: nothing is recorded, waited for or synchronized.
    """
    adapters = (_adapter(name) for name in _adapter_names())
    found = (_look_at(adapter) for adapter in adapters if hasattr(adapter, "MODULE"))
    return tuple(info for info in found if info is not None)


def has_exchange_api(array_type: Any) -> bool:
    """Whether an array type carries the DLPack C exchange API."""
    api = getattr(array_type, "__dlpack_c_exchange_api__", None)
    return type(api).__name__ == "PyCapsule"


def route_note(fallback_reason: str | None) -> str:
    """Tell of a route that is tested at first use: None before that, "" where it is used."""
    if fallback_reason is None:
        return "fast route: tested at first use"
    return f"fast route: no, {fallback_reason}" if fallback_reason else "fast route: yes"


def version_of(distributions: Sequence[str]) -> str | None:
    """Return the version of the first of the distributions that is installed."""
    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            pass
    return None


def _adapter_names() -> list[str]:
    from . import ADAPTERS

    return list(dict.fromkeys(ADAPTERS.values()))


def _adapter(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{name}")


def _look_at(adapter: ModuleType) -> FrameworkInfo | None:
    module = sys.modules.get(adapter.MODULE)
    version = version_of(adapter.DISTRIBUTIONS) or getattr(module, "__version__", None)
    name = adapter.__name__.rpartition(".")[2]
    if version is None:
        return None
    notes: tuple[str, ...] = getattr(adapter, "NOTES", ())
    if module is None:
        return FrameworkInfo(name, version, False, None, None, None, notes)
    report: Report = adapter.report(module) if hasattr(adapter, "report") else Report()
    return FrameworkInfo(
        name,
        version,
        True,
        report.devices,
        report.exchange_api,
        report.stream,
        report.notes + notes,
    )
