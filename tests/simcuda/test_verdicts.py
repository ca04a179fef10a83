"""The simulated driver is a verified fake: a device must give the same verdicts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dlexchange.testing.driver import library_path

SCRIPT = Path(__file__).with_name("verdicts.py")


def verdicts_of(path: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), path],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "SIMCUDA_LAZY_QUERIES": "0"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def has_device() -> bool:
    """Whether a real CUDA driver with a device is here, asked in a process of its own."""
    code = (
        "import ctypes; cuda = ctypes.CDLL('libcuda.so.1'); "
        "raise SystemExit(hasattr(cuda, 'simcuda_reset') or cuda.cuInit(0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    return done.returncode == 0


def test_every_case_has_a_verdict_on_the_simulated_driver() -> None:
    answer = verdicts_of(str(library_path()))
    assert answer["device"].startswith("Simulated")
    verdicts = answer["verdicts"]
    assert len(verdicts) >= 30
    assert [label for label, verdict in verdicts.items() if isinstance(verdict, str)] == []
    assert verdicts["gate_holds_its_stream_until_the_host_stores"] == [600, 600, 0, 0, 0]
    assert verdicts["legacy_waits_for_blocking_streams_only"] == [600, 0]


@pytest.mark.gpu
def test_device_gives_the_verdicts_of_the_simulated_driver() -> None:
    if not has_device():
        pytest.skip("no CUDA device: the simulated driver is not compared with one here")
    real = verdicts_of("libcuda.so.1")["verdicts"]
    simulated = verdicts_of(str(library_path()))["verdicts"]
    differences = {
        label: {"device": real[label], "simulated": simulated[label]}
        for label in simulated
        if real[label] != simulated[label]
    }
    assert differences == {}
