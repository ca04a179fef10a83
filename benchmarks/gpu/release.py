"""The way back: the ordered release against torch's ``record_stream``, nothing, and a host wait.

The consumer's kernel still reads when the producer lets go of the memory. Shown are the host's
time in the release, the wall time, and the memory that torch had to take from the device. torch
does not tell which stream its memory is of, so ours is parked until the kernel is done; after
an edge the allocator could use it again at once, in stream order.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from benchmarks import timing
from benchmarks.gpu.machine import Machine

ORDERED, RECORD_STREAM = "ordered release (dlexchange)", "record_stream"
NOTHING, HOST_WAIT = "nothing: a race", "device-wide synchronisation"
ELEMENTS = 16 << 20


def run(
    machine: Machine, *, items: int = 50, kernel_us: int = 1_000, elements: int = ELEMENTS
) -> dict[str, Any]:
    """`items` arrays one after the other, each read by a kernel of the consumer."""
    producer, consumer = machine.sides
    p, c = producer.stream(), consumer.stream()
    push, _ = machine.order(producer.handle(p), consumer.handle(c))

    def pushed(x: Any) -> Any:
        push()
        return consumer.of_capsule(producer.capsule(x))

    def noted(x: Any) -> Any:
        y = pushed(x)
        producer.record_stream(x, consumer.handle(c))
        return y

    ways: dict[str, tuple[Callable[[Any], Any], Callable[[], None]]] = {
        ORDERED: (consumer.ours, lambda: None),
        RECORD_STREAM: (noted, lambda: None),
        NOTHING: (pushed, lambda: None),
        HOST_WAIT: (pushed, machine.synchronize),
    }
    absent = {}
    if machine.is_simulated:
        absent[RECORD_STREAM] = "the simulated framework has none"
        absent[NOTHING] = "the simulated driver reports the race"
    found = {}
    with producer.use(p), consumer.use(c):
        for name in (name for name in ways if name not in absent):
            found[name] = _measure(machine, *ways[name], items, kernel_us, elements)
    return {"items": items, "kernel_us": kernel_us, "nbytes": 4 * elements} | {
        "ways": found,
        "absent": absent,
    }


def _measure(
    machine: Machine,
    hand_over: Callable[[Any], Any],
    before_release: Callable[[], None],
    items: int,
    kernel_us: int,
    elements: int,
) -> dict[str, Any]:
    producer, consumer = machine.sides
    hand_over(producer.array())
    machine.synchronize()
    producer.forget_memory()
    releases = []
    start = perf_counter_ns()
    for _ in range(items):
        x = producer.array(elements)
        y = hand_over(x)
        consumer.busy(kernel_us)
        z = consumer.touch(y)
        before_release()
        began = perf_counter_ns()
        del x, y
        releases.append(float(perf_counter_ns() - began))
        del z
    machine.synchronize()
    wall = perf_counter_ns() - start
    return {
        "release_ns": timing.summary(releases),
        "wall_ns": wall,
        "memory_taken": producer.memory_taken(),
    }
