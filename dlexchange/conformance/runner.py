"""Running subjects, each in a process of its own that is started anew after a crash."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select as selecting
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from .clauses import Clause, load, select
from .engine import checks_of, steady
from .verdict import Verdict

__all__ = ["Session", "SubjectReport", "confirm", "run"]

#: Seconds after which a check counts as hanging, and an import as failed.
CHECK_LIMIT, LOAD_LIMIT, SNIPPET_LIMIT = 120, 300, 120


@dataclass
class SubjectReport:
    """What a subject is and the verdicts on it."""

    spec: str
    name: str
    version: str = ""
    ground: str = "host"
    verdicts: list[Verdict] = field(default_factory=list)
    crashes: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For the report: not the time it took, nor the clauses that have no check."""
        said: dict[str, Any] = {"spec": self.spec, "name": self.name, "ground": self.ground}
        if self.verdicts and self.verdicts[0].outcome == "absent":
            return {**said, "absent": self.verdicts[0].seen, "verdicts": []}
        testable = [v.as_json() for v in self.verdicts if not load()[v.clause].untestable]
        for verdict in testable:
            del verdict["subject"]
        return {**said, "version": self.version, "crashes": self.crashes, "verdicts": testable}


def environment() -> dict[str, str]:
    """Our own, in which SYCL sees the CPU runtime that comes by pip."""
    found = dict(os.environ)
    with contextlib.suppress(PackageNotFoundError):
        for file in files("intel-opencl-rt") or ():
            if file.name == "libintelocl.so":
                found.setdefault("OCL_ICD_FILENAMES", str(Path(str(file.locate())).resolve()))
    return found


