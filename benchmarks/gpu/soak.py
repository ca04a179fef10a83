"""A million hand-offs of device memory between two streams: nothing grows, nothing is left."""

from __future__ import annotations

import gc
from typing import Any

import dlexchange as dx
from benchmarks.gpu.contenders import bench
from benchmarks.gpu.machine import Machine
from benchmarks.soak import LIMIT_BYTES, resident_bytes

TURNS_A_DRAIN = 1_000


def run(machine: Machine, *, turns: int = 1_000_000, warm_up: int = 20_000) -> dict[str, Any]:
    """Both directions between the two frameworks."""
    return {
        "turns": turns,
        "pairs": [
            _soak(machine, producer, consumer, turns, warm_up)
            for producer, consumer in machine.pairs[:2]
        ],
    }


def _soak(machine: Machine, producer: Any, consumer: Any, turns: int, warm_up: int) -> Any:
    with bench(machine, producer, consumer, default=False) as found:
        _repeat(machine, consumer.ours, found.x, warm_up)
        before, memory, resident = dx.stats(), producer.memory_taken(), resident_bytes()
        _repeat(machine, consumer.ours, found.x, turns)
        now = dx.stats()
        grown = resident_bytes() - resident
        lines = {
            "resident bytes": (grown, LIMIT_BYTES),
            "device bytes": (producer.memory_taken() - memory, 0),
            "events created": (now.events_created - before.events_created, TURNS_A_DRAIN),
            "alive": (now.live - before.live, 0),
            "leaked": (now.leaked - before.leaked, 0),
            "host waits": (now.host_waits - before.host_waits, 0),
        }
    met = all(seen <= most for seen, most in lines.values())
    return {"pair": found.pair, "grown": lines, "verdict": "met" if met else "missed"}


def _repeat(machine: Machine, function: Any, x: Any, turns: int) -> None:
    for turn in range(turns):
        function(x)
        if turn % TURNS_A_DRAIN == 0:
            machine.synchronize()
    gc.collect()
    machine.synchronize()
    _settle()


def _settle() -> None:
    """Let what is parked go: all its streams are idle."""
    from dlexchange.testing import drain

    drain()
