"""The clauses: what is demanded, of whom, by which source. Data in ``spec/*.toml``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings tomli on CPython 3.10
    try:
        import tomli as tomllib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the conformance suite reads toml, which CPython 3.10 can not: pip install tomli"
        ) from error

__all__ = ["Clause", "Source", "load", "read_toml", "select", "spec_folder"]

Strength = Literal["must", "should", "may"]
Side = Literal["producer", "consumer", "both"]

_KEYS = {
    "id", "strength", "binds", "since", "until", "says", "source",
    "derived", "open", "conflict", "untestable", "only",
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Where a clause comes from: document, version of it, place in it."""

    doc: str
    at: str
    where: str

    def __str__(self) -> str:
        return f"{self.doc} {self.at}, {self.where}"


@dataclass(frozen=True)
class Clause:
    """One rule. ``spec/README.md`` explains the fields."""

    id: str
    strength: Strength
    binds: Side
    since: str
    says: str
    source: Source
    until: str = ""
    derived: bool = False
    open: bool = False
    conflict: tuple[str, ...] = ()
    untestable: str = ""
    only: str = ""
    file: str = ""

    @property
    def accuses(self) -> bool:
        """Whether not keeping it is a failure: not where sources leave it open."""
        return self.strength != "may"


def spec_folder() -> Path:
    """The folder of the clauses: inside an installed package, or the clone's ``spec``."""
    here = Path(__file__).resolve().parent
    for folder in (here.parent.parent / "spec", here / "spec"):
        if (folder / "dlpack.toml").is_file():
            return folder
    raise FileNotFoundError(f"no clauses: neither in a spec folder of a clone nor under {here}")


def read_toml(path: Path) -> dict[str, Any]:
    """The content of one toml file."""
    with path.open("rb") as file:
        return tomllib.load(file)


def _clause(entry: dict[str, Any], file: str) -> Clause:
    unknown = set(entry) - _KEYS
    if unknown:
        raise ValueError(f"{file}: {entry.get('id')}: unknown keys {sorted(unknown)}")
    fields = dict(entry, file=file, source=Source(**entry["source"]))
    fields["conflict"] = tuple(entry.get("conflict", ()))
    return Clause(**fields)


@functools.cache
def load(folder: Path | None = None) -> dict[str, Clause]:
    """All clauses by id, in the order of the files.

    Raises
    ------
    ValueError
        A file yields no clause, an id appears twice, or a key is unknown.
    """
    found: dict[str, Clause] = {}
    for path in sorted((folder or spec_folder()).glob("*.toml")):
        entries = read_toml(path).get("clause", [])
        if not entries:
            raise ValueError(f"{path.name} holds no clause")
        for entry in entries:
            clause = _clause(entry, path.stem)
            if clause.id in found:
                raise ValueError(f"{path.name}: the id {clause.id} is taken")
            found[clause.id] = clause
    return found


def select(prefixes: Sequence[str], clauses: Iterable[Clause] | None = None) -> list[Clause]:
    """The clauses under the id prefixes; all where there is none.

    A prefix is a whole id or a part of it up to a dot (``capsule``, ``capsule.consumed-once``)
    or the name of a source file (``exchange_api``).

    Raises
    ------
    ValueError
        A prefix matches nothing.
    """
    every = list(load().values() if clauses is None else clauses)
    if not prefixes:
        return every
    chosen: set[str] = set()
    for prefix in prefixes:
        hits = {c.id for c in every if c.id == prefix or c.id.startswith(prefix + ".")}
        hits |= {c.id for c in every if c.file == prefix}
        if not hits:
            area = prefix.partition(".")[0] + "."
            near = [c.id for c in every if c.id.startswith(area)]
            known = near or sorted({c.id.split(".")[0] for c in every})
            raise ValueError(f"no clause begins with {prefix!r}; there are: {', '.join(known)}")
        chosen |= hits
    return [c for c in every if c.id in chosen]
