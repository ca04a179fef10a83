"""All pairs, in processes with a time limit: a crash or a hang is a verdict of its pair."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import dlexchange as dx

from .child import look_at
from .exchange import Verdict
from .specimens import SPECIMENS

__all__ = ["FAST", "Survey", "environment", "survey"]

#: Frameworks that are exchanged in one process, this one, with ``--fast``.
FAST = ("numpy", "torch", "jax", "cupy", "tvm_ffi")

#: Frameworks that bring so many libraries of their own that they get processes apart.
_APART = ("tensorflow", "paddle")


class Survey(NamedTuple):
    """What was found: the frameworks, and a verdict for each ordered pair."""

    frameworks: list[dict[str, Any]]
    pairs: list[Verdict]


class _Outcome(NamedTuple):
    """What came out of one process."""

    facts: list[dict[str, Any]]
    ended: str
    """How it ended: done, crashed, hung or failed."""
    why: str
    """Why it did not come to its end, in words."""


def survey(
    *,
    fast: bool = False,
    only: tuple[str, ...] = (),
    limit_s: float = 60.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Survey:
    """Exchange between every pair of installed frameworks.

    Parameters
    ----------
    fast : bool
        Look at FAST only, in this process.
    only : tuple of str
        Look at these frameworks only; empty: at all.
    limit_s : float
        Seconds within which a process must come to its next pair.
    progress : callable
        Called with (pairs done, pairs in all).
    """
    installed = [info for info in dx.frameworks() if not only or info.name in only]
    names = [info.name for info in installed if info.name in SPECIMENS]
    if fast:
        names = [name for name in names if name in FAST]
        installed = [info for info in installed if info.name in FAST]
    found = _Found({info.name: info._asdict() for info in installed}, len(names) ** 2, progress)
    if fast:
        look_at(names, [[a, b] for a in names for b in names], lambda **fact: found.take(fact))
    else:
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            list(pool.map(lambda batch: _run(batch, limit_s, found), _batches(names)))
    order = {name: i for i, name in enumerate(names)}
    pairs = sorted(found.pairs.values(), key=lambda v: (order[v.producer], order[v.consumer]))
    return Survey(list(found.frameworks.values()), pairs)


class _Found:
    """Facts as they come in, from several threads."""

    def __init__(
        self, frameworks: dict[str, Any], total: int, progress: Callable[[int, int], None]
    ) -> None:
        self.frameworks = frameworks
        self.pairs: dict[tuple[str, str], Verdict] = {}
        self._lock = threading.Lock()
        self._total = total
        self._progress = progress

    def take(self, fact: dict[str, Any]) -> None:
        with self._lock:
            if "framework" in fact:
                self.frameworks[fact["framework"]["name"]] = fact["framework"]
            if "verdict" in fact:
                verdict = Verdict(**fact["verdict"])
                self.pairs[verdict.producer, verdict.consumer] = verdict
                self._progress(len(self.pairs), self._total)


def _batches(names: list[str]) -> Iterator[list[list[str]]]:
    """Split the pairs by process: the heavy frameworks never share one."""
    together = [name for name in names if name not in _APART]
    apart = [name for name in names if name in _APART]
    if together:
        yield [[a, b] for a in together for b in together]
    for heavy in apart:
        yield [[heavy, heavy]] + [pair for a in together for pair in ([heavy, a], [a, heavy])]
    for i, a in enumerate(apart):
        for b in apart[i + 1 :]:
            yield [[a, b], [b, a]]


def _run(pairs: list[list[str]], limit_s: float, found: _Found) -> None:
    """Run some pairs in a process; what failed there gets a process of its own."""
    for fact in _process(pairs, limit_s).facts:
        found.take(fact)
    for producer, consumer in pairs:
        verdict = found.pairs.get((producer, consumer))
        if verdict is None or verdict.outcome == "failed":
            for fact in _alone(producer, consumer, limit_s):
                found.take(fact)


def _alone(producer: str, consumer: str, limit_s: float) -> list[dict[str, Any]]:
    """Exchange one pair in a process; import them the other way round if that fails."""
    tries = []
    for imports in dict.fromkeys([(producer, consumer), (consumer, producer)]):
        outcome = _process([[producer, consumer]], limit_s, list(dict.fromkeys(imports)))
        facts = [fact for fact in outcome.facts if "verdict" in fact or "framework" in fact]
        if outcome.ended != "done":
            verdict = Verdict(producer, consumer, outcome.ended, outcome.why)
            facts.append({"verdict": verdict._asdict()})
        tries.append(facts)
        if outcome.ended == "done" and facts[0]["verdict"]["outcome"] != "failed":
            return facts
    return tries[0]


def _process(pairs: list[list[str]], limit_s: float, imports: list[str] | None = None) -> _Outcome:
    """Run one child to its end, or until it is silent for `limit_s` seconds."""
    if imports is None:
        imports = list(dict.fromkeys(name for pair in pairs for name in pair))
        imports.sort(key=lambda name: name in _APART)
    facts: list[dict[str, Any]] = []
    silent = False

    def give_up() -> None:
        nonlocal silent
        silent = True
        child.kill()

    with (
        tempfile.TemporaryFile("w+", errors="replace") as noise,
        subprocess.Popen(
            [sys.executable, "-m", "dlexchange.doctor.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
            env=environment(),
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        with child.stdin as job:
            job.write(json.dumps({"imports": imports, "pairs": pairs}) + "\n")
        watchdog = threading.Timer(limit_s, give_up)
        watchdog.start()
        for line in child.stdout:
            watchdog.cancel()
            facts.append(json.loads(line))
            watchdog = threading.Timer(limit_s, give_up)
            watchdog.start()
        watchdog.cancel()
        status = child.wait()
        noise.seek(0)
        last_words = noise.read().strip().splitlines()
    if facts and "done" in facts[-1]:
        return _Outcome(facts, "done", "")
    if silent:
        return _Outcome(facts, "hung", f"no answer within {limit_s:g} s")
    if status < 0:
        return _Outcome(facts, "crashed", signal.Signals(-status).name)
    return _Outcome(facts, "failed", last_words[-1] if last_words else f"exit status {status}")


def environment() -> dict[str, str]:
    """Keep frameworks quiet."""
    return {"TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "3", **os.environ}
