"""Driver calls of a hand-off, counted on the simulated CUDA driver. No figure is a time.

Each case is what ``benchmarks.gpu`` times on a GPU, with the simulated array framework in the
place of the others: "exchange_api" has a C exchange API as torch, "dlpack" only
``__dlpack__``, "cai" only the CUDA Array Interface as numba. Counts include release.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import dlexchange as dx
from benchmarks.cases import OURS
from dlexchange.testing import Simulation, drain, simulated_cuda

TURNS = 100
#: Column to the driver's calls in it.
COLUMNS: dict[str, Callable[[str], bool]] = {
    "records": lambda name: name.startswith("cuEventRecord"),
    "waits": lambda name: name == "cuStreamWaitEvent",
    "capture queries": lambda name: name in ("cuStreamGetCaptureInfo", "cuStreamIsCapturing"),
    "event creations": lambda name: name.startswith("cuEventCreate"),
    "synchronisations": lambda name: "Synchronize" in name,
}
LEGACY = "legacy submissions"
HAND_WRITTEN, OWN = "hand-written events", "from_dlpack of its own"
DEVICE_WIDE = "its own, cuCtxSynchronize between stages"

Step = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """A hand-off, who does it, and what prepares it."""

    name: str
    who: str
    prepare: Callable[[Simulation, ExitStack], Step]
    note: str = ""
    limit: tuple[int, ...] | None = None  # of each column, and of LEGACY

    def count(self, turns: int = TURNS) -> dict[str, Any]:
        """Run the case in its steady state; calls a hand-off, and whether the limit holds."""
        with simulated_cuda() as sim, ExitStack() as stack:
            sim.set_device()
            step = self.prepare(sim, stack)
            _warm(sim, step, turns)
            sim.reset_calls()
            legacy = sim.legacy().submitted
            for _ in range(turns):
                step()
            calls, legacy = sim.calls, sim.legacy().submitted - legacy
            del step
            drain()
            findings = [str(finding) for finding in sim.findings]
        counted = {
            column: sum(n for name, n in calls.items() if belongs(name)) / turns
            for column, belongs in COLUMNS.items()
        }
        counted[LEGACY] = legacy / turns
        line = {"case": self.name, "who": self.who, "note": self.note, "calls": counted}
        line |= {"limit": self.limit, "findings": findings, "verdict": ""}
        if self.limit is not None:
            over = any(n > most for n, most in zip(counted.values(), self.limit, strict=True))
            line["verdict"] = "missed" if over or findings else "met"
        return line


def _warm(sim: Simulation, step: Step, turns: int) -> None:
    """Fill the caches, and the event pool with as many as can be parked at once."""
    x = sim.array(4, stream=sim.stream(), fill=0)
    held = [dx.from_dlpack(x, stream=x.stream) for _ in range(turns + 8)]
    for _ in range(3):
        step()
    del held, x
    drain()


def _sides(sim: Simulation, speaks: str) -> tuple[Any, Any, Any, Any]:
    """Producer and consumer framework, and a stream of each."""
    consumer = sim.framework("exchange_api", "consumer")
    return sim.framework(speaks), consumer, sim.stream(), sim.stream()


def _convert(speaks: str, *, same: bool = False) -> Callable[[Simulation, ExitStack], Step]:
    def prepare(sim: Simulation, stack: ExitStack) -> Step:
        producer, consumer, p, c = _sides(sim, speaks)
        stack.enter_context(producer.use_stream(p))
        stack.enter_context(consumer.use_stream(p if same else c))
        x = producer.array(16, stream=p, fill=1)
        return lambda: dx.convert(x, consumer.array_type)

    return prepare


def _own(speaks: str) -> Callable[[Simulation, ExitStack], Step]:
    """What a framework's own from_dlpack does: the producer orders, with an event it makes."""

    def prepare(sim: Simulation, stack: ExitStack) -> Step:
        producer, consumer, p, c = _sides(sim, speaks)
        stack.enter_context(consumer.use_stream(c))
        x = producer.array(16, stream=p, fill=1)
        return lambda: consumer.from_dlpack(x)

    return prepare


def _own_on_default(sim: Simulation, stack: ExitStack) -> Step:
    producer, consumer, p, _ = _sides(sim, "dlpack")
    x = producer.array(16, stream=p, fill=1)
    return lambda: consumer.from_dlpack(x)


def _hand_written(sim: Simulation, stack: ExitStack) -> Step:
    """A record and a wait by hand, and nothing for the way back."""
    event, p, c = sim.event(), sim.stream(), sim.stream()

    def step() -> None:
        p.record(event)
        c.wait(event)

    return step


