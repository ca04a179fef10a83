"""The examples run as programs, and print what they say."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

pytestmark = pytest.mark.slow


def need(*modules: str) -> None:
    for module in modules:
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            pytest.skip(f"absent: {module} is not installed")


def output(name: str, *arguments: object) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(HERE / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_torch_jax_and_numpy_make_images_as_numpy_alone_does(tmp_path: Path) -> None:
    need("torch", "jax", "numpy", "anyio")
    assert output("images.py", tmp_path) == [
        "one image (3, 32, 32) uint8",
        "preview 0 (8, 8)",
        "preview 2 (8, 8)",
        "preview 4 (8, 8)",
        "the result (3, 32, 32)",
        "many images 8 as numpy alone, but for rounding: True",
    ]
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {e["name"].split()[0] for e in events if e.get("cat") == "run"} == {
        "denoise",
        "colour",
        "pack",
        "preview",
    }
    assert (tmp_path / "pipeline.svg").read_text().startswith("<svg")


def test_cuda_core_and_numba_keep_order_on_the_simulated_driver() -> None:
    need("cuda.core", "numba.cuda", "anyio")
    assert output("simulated.py") == [
        "3 True Tensor",
        "7 True Tensor",
        "findings []",
        "device synchronisations 0",
    ]


@pytest.mark.gpu
def test_torch_and_cupy_on_a_gpu_make_what_torch_alone_does() -> None:
    need("torch", "cupy", "anyio")
    import torch

    if not torch.cuda.is_available():
        pytest.skip("absent: no CUDA device")
    (line,) = output("gpu.py")
    assert line.startswith("images 8 as torch alone; host waits ")


def test_every_example_is_on_the_list() -> None:
    page = (HERE / "README.md").read_text()
    programs = [path.name for path in HERE.glob("*.py") if not path.name.startswith(("test_", "_"))]
    assert len(programs) == 3
    assert all(f"`{name}`" in page for name in programs)
