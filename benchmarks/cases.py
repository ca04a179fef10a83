"""The cases: a pair of frameworks, what is handed over, and who contends.

Each case times the hand-off and the release of the result. Not included: making the
source, the first call (caches are warm), and whatever the consumer then computes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import dlexchange as dx
from benchmarks import floor, frameworks
from benchmarks.frameworks import Source
from benchmarks.peers import Guarantees, Peer
from benchmarks.timing import Contender

OURS = "dlexchange"
FLOOR = "floor"
MANY = 8

OURS_GUARANTEES = Guarantees(
    values="yes",
    ordering="yes",
    release="yes",
    capture="yes",
    why="values probed in this run; the streams' part is tested on the simulated driver",
)
FLOOR_GUARANTEES = Guarantees(
    values="no",
    ordering="no",
    release="no",
    capture="no",
    why="the frameworks' own C functions and nothing else",
)

_OURS: dict[str, Callable[..., Any]] = {
    "tensor": dx.from_dlpack,
    "numpy": dx.to_numpy,
    "torch": dx.to_torch,
    "jax": dx.to_jax,
}


@dataclass(frozen=True)
class Kind:
    """What is handed over."""

    name: str
    make: Callable[[], Any]  # the values, as numpy
    many: bool = False
    jax: bool = True  # jax has no strides


KINDS = (
    Kind("16 floats", lambda: frameworks.numpy_array(64)),
    Kind("1 MB", lambda: frameworks.numpy_array(1 << 20)),
    Kind("4-d strided", frameworks.strided_array, jax=False),
    Kind("8 arguments", lambda: frameworks.numpy_array(64), many=True),
)


@dataclass(frozen=True)
class Case:
    """One group of contenders that are compared with each other and nothing else."""

    producer: str
    consumer: str
    kind: Kind
    state: str = ""  # of a torch source: "unique", or "aliased" by a second owner

    @property
    def pair(self) -> str:
        return f"{self.producer} -> {self.consumer}"

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (self.pair, self.kind.name, self.state)))

    def sources(self) -> tuple[Source, ...]:
        """Fresh sources, as many as a call takes, in this case's ownership state."""
        aliased = self.state == "aliased"
        return tuple(
            frameworks.make_source(self.producer, self.kind.make, aliased=aliased)
            for _ in range(MANY if self.kind.many else 1)
        )

    def contenders(self, peers: tuple[Peer, ...], sources: tuple[Source, ...]) -> list[Contender]:
        """Ours and the floor, then every peer that is here and takes this pair."""
        arrays = tuple(source.array for source in sources)
        x = arrays if self.kind.many else arrays[0]
        call = "list(map(f, x))" if self.kind.many else "f(x)"
        found = [
            Contender(OURS, ours(self.consumer), call, x),
            Contender(FLOOR, floor.function(self.producer, self.consumer), call, x),
        ]
        for peer in peers:
            if peer.absent or not takes(peer, self):
                continue
            if self.kind.many:
                found.append(Contender(peer.label, peer.function_many, peer.call_many, x))
            else:
                found.append(Contender(peer.label, peer.function, peer.call, x))
        return found


def ours(consumer: str) -> Callable[..., Any]:
    """Our public function for `consumer`."""
    return _OURS[consumer]


def takes(peer: Peer | ModuleType, case: Case) -> bool:
    """Whether `peer`, set up or not, is compared in `case`."""
    return peer.consumer == case.consumer and case.producer in peer.producers


def all_cases() -> Iterator[Case]:
    """Every case whose two frameworks are installed."""
    for kind in KINDS:
        for producer in frameworks.PRODUCERS:
            for consumer in frameworks.CONSUMERS:
                if not (frameworks.has(producer) and frameworks.has(consumer)):
                    continue
                if "jax" in (producer, consumer) and not kind.jax:
                    continue
                states = ("unique", "aliased") if producer == "torch" else ("",)
                yield from (Case(producer, consumer, kind, state) for state in states)


def prove(contender: Contender, sources: tuple[Source, ...]) -> str:
    """Hand over once and look: same address, same shape, same values.

    Returns what was seen: ``"same memory"``, or ``"copied"`` (said in the table, not
    hidden), or ``"not seen"`` where the contender gives nothing back.
    """
    names = {"f": contender.function, "x": contender.x}
    with warnings.catch_warnings():  # that torch can not express jax's read-only arrays
        warnings.simplefilter("ignore", dx.errors.ReadOnlyWarning)
        results = eval(contender.call, names)
    if not isinstance(contender.x, tuple):
        results = [results]
    if results is None or results[0] is None:
        return "not seen"
    copied = False
    for result, source in zip(results, sources, strict=True):
        copied |= frameworks.address_of(result) != source.address
        _equal(contender, result, source)
    return "copied" if copied else "same memory"


def _equal(contender: Contender, result: Any, source: Source) -> None:
    if tuple(result.shape) != source.values.shape:
        raise AssertionError(f"{contender.name}: shape {result.shape} of {source.values.shape}")
    shown = frameworks.show(result)
    if shown is not None and not (shown == source.values).all():
        raise AssertionError(f"{contender.name}: values differ")
