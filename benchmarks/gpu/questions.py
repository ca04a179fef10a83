"""What documents do not say of a CUDA driver, asked of the driver itself; answers are recorded.

The driver is asked by tests/simcuda/verdicts.py, in a process of its own, and the answers that
matter to hand-offs are put into words here. On the simulated driver the answer is what it was
made to say: only a device can confirm it, and where one differs the simulated driver is wrong.
``python -m benchmarks.gpu.questions [--simulated]`` prints them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_VERDICTS = Path(__file__).resolve().parents[2] / "tests" / "simcuda" / "verdicts.py"
TIME_LIMIT_S = 60
NOT_READY = 600
#: Cases that answer [status of the call, capture status after it, status of the capture's end].
_IN_A_CAPTURE = (
    "synchronize_a_capturing_stream",
    "query_a_capturing_stream",
    "synchronize_a_captured_event",
    "wait_inside_for_an_event_outside",
    "wait_inside_for_an_event_never_recorded",
    "legacy_record_while_a_blocking_stream_captures",
    "legacy_record_while_a_non_blocking_stream_captures",
    "synchronize_the_context_while_capturing",
)
Verdicts = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """A sentence, and how the answer is read off the verdicts."""

    asks: str
    reads: Callable[[Verdicts], str]


def _captures(verdicts: Verdicts) -> str:
    return "; ".join(_in_words(name, verdicts[name]) for name in _IN_A_CAPTURE)


def _in_words(name: str, verdict: Any) -> str:
    if not isinstance(verdict, list) or len(verdict) < 3:
        return f"{name}: {verdict}"
    status, _, end, *_ = verdict
    survives = "survives" if end == 0 else f"does not ({end})"
    return f"{name}: {status}, the capture {survives}"


def _across_captures(verdicts: Verdicts) -> str:
    status, *_, end_p, end_c = verdicts["wait_across_two_captures"]
    return f"{status}; the two captures end with {end_p} and {end_c}"


def _per_thread(verdicts: Verdicts) -> str:
    held, end = verdicts["legacy_waits_for_the_per_thread_stream_of_another_thread"]
    covers = held == NOT_READY and end == 0
    return "yes, the event fires after that thread's work" if covers else f"no: {held}, {end}"


def _no_context(verdicts: Verdicts) -> str:
    answers = verdicts["calls_without_a_current_context"]
    works = [name for name, status in answers.items() if status in (0, NOT_READY)]
    fails = [f"{name} ({status})" for name, status in answers.items() if name not in works]
    return f"works: {', '.join(works) or 'nothing'}; fails: {', '.join(fails) or 'nothing'}"


QUESTIONS = {
    "capture": Question(
        "Which error has a call that a capture forbids, and does the capture survive it?", _captures
    ),
    "two-captures": Question(
        "And a wait in one capture for an event of another?", _across_captures
    ),
    "per-thread": Question(
        "Does a record on the legacy stream cover another thread's per-thread stream?", _per_thread
    ),
    "no-context": Question("Which calls work with no current context?", _no_context),
}


def ask_all(*, simulated: bool) -> list[dict[str, Any]]:
    """Ask the driver; one line a question. A driver that breaks is an answer too."""
    environment, path = dict(os.environ), "libcuda.so.1"
    if simulated:
        from dlexchange.testing.driver import library_path

        environment["SIMCUDA_LAZY_QUERIES"] = "0"
        path = str(library_path())
    command = [sys.executable, str(_VERDICTS), path]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIME_LIMIT_S, env=environment
        )
    except subprocess.TimeoutExpired:
        return [{"id": "driver", "answer": f"no answer within {TIME_LIMIT_S} s"}]
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["nothing said"]
        return [{"id": "driver", "answer": f"exit {done.returncode}: {said[-1]}"}]
    return list(_answers(json.loads(done.stdout)))


def _answers(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, question in QUESTIONS.items():
        try:
            answer = question.reads(found["verdicts"])
        except (KeyError, TypeError, ValueError) as error:
            answer = f"not answered: {type(error).__name__}: {error}"
        yield {"id": name, "asks": question.asks, "device": found["device"], "answer": answer}
    yield {"id": "all verdicts", "device": found["device"], "answer": found["verdicts"]}


def table(answers: list[dict[str, Any]]) -> str:
    """The answers in words."""
    lines = []
    for line in answers:
        if isinstance(line["answer"], str):
            lines += [f"{line.get('asks', line['id'])} [{line.get('device', '')}]"]
            lines += [f"  {part}" for part in line["answer"].split("; ")]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(ask_all(simulated="--simulated" in sys.argv)))
