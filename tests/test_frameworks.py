"""Every framework with an adapter, each in a process of its own.

Some frameworks crash when they are loaded together, so none of them is loaded here. One
that is not installed is reported as absent.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dlexchange as dx
from dlexchange.doctor.pairs import environment

HERE = Path(__file__).parent / "frameworks"
PEERS = sorted(path.stem for path in (HERE / "peers").glob("[a-z]*.py"))


def test_peers_are_found() -> None:
    assert len(PEERS) >= 13


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS)
def test_peer(peer: str) -> None:
    """Run the battery and the framework's own tests; count that some were run."""
    if peer not in [info.name for info in dx.frameworks()]:
        pytest.skip(f"absent: {peer} is not installed")
    own = HERE / "peers" / f"{peer}.py"
    files = [own] if "PEER = " not in own.read_text() else [HERE / "battery.py", own]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default", *files],
        env={**environment(), "DLX_PEER": peer, "PYTHONPATH": os.pathsep.join([str(HERE)])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout
    assert int(passed[1]) >= 2
