"""Who hands over, between two streams of one thread: ours, the peers, and the floor's host half."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.cases import OURS
from benchmarks.gpu.machine import Machine
from benchmarks.gpu.sides import Side

OWN, REUSED, FRESH = "from_dlpack of its own", "hand-written, one event", "hand-written, new events"
HOST_FLOOR = "host floor"
DEVICE_WIDE = "its own, after a device-wide synchronisation"
HandOff = Callable[[Any], Any]


@dataclass
class Bench:
    """One pair on two current streams, with an array of the producer."""

    pair: str
    p: int
    c: int
    x: Any
    producer: Side
    consumer: Side
    contenders: dict[str, HandOff]
    absent: dict[str, str]


@contextmanager
def bench(machine: Machine, producer: Side, consumer: Side, *, default: bool) -> Iterator[Bench]:
    """Make the streams current; `default`: both sides work on the legacy default stream."""
    same = producer is consumer
    p = producer.default() if default else producer.stream()
    c = consumer.default() if default else consumer.stream()
    with ExitStack() as stack:
        if not same:
            stack.enter_context(consumer.use(c))
        stack.enter_context(producer.use(p))
        found = Bench(
            f"{producer.name} -> {consumer.name}",
            producer.handle(p),
            consumer.handle(c),
            producer.array(),
            producer,
            consumer,
            {},
            {},
        )
        machine.synchronize()
        found.contenders[OURS] = partial(producer.ours, stream=c) if same else consumer.ours
        found.contenders[OWN] = partial(producer.own_into, stream=c) if same else consumer.own
        if not default:
            found.contenders |= _by_hand(machine, found)
        try:
            found.contenders[HOST_FLOOR] = machine.host_floor(producer, consumer)
        except ImportError as error:  # no compiler, or other C functions than are known
            found.absent[HOST_FLOOR] = str(error)
        yield found
        machine.synchronize()


def _by_hand(machine: Machine, found: Bench) -> dict[str, HandOff]:
    """Order, then pass the bare capsule; one way only."""
    reused, fresh = machine.order(found.p, found.c)
    to_capsule, of_capsule = found.producer.capsule, found.consumer.of_capsule

    def with_one_event(x: Any) -> Any:
        reused()
        return of_capsule(to_capsule(x))

    def with_new_events(x: Any) -> Any:
        fresh()
        return of_capsule(to_capsule(x))

    def after_the_device(x: Any) -> Any:
        machine.synchronize()
        return of_capsule(to_capsule(x))

    return {REUSED: with_one_event, FRESH: with_new_events, DEVICE_WIDE: after_the_device}