def _push(sim: Simulation, stack: ExitStack) -> Step:
    p, c = (dx.Stream.create("cuda:0") for _ in range(2))
    return lambda: dx.push(p, c)


def _across_threads(sim: Simulation, stack: ExitStack) -> Step:
    """A Tensor made in one thread, consumed and dropped in another."""
    producer, consumer, p, c = _sides(sim, "exchange_api")
    stack.enter_context(producer.use_stream(p))
    x = producer.array(16, stream=p, fill=1)
    thread = stack.enter_context(ThreadPoolExecutor(1))

    def consume(sent: list[Any]) -> None:
        with consumer.use_stream(c):
            dx.convert(sent.pop(), consumer.array_type)

    return lambda: thread.submit(consume, [dx.from_dlpack(x)]).result()


def _further_consumer(sim: Simulation, stack: ExitStack) -> Step:
    producer, consumer, p, c = _sides(sim, "exchange_api")
    stack.enter_context(producer.use_stream(p))
    stack.enter_context(consumer.use_stream(c))
    x, further = producer.array(16, stream=p, fill=1), dx.Stream.create("cuda:0")
    return lambda: dx.record_stream(dx.convert(x, consumer.array_type), further)


def _tensor(speaks: str) -> Callable[[Simulation, ExitStack], Step]:
    """A Tensor made on one stream, used on another, and closed."""

    def prepare(sim: Simulation, stack: ExitStack) -> Step:
        producer, _, p, c = _sides(sim, speaks)
        stack.enter_context(producer.use_stream(p))
        x = producer.array(16, stream=p, fill=1)

        def step() -> None:
            with dx.from_dlpack(x) as tensor:
                tensor.record_stream(c)

        return step

    return prepare


def _pipeline(*, device_wide: bool) -> Callable[[Simulation, ExitStack], Step]:
    """Two stages of two frameworks, each with a stream: fill, hand over, add."""

    def prepare(sim: Simulation, stack: ExitStack) -> Step:
        producer, consumer, p, c = _sides(sim, "exchange_api")
        stack.enter_context(producer.use_stream(p))
        stack.enter_context(consumer.use_stream(c))

        def step() -> None:
            x = producer.array(16, stream=p, fill=1)
            if device_wide:
                sim.driver("cuCtxSynchronize")
            y = consumer.from_dlpack(x) if device_wide else dx.convert(x, consumer.array_type)
            z = y + y
            if device_wide:
                sim.driver("cuCtxSynchronize")  # nothing else keeps x from being reused
            del x, y, z

        return step

    return prepare


NOTHING = (0, 0, 0, 0, 0, 0)
ONE_WAY = (1, 1, 2, 0, 0, 0)
BOTH_WAYS = (2, 2, 4, 0, 0, 0)
THERE_BY_THE_PRODUCER = (2, 1, 1, 1, 0, 0)
PRODUCERS_OWN = "the creation, a record and a wait are the producer's own"

CASES = (
    Case("push", OURS, _push, limit=ONE_WAY),
    Case("push", HAND_WRITTEN, _hand_written, "one way; does not look at captures"),
    Case("same stream", OURS, _convert("exchange_api", same=True), limit=NOTHING),
    Case("across streams, exchange_api", OURS, _convert("exchange_api"), limit=BOTH_WAYS),
    Case("across streams, cai", OURS, _convert("cai"), limit=BOTH_WAYS),
    Case("across streams, dlpack", OURS, _convert("dlpack"), PRODUCERS_OWN, THERE_BY_THE_PRODUCER),
    Case("across streams, dlpack", OWN, _own("dlpack"), "one way"),
    Case("to the default stream, dlpack", OWN, _own_on_default, "one way"),
    Case("across threads, by a Tensor", OURS, _across_threads, limit=BOTH_WAYS),
    Case("Tensor used elsewhere, edge", OURS, _tensor("exchange_api"), limit=(2, 1, 3, 0, 0, 0)),
    Case(
        "Tensor used elsewhere, parked", OURS, _tensor("dlpack"), PRODUCERS_OWN, (3, 1, 2, 1, 0, 0)
    ),
    Case("record_stream of a further stream", OURS, _further_consumer, limit=(3, 3, 5, 0, 0, 0)),
    Case("two-framework pipeline, an item", OURS, _pipeline(device_wide=False), limit=BOTH_WAYS),
    Case("two-framework pipeline, an item", DEVICE_WIDE, _pipeline(device_wide=True)),
)


def count_all(turns: int = TURNS) -> Iterator[dict[str, Any]]:
    """Count every case, one simulation each."""
    return (case.count(turns) for case in CASES)
