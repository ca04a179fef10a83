"""The host suite under pytest-benchmark: ``pytest benchmarks/``.

A round is `TURNS` hand-offs in one loop, so that the plugin's own call does not count;
its microseconds a round are nanoseconds a hand-off. The plugin runs one contender after
the other: for ratios that noise has not bent, take ``python -m benchmarks``.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import cases, peers, timing
from benchmarks.cases import FLOOR, OURS, Case

TURNS = 1_000


def _names() -> list[tuple[Case, str]]:
    found = []
    for case in cases.all_cases():
        labels = [peer.label for peer in peers.modules() if cases.takes(peer, case)]
        found += [(case, name) for name in (OURS, FLOOR, *labels)]
    return found


@pytest.mark.parametrize(
    ("case", "name"), _names(), ids=lambda v: v.name if isinstance(v, Case) else v
)
def test_hand_off(benchmark: Any, case: Case, name: str) -> None:
    for peer in peers.load():
        if peer.label == name and peer.absent:
            pytest.skip(f"absent: {peer.absent}")
    sources = case.sources()
    contenders = case.contenders(peers.load(), sources)
    (contender,) = (one for one in contenders if one.name == name)
    benchmark.group = case.name
    benchmark.name = name
    benchmark.extra_info["memory"] = cases.prove(contender, sources)
    benchmark.extra_info["hand_offs_a_round"] = TURNS
    loop = timing.make_loop(contender.call)
    with timing.quiet_collector():
        benchmark(loop, contender.function, contender.x, TURNS)


@pytest.mark.parametrize("label", [peer.label for peer in peers.modules()])
def test_peer_is_here(label: str) -> None:
    (peer,) = (peer for peer in peers.load() if peer.label == label)
    if peer.absent:
        pytest.skip(f"absent: {peer.absent}")
    assert callable(peer.function)
