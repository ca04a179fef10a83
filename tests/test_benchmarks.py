"""The benchmarks' GPU part, on the simulated driver: counts hold, and the whole program runs.

Times are no matter of tests; what is counted is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*options: str, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, *options], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_hand_offs_cost_the_counted_driver_calls_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    run("-m", "benchmarks.gpu", "--simulated", "--json", str(path))
    cases = json.loads(path.read_text())["cases"]
    judged = [case for case in cases if case["limit"] is not None]
    assert len(judged) >= 8
    for case in judged:
        assert (list(case["calls"].values()), case["findings"]) == (case["limit"], []), case["case"]


def test_gpu_script_takes_no_option_for_its_result() -> None:
    command = ["bash", "benchmarks/gpu/run.sh", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=5)
    assert done.returncode == 2
    assert "usage: benchmarks/gpu/run.sh [RESULT.json]" in done.stderr


@pytest.mark.slow
def test_gpu_program_runs_on_the_simulated_driver(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    path = tmp_path / "rehearsal.json"
    said = run("-m", "benchmarks.gpu", "--rehearse", "--json", str(path))
    found = json.loads(path.read_text())
    assert "simulated" in found["suite"]
    assert "simulated" in said
    assert len(found["cases"]) == 7
    for name, case in found["cases"].items():
        assert "error" not in case, (name, case)
    for group in found["cases"]["counts"]["groups"]:
        assert group["verdict"] == "met", group
    answers = {line["id"]: line["answer"] for line in found["questions"]}
    assert answers["per-thread"].startswith("yes")
    assert "not answered" not in str(answers)


FED = """
import ctypes, json, struct
from benchmarks.gpu.native import Cupti
cupti = Cupti()
seen = cupti._library.cupti_seen
def call(name, site=0, domain=1):
    data = struct.pack("iP", site, ctypes.cast(name, ctypes.c_void_p).value)
    seen(None, domain, 0, data)
names = [ctypes.create_string_buffer(n) for n in (b"cuEventRecord_ptsz", b"cuEventDestroy_v2")]
for name in (*names, names[0]):
    call(name), call(name, site=1)
call(names[0], domain=4)
runtime = ctypes.create_string_buffer(b"cudaLaunchKernel_ptsz_v7000")
call(runtime, domain=2), call(runtime, domain=3)
print(json.dumps(cupti.counts()))
cupti.reset()
print(json.dumps(cupti.counts()))
"""


@pytest.mark.slow
def test_cupti_counter_counts_entries_by_plain_name_and_synchronisations() -> None:

    counted, after = map(json.loads, run("-c", FED).splitlines())
    assert counted == {
        "cuEventRecord": 2,
        "cuEventDestroy": 1,
        "cudaLaunchKernel": 1,
        "synchronised": 1,
    }
    assert after == {}