class _Worker:
    """The child process and its replies."""

    def __init__(self, spec: str) -> None:
        reading, writing = os.pipe()
        self._replies = reading
        self._pending = b""
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dlexchange.conformance.worker", spec, str(writing)],
            stdin=subprocess.PIPE,
            stdout=self._errors,
            stderr=self._errors,
            pass_fds=(writing,),
            env=environment(),
        )
        os.close(writing)

    def send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the next receive says how it ended

    def receive(self, limit: float) -> str | None:
        """One line, or None when the process ended or the limit passed."""
        while b"\n" not in self._pending:
            ready, _, _ = selecting.select([self._replies], [], [], limit)
            if not ready:
                self._process.kill()
                return None
            content = os.read(self._replies, 65536)
            if not content:
                return None
            self._pending += content
        line, self._pending = self._pending.split(b"\n", 1)
        return line.decode()

    def close_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def end(self) -> str:
        """How the process ended, with what it last said."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        status = self._process.wait()
        os.close(self._replies)
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        self._errors.close()
        return f"{_ending(status)}{_telling(said)}"


def _ending(status: int) -> str:
    if status == -signal.SIGKILL:
        return "it did not return in time"
    if status < 0:
        return f"the process died of {signal.Signals(-status).name}"
    return f"the process ended with status {status}"


def _telling(said: Sequence[str]) -> str:
    """The one line of its output that says most."""
    for mark in ("what():", "Fatal Python error", "double free", "free():", "Error:", "abort"):
        for line in said:
            if mark in line:
                return f" ({steady(line.strip())[:200]})"
    return ""


Progress = Callable[[str, int, int], None]


def run(
    spec: str, clauses: Sequence[str] = (), progress: Progress = lambda *_: None
) -> SubjectReport:
    """Judge the subject that `spec` names, in a process of its own.

    Parameters
    ----------
    spec : str
        See ``worker.find_subject``.
    clauses : sequence of str
        Id prefixes; all where empty.
    progress : callable
        Called with the spec, the number of clauses done and of all.

    Returns
    -------
    SubjectReport
        With a verdict for every chosen clause.
    """
    chosen = select(clauses)
    begun, worked = time.monotonic(), _children_worked()
    last = [c for c in chosen if any(check.at_exit for check in checks_of(c.id))]
    session = Session(spec)
    by_id: dict[str, Verdict] = {}
    for done, clause in enumerate([c for c in chosen if c not in last] + last):
        progress(spec, done, len(chosen))
        by_id[clause.id] = session.judge(clause)
    session.close()
    progress(spec, len(chosen), len(chosen))
    session.report.seconds = time.monotonic() - begun
    session.report.processor_seconds = _children_worked() - worked
    session.report.verdicts = [by_id[clause.id] for clause in chosen]
    return session.report


def _children_worked() -> float:
    """Processor time of the child processes that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Session:
    """One subject, over as many workers as it takes."""

    def __init__(self, spec: str) -> None:
        self.report = SubjectReport(spec, spec.partition(":")[0])
        self._spec = spec
        self._worker: _Worker | None = None
        self._absent = ""
        self._broken = ""
        self._start()

    def _start(self) -> None:
        self._worker = _Worker(self._spec)
        line = self._worker.receive(LOAD_LIMIT)
        if line is None:
            self._broken = f"the subject could not be loaded: {self._worker.end()}"
            self._worker = None
            return
        hello = json.loads(line)
        if "absent" in hello:
            self.report.name, self.report.ground = hello["name"], hello["ground"]
            self._absent = hello["absent"]
            self._worker.end()
            self._worker = None
            return
        self.report.name = hello["ready"]
        self.report.version = hello["version"]
        self.report.ground = hello["ground"]

    def _say(self, clause: Clause, outcome: Any, **fields: Any) -> Verdict:
        return Verdict(clause.id, self.report.name, outcome, **fields)

    def judge(self, clause: Clause) -> Verdict:
        """The verdict on one clause; a clause that shows at the end ends the process."""
        if self._worker is None and not self._absent and not self._broken:
            self._start()
        if self._absent:
            return self._say(clause, "absent", seen=self._absent)
        if self._worker is None:
            return self._say(clause, "broken", seen=self._broken)
        if any(check.at_exit for check in checks_of(clause.id)):
            return self._at_exit(clause, self._worker)
        self._worker.send(clause.id)
        trying = {"expected": clause.says, "snippet": ""}
        while True:
            line = self._worker.receive(CHECK_LIMIT)
            if line is None:
                return self._crashed(clause, trying)
            answer = json.loads(line)
            if "trying" in answer:
                trying = answer["trying"]
                continue
            return Verdict(**answer["verdict"])

    def _crashed(self, clause: Clause, trying: dict[str, str]) -> Verdict:
        assert self._worker is not None
        how = self._worker.end()
        self._worker = None
        self.report.crashes += 1
        outcome = "fail" if clause.accuses else "noted"
        return self._say(clause, outcome, seen=how, **trying)

    def _at_exit(self, clause: Clause, worker: _Worker) -> Verdict:
        """Let the process end and see whether it survives what the check armed."""
        worker.send(f"exit {clause.id}")
        trying = {"expected": clause.says, "snippet": ""}
        while True:
            line = worker.receive(CHECK_LIMIT)
            if line is None:
                return self._crashed(clause, trying)
            answer = json.loads(line)
            if "trying" not in answer:
                break
            trying = answer["trying"]
        self._worker = None
        if "verdict" in answer:
            worker.end()
            return Verdict(**answer["verdict"])
        worker.close_input()
        survived = worker.receive(CHECK_LIMIT)
        how = worker.end()
        if survived == "survived":
            return self._say(clause, "pass")
        return self._say(clause, "fail", seen=how, **trying)

    def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None


def confirm(snippet: str) -> bool:
    """Whether a snippet shows its failure in a fresh interpreter, without this suite.

    It does when the process dies of a signal or of an AssertionError; any other end
    means that the snippet itself is wrong.
    """
    if not snippet:
        return False
    try:
        with tempfile.TemporaryDirectory() as empty:  # nothing there to import by mistake
            ended = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", snippet],
                capture_output=True,
                text=True,
                timeout=SNIPPET_LIMIT,
                env=environment(),
                cwd=empty,
            )
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode < 0 or "\nAssertionError" in ended.stderr
