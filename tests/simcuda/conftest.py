"""Fixtures of the simulated driver's own tests."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from dlexchange.testing import Simulation, simulated_cuda

POLICIES = [("lazy", 0), ("eager", 0), ("random", 1), ("random", 2), ("random", 3)]


@pytest.fixture
def sim() -> Iterator[Simulation]:
    """One simulated device, the lazy scheduler."""
    with simulated_cuda() as sim:
        yield sim


@pytest.fixture(params=POLICIES, ids=lambda p: f"{p[0]}{p[1] or ''}")
def any_sim(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    """One simulated device, under each policy in turn."""
    policy, seed = request.param
    with simulated_cuda(policy=policy, seed=seed) as sim:
        yield sim


@dataclass
class Child:
    """What a child process left behind; returncode is None if it had to be ended."""

    returncode: int | None
    output: str


@pytest.fixture
def child() -> Callable[..., Child]:
    """Run Python code in a process of its own, with a time limit."""

    def run(code: str, timeout: float = 60, **environment: str) -> Child:
        try:
            done = subprocess.run(
                [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout,
                env={**os.environ, **environment},
            )
        except subprocess.TimeoutExpired as expired:
            output = expired.stdout or b""
            return Child(None, output.decode() if isinstance(output, bytes) else output)
        return Child(done.returncode, done.stdout)

    return run
