"""Many threads hand arrays over between random streams and release them in random order.

The body of a test (10 000 hand-offs a thread) and of ``python -m benchmarks --soak-threads``
(100 000): on the simulated driver, whose race tracker says what is wrong.
"""

from __future__ import annotations

import gc
import random
import resource
import threading
from typing import Any, NamedTuple

from support import memory

import dlexchange as dx
from dlexchange.testing import Simulation, drain

THREADS, CONTEXTS, WINDOW = 8, 1, 8
#: Events are made so many at a time, the first before they are needed.
PREWARM = 8


class Soak(NamedTuple):
    """What one round of all threads left behind."""

    hand_offs: int
    """Of all threads together."""
    peak: int
    """The most live Tensors, parked or held releases and pending awaits at once."""
    events: int
    """Driver events of ours in existence; they are never destroyed."""
    resident_kilobytes: int
    bytes_in_use: int
    """Blocks given out by ``malloc``, which unlike resident memory do not depend on chance."""

    @property
    def events_allowed(self) -> int:
        """Prewarm, one event a thread and context on its way, and what is held."""
        return PREWARM + THREADS * CONTEXTS + self.peak


def _holding() -> int:
    """Count what may hold an event now."""
    now = dx.stats()
    return now.tensors + now.parked + now.held + now.notifications


def _work(
    sim: Simulation, seed: int, streams: list[Any], count: int, errors: list[Any], peaks: list[int]
) -> None:
    rng = random.Random(seed)
    producers = [sim.framework(speaks) for speaks in ("exchange_api", "dlpack")]
    consumer = sim.framework("exchange_api", "other")
    pending: list[Any] = []
    arrays = [f.array(4, "int32", stream=rng.choice(streams), fill=seed) for f in producers]
    try:
        for _ in range(count):
            k = rng.randrange(2)
            p = arrays[0].stream if k == 0 else rng.choice(streams)
            c = rng.choice(streams)
            with producers[k].use_stream(p), consumer.use_stream(c):
                given = dx.from_dlpack(arrays[k]) if rng.random() < 0.5 else arrays[k]
                y = dx.convert(given, consumer.array_type)
                pending += [y, given] if rng.random() < 0.1 else [y]
                if rng.random() < 0.1:
                    pending.append(y.copy(stream=c))
                del y, given
            peaks[seed] = max(peaks[seed], _holding())
            while len(pending) > rng.randrange(1, WINDOW):
                del pending[rng.randrange(len(pending))]
                peaks[seed] = max(peaks[seed], _holding())
    except BaseException as error:
        errors.append(error)
    pending.clear()


def soak(sim: Simulation, hand_offs: int) -> Soak:
    """Run `hand_offs` in each of the threads, and let everything finish."""
    streams = [sim.stream(blocking=i % 2 == 1) for i in range(6)]
    errors: list[Any] = []
    peaks = [0] * THREADS
    threads = [
        threading.Thread(target=_work, args=(sim, seed, streams, hand_offs, errors, peaks))
        for seed in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    gc.collect()
    drain()
    events = dx.stats().events_created
    return Soak(THREADS * hand_offs, max(peaks), events, _resident(), memory.in_use())


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() // 1024
