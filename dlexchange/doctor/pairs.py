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
from pathlib import Path
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
    end: str
    """Empty where it came to its end, else why not, in words."""
    outcome: str
    """crashed, hung or failed; empty where it came to its end."""


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
    """Run some pairs in a process; what it did not come to is run in processes of two."""
    outcome = _process(pairs, limit_s)
    for fact in outcome.facts:
        found.take(fact)
    rest = [pair for pair in pairs if tuple(pair) not in found.pairs]
    while rest:
        couple = [pair for pair in rest if set(pair) == set(rest[0])]
        rest = [pair for pair in rest if pair not in couple]
        for fact in _alone(couple, limit_s):
            found.take(fact)


def _alone(couple: list[list[str]], limit_s: float) -> list[dict[str, Any]]:
    """Run the exchanges of two frameworks, each in a process of its own if it must be."""
    facts: list[dict[str, Any]] = []
    for pair in couple:
        first = _process([pair], limit_s)
        second = None
        if first.outcome and pair[0] != pair[1]:
            second = _process([pair], limit_s, imports=list(reversed(pair)))
        if second is not None and not second.outcome:
            facts += second.facts
        elif first.outcome:
            verdict = Verdict(pair[0], pair[1], first.outcome, first.end)
            facts.append({"verdict": verdict._asdict()})
        else:
            facts += first.facts
    return facts


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

    with tempfile.TemporaryFile("w+", errors="replace") as noise:
        child = subprocess.Popen(
            [sys.executable, "-m", "dlexchange.doctor.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
            env=environment(),
        )
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
        return _Outcome(facts, "", "")
    if silent:
        return _Outcome(facts, f"no answer within {limit_s:g} s", "hung")
    if facts and "import_failed" in facts[-1]:
        name, why = facts[-1]["import_failed"], facts[-1]["why"]
        return _Outcome(facts, f"import of {name}: {why.splitlines()[0]}", "failed")
    if status < 0:
        return _Outcome(facts, signal.Signals(-status).name, "crashed")
    return _Outcome(facts, last_words[-1] if last_words else f"exit status {status}", "failed")


def environment() -> dict[str, str]:
    """Keep frameworks quiet, and let SYCL see a CPU runtime that came by pip."""
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "3", **os.environ}
    opencl = Path(sys.prefix, "lib", "libintelocl.so")
    if opencl.exists():
        environment.setdefault("OCL_ICD_FILENAMES", str(opencl))
    return environment
