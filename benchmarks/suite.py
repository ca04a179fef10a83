"""The host suite: prove every contender, time it, set it beside the floor and the target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks import cases, floor, frameworks, peers, target, timing, values, versions
from benchmarks.cases import FLOOR, OURS, Case


def run(
    selected: Sequence[Case], *, rounds: int, round_ns: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Run the cases; returns the document that is written as JSON."""
    known = peers.load()
    guarantees = _guarantees(known)
    groups = []
    for case in selected:
        groups.append(_run_case(case, known, rounds=rounds, round_ns=round_ns))
        say(case.name)
    return {
        "suite": "host",
        "rounds": rounds,
        "round_ns": round_ns,
        "environment": versions.describe(),
        "guarantees": guarantees,
        "absent": dict(_absent(known)),
        "groups": groups,
        "target": list(target.verdicts(groups)),
    }


def _run_case(
    case: Case, known: tuple[peers.Peer, ...], *, rounds: int, round_ns: int
) -> dict[str, Any]:
    sources = case.sources()
    contenders = case.contenders(known, sources)
    memory = {contender.name: cases.prove(contender, sources) for contender in contenders}
    figures = timing.measure(contenders, rounds=rounds, round_ns=round_ns)
    lines = []
    for name, found in figures.items():
        lines.append(
            {"name": name, "memory": memory[name], **timing.summary(found)}
            | {
                "ratio_to_floor": timing.ratio(found, figures[FLOOR]),
                "ratio_to_ours": timing.ratio(found, figures[OURS]),
            }
        )
    return {
        "pair": case.pair,
        "producer": case.producer,
        "consumer": case.consumer,
        "kind": case.kind.name,
        "state": case.state,
        "contenders": lines,
    }


def _absent(known: tuple[peers.Peer, ...]) -> Iterator[tuple[str, str]]:
    for peer in known:
        if peer.absent:
            yield peer.label, peer.absent
        elif peer.consumer not in frameworks.CONSUMERS:
            yield peer.label, f"no case of host memory ends in {peer.consumer}"


def _guarantees(known: tuple[peers.Peer, ...]) -> dict[str, dict[str, str]]:
    found = {
        OURS: (cases.OURS_GUARANTEES, cases.ours("tensor"), "f(x)"),
        FLOOR: (cases.FLOOR_GUARANTEES, floor.function("torch", "tensor"), "f(x)"),
    }
    for peer in known:
        found[peer.label] = (peer.guarantees, peer.function, peer.call)
    columns = {}
    for label, (said, function, call) in found.items():
        probed = "declared"
        takes_torch = label in (OURS, FLOOR) or any(
            p.label == label and "torch" in p.producers and not p.absent for p in known
        )
        if takes_torch and function is not None:
            probed = values.check(label, said.values, function, call)
        columns[label] = {
            "values": said.values,
            "values_by": probed,
            "ordering": said.ordering,
            "release": said.release,
            "capture": said.capture,
            "why": said.why,
        }
    return columns
