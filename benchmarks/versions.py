"""Where a result comes from: machine, interpreter, and every version that counts."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "dlexchange",
    "numpy",
    "torch",
    "jax",
    "jaxlib",
    "apache-tvm-ffi",
    "cuda-core",
    "cupy-cuda13x",
    "jax-cuda13-plugin",
    "nvidia-cuda-cupti",
    "nanobind",
    "pytest-benchmark",
    "matplotlib",
)


def package_versions() -> dict[str, str]:
    """Version by name; ``"absent"`` where the package is not installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def cpu_name() -> str:
    """The processor's name as the kernel has it."""
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def describe() -> dict[str, object]:
    """Machine and versions, for the head of every result file."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "gpu": _gpu_name(),
        "virtual": any("hypervisor" in line for line in _lines("/proc/cpuinfo")),
        "kernel": platform.release().partition("-")[0],
        "machine": platform.machine(),
        "python": sys.version.split()[0],
        "python_compiler": platform.python_compiler(),
        "python_flags": sysconfig.get_config_var("OPT") or "",
        "compiler": _first_line(os.environ.get("CC", "cc"), "--version"),
        "commit": os.environ.get("DLEXCHANGE_BENCHMARKS_COMMIT")  # in a copy without git
        or _first_line("git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"),
        "versions": package_versions(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.partition("\n")[0]


def _gpu_name() -> str:
    name = _first_line("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    return "none" if name == "unknown" else name
