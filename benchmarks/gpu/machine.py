"""The machine a case runs on: a GPU, or the simulated driver for a rehearsal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks import floor
from benchmarks.gpu.native import Calls, Cupti
from benchmarks.gpu.sides import CALIBRATION, Cupy, Side, Simulated, Torch

SIMULATED = "simulated CUDA driver: a rehearsal, no figure is a time"


@dataclass
class Machine:
    """What a case needs of the machine beside its sides."""

    name: str
    sides: tuple[Side, ...]
    calls: Calls
    synchronize: Callable[[], None]  # the whole device
    order: Callable[[int, int], tuple[Callable[[], None], Callable[[], None]]]
    counting: Callable[[], AbstractContextManager[Counter[str]]]
    host_floor: Callable[[Side, Side], Callable[[Any], Any]]
    begin_to_count: Callable[[], str] = lambda: ""  # returns why calls can not be counted
    is_simulated: bool = False

    @property
    def pairs(self) -> tuple[tuple[Side, Side], ...]:
        """Producer and consumer: both ways, and the first with itself."""
        first, second = self.sides
        return (first, second), (second, first), (first, first)


@contextmanager
def gpu() -> Iterator[Machine]:
    """torch and CuPy on the first GPU."""
    import torch

    sides = (Torch(), Cupy())
    for side in sides:
        side.cycles_a_microsecond = _calibrate(torch, side)
    cupti = Cupti()

    @contextmanager
    def counting() -> Iterator[Counter[str]]:
        found: Counter[str] = Counter()
        cupti.reset()
        yield found
        found.update(cupti.counts())

    yield Machine(
        name=torch.cuda.get_device_name(0),
        sides=sides,
        calls=Calls("libcuda.so.1"),
        synchronize=torch.cuda.synchronize,
        order=_order_by_torch,
        counting=counting,
        host_floor=lambda producer, consumer: floor.function(producer.name, consumer.name),
        begin_to_count=cupti.open,  # not before it is wanted: callbacks cost time
    )
    torch.cuda.synchronize()


def _calibrate(torch: Any, side: Side) -> float:
    """Clock cycles a microsecond of the side's spinning kernel."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    stream = side.stream()
    with side.use(stream):
        side.spin(CALIBRATION)  # compiles, and wakes the clock
        torch.cuda.synchronize()
        on = torch.cuda.ExternalStream(side.handle(stream))
        begin.record(on)
        side.spin(CALIBRATION)
        end.record(on)
    end.synchronize()
    return CALIBRATION / (begin.elapsed_time(end) * 1000)


def _order_by_torch(p: int, c: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """What users write by hand, with one event, and with a new one each time."""
    import torch

    producer, consumer = (torch.cuda.ExternalStream(handle) for handle in (p, c))
    event = torch.cuda.Event()

    def reused() -> None:
        event.record(producer)
        consumer.wait_event(event)

    return reused, lambda: consumer.wait_stream(producer)


@contextmanager
def simulated() -> Iterator[Machine]:
    """The simulated array framework in two dialects."""
    from dlexchange.testing import simulated_cuda

    with simulated_cuda(policy="eager") as sim:
        sim.set_device()

        @contextmanager
        def counting() -> Iterator[Counter[str]]:
            found: Counter[str] = Counter()
            sim.reset_calls()
            yield found
            found.update(sim.calls)

        def synchronize() -> None:
            with sim.on_device(0):
                sim.driver("cuCtxSynchronize")

        def order(p: int, c: int) -> tuple[Callable[[], None], Callable[[], None]]:
            event = sim.event()

            def by(mark: Any) -> None:
                sim.driver("cuEventRecord", mark.handle, p)
                sim.driver("cuStreamWaitEvent", c, mark.handle, 0)

            return lambda: by(event), lambda: by(sim.event())

        yield Machine(
            name=SIMULATED,
            sides=(Simulated(sim, "exchange_api"), Simulated(sim, "dlpack")),
            calls=Calls(sim.library._name),
            synchronize=synchronize,
            order=order,
            counting=counting,
            host_floor=lambda producer, consumer: (
                lambda x: consumer.of_capsule(producer.capsule(x))
            ),
            is_simulated=True,
        )
        assert [str(finding) for finding in sim.findings] == []
