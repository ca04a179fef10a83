"""``python -m benchmarks``: the host suite, the soak, the growth curves."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks import report

#: What ``--all`` runs, one after the other, by the file of results/ that it writes.
EVERYTHING = {
    "host": ("benchmarks",),
    "growth": ("benchmarks", "--growth"),
    "soak": ("benchmarks", "--soak"),
    "soak-threads": ("benchmarks", "--soak-threads"),
    "timeline": ("benchmarks.timeline",),
    "pipeline": ("benchmarks.pipeline", "--json", str(report.RESULTS / "pipeline.json")),
    "sycl": ("benchmarks.sycl",),
    "gpu-simulated": ("benchmarks.gpu", "--simulated"),
    "instructions": ("benchmarks.instructions", "--update"),
}


def main() -> int:
    """Run what the arguments ask for; 1 where ``--strict`` finds a limit missed."""
    options = _parse()
    if options.all:
        return _all()
    if options.soak:
        from benchmarks import soak

        return soak.main(fast=options.fast, path=_path(options, "soak"))
    if options.soak_threads:
        from benchmarks import soak_threads

        return soak_threads.main(fast=options.fast, path=_path(options, "soak-threads"))
    if options.growth:
        from benchmarks import growth

        return growth.main(fast=options.fast, path=_path(options, "growth"))
    return _host(options)


def _all() -> int:
    """Run everything, whatever fails; the first bad exit status."""
    failed = {}
    for command in EVERYTHING.values():
        print(f"\n== python -m {' '.join(command)}\n", flush=True)
        status = subprocess.run([sys.executable, "-m", *command], check=False).returncode
        if status != 0:
            failed[" ".join(command)] = status
    for name, status in failed.items():
        print(f"exit {status}: python -m {name}")
    print("the pictures: python -m benchmarks.plots; the README: python tests/readme.py")
    return next(iter(failed.values()), 0)


def _host(options: argparse.Namespace) -> int:
    from benchmarks import cases, producer, push, suite

    selected = [
        case
        for case in cases.all_cases()
        if options.pair in (None, f"{case.producer}-{case.consumer}")
        and options.kind in (None, case.kind.name)
    ]
    if not selected:
        pairs = dict.fromkeys(f"{c.producer}-{c.consumer}" for c in cases.all_cases())
        kinds = ", ".join(repr(kind.name) for kind in cases.KINDS)
        sys.stderr.write(f"no such case; pairs: {', '.join(pairs)}; kinds: {kinds}\n")
        return 2
    document = suite.run(
        selected,
        rounds=options.rounds or (5 if options.fast else 300),
        round_ns=100_000 if options.fast else 250_000,
        say=lambda name: print(f"  {name}", file=sys.stderr, flush=True),
    )
    if not (options.pair or options.kind):
        document["target"] += producer.run(rounds=document["rounds"], round_ns=document["round_ns"])
    document["push"] = push.measure(3 if options.fast else 101)
    for part in (
        report.environment(document),
        report.groups(document),
        report.guarantees(document),
        report.absent(document),
        report.target(document),
        report.push(document),
    ):
        print(f"{part}\n")
    if options.fast:
        print("--fast: a smoke run; its ratios are not results")
    path = _path(options, "host")
    if path is not None:
        report.write(document, path)
        print(f"written: {path}")
    missed = any(line["verdict"] == "missed" for line in (*document["target"], document["push"]))
    return int(options.strict and missed)


def _path(options: argparse.Namespace, name: str) -> Path | None:
    """Where the JSON goes: a whole run writes the committed file, a part only on demand."""
    if options.json is not None:
        return options.json
    is_whole = not (options.fast or options.pair or options.kind)
    return report.RESULTS / f"{name}.json" if is_whole else None


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--all", action="store_true", help="everything that writes a result")
    what.add_argument("--soak", action="store_true", help="a million hand-offs of each pair")
    what.add_argument(
        "--soak-threads", action="store_true", help="eight threads on the simulated driver"
    )
    what.add_argument("--growth", action="store_true", help="cost against size of everything")
    parser.add_argument("--fast", action="store_true", help="a smoke run of a few seconds")
    parser.add_argument("--pair", help="only one pair, as numpy-torch")
    parser.add_argument("--kind", help="only one kind, as '16 floats'")
    parser.add_argument("--rounds", type=int, help="turns of the round-robin")
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--strict", action="store_true", help="exit 1 on a missed limit")
    options = parser.parse_args()
    ignored = ["pair", "kind", "rounds"] + ["fast", "json", "strict"] * options.all
    for what in ("all", "soak", "soak_threads", "growth"):
        for name in ignored:
            if getattr(options, what) and getattr(options, name):
                parser.error(f"--{what.replace('_', '-')} takes no --{name}")
    return options


if __name__ == "__main__":
    sys.exit(main())
