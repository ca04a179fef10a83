"""The whole run on a machine with a GPU: each case in a process of its own, one JSON.

A case that crashes, hangs or can not run is a line of the result and stops no other.
``--rehearse`` runs the same program on the simulated driver, to see that it runs.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import report, versions

#: Module, seconds it may take, and what a rehearsal makes smaller.
CASES: dict[str, tuple[int, dict[str, int]]] = {
    "counts": (60, {"turns": 10}),
    "costs": (120, {"rounds": 3, "turns": 8}),
    "blocking": (90, {"rounds": 2}),
    "threads": (60, {"rounds": 3, "turns": 16}),
    "stages": (60, {"items": 4, "rounds": 2}),
    "release": (60, {"items": 4, "elements": 64}),
    "soak": (120, {"turns": 400, "warm_up": 400}),
}
#: What must hold on a device beside the times: command after ``python -m``, and seconds.
CHECKS: dict[str, tuple[list[str], int]] = {
    "tests marked gpu": (["pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", "tests"], 120),
    "conformance": (["dlexchange.conformance", "torch-cuda", "cupy", "dlexchange-cuda"], 90),
    "demonstration": (["dlexchange"], 90),
}
#: For everything after the build; what would not fit any more is not run, and says so.
BUDGET_S = 520
_ROOT = Path(__file__).resolve().parents[2]
_JSON_LINE = "result: "


def main(path: Path, *, only: list[str] | None, rehearse: bool) -> int:
    """Run every case, print a summary, write the JSON; 1 if one failed or missed a limit."""
    from benchmarks.gpu import costs, machine, questions

    start = time.monotonic()
    chosen = [name for name in CASES if not only or name in only]
    if not chosen:
        sys.stderr.write(f"no such case; there are {', '.join(CASES)}\n")
        return 2
    end = start + BUDGET_S
    checks = (
        {} if rehearse or only else {name: _check(*check, end) for name, check in CHECKS.items()}
    )
    cases = {name: _in_child(name, end, rehearse=rehearse) for name in chosen}
    jax = _ask_jax("cpu" if rehearse else "gpu", end)
    answers = [*questions.ask_all(simulated=rehearse), jax]
    document = {
        "suite": f"gpu, {machine.SIMULATED}" if rehearse else "gpu",
        "environment": versions.describe(),
        "build": os.environ.get("DLEXCHANGE_BENCHMARKS_BUILD", "installed before"),
        "device": next((c["device"] for c in cases.values() if "device" in c), "none"),
        "seconds": round(time.monotonic() - start, 1),
        "checks": checks,
        "cases": cases,
        "questions": answers,
    }
    print(report.environment(document))
    print(f"{document['suite']}; {document['device']}; {document['seconds']} s\n")
    print(costs.table(cases.get("costs", {})))
    summary = [*((name, "", check["verdict"]) for name, check in checks.items()), *_summary(cases)]
    print(report.table(("", "", "verdict"), summary))
    print(f"\n{questions.table(answers)}")
    report.write(document, path)
    print(f"written: {path}")
    bad = [line for line in summary if line[-1].startswith(("FAILED", "missed", "not run"))]
    return int(bool(bad) and not (rehearse and all(line[-1] == "missed" for line in bad)))


def _check(command: list[str], limit: int, end: float) -> dict[str, Any]:
    """Run a command; passed by its exit status, with the end of what it printed."""
    limit = min(limit, int(end - time.monotonic()))
    if limit <= 0:
        return {"verdict": "not run: out of time"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
            cwd=_ROOT,
        )
    except subprocess.TimeoutExpired:
        return {"verdict": f"FAILED: not done in {limit} s"}
    verdict = "passed" if done.returncode == 0 else f"FAILED: exit {done.returncode}"
    return {"verdict": verdict, "said": done.stdout[-4000:]}


def _in_child(name: str, end: float, *, rehearse: bool) -> dict[str, Any]:
    print(f"  {name}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.gpu.device", name]
    command += ["--rehearse"] if rehearse else []
    return _run(command, CASES[name][0], end)


def _ask_jax(kind: str, end: float) -> dict[str, Any]:
    found = _run([sys.executable, "-m", "benchmarks.gpu.jax_deleter", kind], 90, end)
    return found if "answer" in found else {"id": "jax-deleter", "answer": found["error"]} | found


def _run(command: list[str], limit: int, end: float) -> dict[str, Any]:
    start = time.monotonic()
    limit = min(limit, int(end - start))
    if limit <= 0:
        return {"error": "out of time"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, cwd=_ROOT)
    except subprocess.TimeoutExpired:
        return {"error": f"not done in {limit} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith(_JSON_LINE)]
    if done.returncode != 0 or not lines:
        said = done.stderr.strip().splitlines() or ["nothing said"]
        error = f"exit {done.returncode}: {said[-1]}"
        return {"error": error, "stderr": done.stderr[-3000:]}
    found: dict[str, Any] = json.loads(lines[-1].removeprefix(_JSON_LINE))
    return found | {"seconds": round(time.monotonic() - start, 1)}


def _summary(cases: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """One line a verdict; a case without any says what became of it."""
    for name, case in cases.items():
        found = list(_verdicts(case))
        if "error" in case:
            yield name, "", f"FAILED: {case['error']}"
        elif not found:
            yield name, "", f"not run: {case['not run']}" if "not run" in case else "measured"
        yield from ((name, what, verdict) for what, verdict in found)


def _verdicts(found: Any, what: str = "") -> Iterator[tuple[str, str]]:
    """Every verdict in a result, wherever it stands, with what it is about."""
    if isinstance(found, list):
        for each in found:
            yield from _verdicts(each, what)
    elif isinstance(found, dict):
        about = [str(found[key]) for key in ("pair", "who", "limit") if key in found]
        what = ", ".join(about) or what
        if "verdict" in found:
            yield what, found["verdict"]
        for key, each in found.items():
            if isinstance(each, (list, dict)) and key != "calls":
                yield from _verdicts(each, what)


def child(name: str, *, rehearse: bool) -> None:
    """Run one case in this process and print its result."""
    from benchmarks.gpu import machine

    case = importlib.import_module(f"benchmarks.gpu.{name}")
    smaller = CASES[name][1] if rehearse else {}
    with machine.simulated() if rehearse else machine.gpu() as here:
        found = {"device": here.name, **case.run(here, **smaller)}
    print(_JSON_LINE + json.dumps(found))


if __name__ == "__main__":
    child(sys.argv[1], rehearse="--rehearse" in sys.argv[2:])
