"""Driver calls of a hand-off with its release: by CUPTI on a GPU, by the simulated driver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import dlexchange as dx
from benchmarks.cases import OURS
from benchmarks.gpu.contenders import OWN, bench
from benchmarks.gpu.machine import Machine
from benchmarks.gpu.simulated import COLUMNS

LIMIT = "ours: no synchronisation, no more event creations than the producer's own"


def run(machine: Machine, *, turns: int = 100) -> dict[str, Any]:
    """Calls by column and by name, of every contender."""
    if why := machine.begin_to_count():
        return {"not run": f"CUPTI does not count here: {why}"}
    groups = []
    for producer, consumer in machine.pairs:
        with bench(machine, producer, consumer, default=False) as found:
            lines = []
            held = [dx.from_dlpack(found.x) for _ in range(4 * turns + 8)]
            del held  # as many events as two rounds can have parked at once, two a hand-off
            for name, function in found.contenders.items():
                for _ in range(turns):
                    function(found.x)
                machine.synchronize()
                with machine.counting() as calls:
                    for _ in range(turns):
                        function(found.x)
                machine.synchronize()
                lines.append({"name": name, **_columns(calls, turns)})
        groups.append({"pair": found.pair, "lines": lines, "verdict": _judged(lines)})
    return {"turns": turns, "limit": LIMIT, "groups": groups}


def _judged(lines: list[dict[str, Any]]) -> str:
    """A producer that is asked through ``__dlpack__`` makes an event whoever asks."""
    ours, own = (next(line for line in lines if line["name"] == name) for name in (OURS, OWN))
    met = not ours["columns"]["synchronisations"] and (
        ours["columns"]["event creations"] <= own["columns"]["event creations"]
    )
    return "met" if met else "missed"


def _columns(calls: Counter[str], turns: int) -> dict[str, Any]:
    """Count the driver's own calls; where a runtime's are not seen in it, the runtime's."""
    driver, runtime = Counter[str](), Counter[str]()
    for name, n in calls.items():
        if name.startswith("cuda"):
            runtime["cu" + name.removeprefix("cuda")] += n
        else:
            driver[name] += n
    columns = {
        column: max(_total(driver, belongs), _total(runtime, belongs)) / turns
        for column, belongs in COLUMNS.items()
    }
    columns["seen by CUPTI to synchronise"] = calls.pop("synchronised", 0) / turns
    return {"columns": columns, "calls": {name: n / turns for name, n in calls.most_common()}}


def _total(calls: Counter[str], belongs: Callable[[str], bool]) -> int:
    return sum(n for name, n in calls.items() if belongs(name))
