"""Instructions a hand-off, counted by callgrind: a guard that no noise can fool.

``python -m benchmarks.instructions`` counts the main pairs, compares with the committed
``results/instructions.json`` and exits 1 where a count grew by more than 3 %.
``--update`` writes the file. Only what runs inside ``dlx_bench_counted_calls`` is
collected, in the one thread that calls it; the empty call's count is taken off.

Counts hold for one set of versions and one compiler: where those differ from the file's,
the command says so and compares nothing, which is exit status 2 and never a pass.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report, versions

PAIRS = (
    ("numpy", "tensor"),
    ("torch", "tensor"),
    ("torch", "numpy"),
    ("numpy", "torch"),
    ("torch", "torch"),
    ("tvm", "numpy"),
    ("tvm", "torch"),
    ("jax", "numpy"),
)
MARGIN = 0.03
TURNS = 2_000
WARM_UP = 500
COUNTED = "dlx_bench_counted_calls"
MUST_AGREE = ("dlexchange", "numpy", "torch", "jax", "jaxlib", "apache-tvm-ffi")


def count(names: Sequence[str]) -> list[dict[str, Any]]:
    """Run hand-offs under callgrind, one profile each; instructions a call by object.

    A name is ``producer-consumer-who``, `who` one of ours, floor, empty. A run without
    callgrind comes first: it leaves bytecode and the built floor behind, without which the
    heap, and with it malloc's path, would be another.
    """
    child = [sys.executable, "-m", "benchmarks.instructions", "--child", *names]
    subprocess.run(child, check=True, env=_environment())
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "callgrind.out"
        command = [
            *_fixed_addresses(),
            "valgrind",
            "--tool=callgrind",
            "--quiet",
            f"--toggle-collect={COUNTED}",
            f"--dump-after={COUNTED}",
            f"--callgrind-out-file={out}",
            *child,
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=_environment())
        if done.returncode != 0:
            raise RuntimeError(f"valgrind ended with {done.returncode}: {done.stderr[-2000:]}")
        parts = [Path(f"{out}.{number + 1}").read_text() for number in range(len(names))]
    found = []
    for objects in map(by_object, parts):
        each = {name: round(cost / TURNS, 1) for name, cost in sorted(objects.items())}
        each = {name: cost for name, cost in each.items() if cost}
        found.append({"total": round(sum(objects.values()) / TURNS, 1), "objects": each})
    return found


def by_object(text: str) -> dict[str, int]:
    """Exclusive instructions by shared object, of a callgrind file.

    The format names a thing once, ``ob=(id) path``, and then by its id. The line after
    ``calls=`` is the inclusive cost of a call: it counts for the callee, not here.
    """
    paths: dict[str, str] = {}
    cost: dict[str, int] = defaultdict(int)
    current, is_call = "", False
    for line in text.splitlines():
        if line.startswith(("ob=", "cob=")):
            ident, _, path = line.partition("=")[2].partition(" ")
            if path:
                paths[ident] = path
            if line.startswith("ob="):
                current = ident
        elif line.startswith("calls="):
            is_call = True
        elif line[:1].isdigit() or line[:1] in "+-*":
            if not is_call:
                cost[_owner(paths.get(current, "???"))] += sum(map(int, line.split()[1:2]))
            is_call = False
    return dict(cost)


def _owner(path: str) -> str:
    """The package that a shared object belongs to, or the library's own name."""
    _, _, inside = path.rpartition("site-packages/")
    name = Path(path).name.partition(".")[0]
    if inside != path and inside:
        return inside.partition("/")[0]
    if name.startswith(("python", "libpython")):
        return "python"
    return {"ld-linux-x86-64": "libc", "_floor": "floor", "???": "other"}.get(name, name)


def _fixed_addresses() -> list[str]:
    setarch = shutil.which("setarch")
    return [setarch, platform.machine(), "-R"] if setarch else []


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONHASHSEED": "0", "JAX_PLATFORMS": "cpu"}


def child(names: Sequence[str]) -> None:
    """What callgrind runs: for each name, warm up, then the counted calls."""
    import gc

    from benchmarks import cases, floor, frameworks

    counted_calls = floor.extension().counted_calls
    gc.disable()
    for name in names:
        producer, consumer, who = name.split("-")
        source = frameworks.make_source(producer, cases.KINDS[0].make)
        if who == "empty":
            function = floor.extension().nothing
        elif who == "floor":
            function = floor.function(producer, consumer)
        else:
            function = cases.ours(consumer)
        for _ in range(WARM_UP):
            function(source.array)
        counted_calls(function, source.array, TURNS)


def count_all(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Every pair, ours and the floor, less the empty call."""
    names = ["numpy-tensor-empty"]
    names += [f"{a}-{b}-{who}" for a, b in pairs for who in ("ours", "floor")]
    counted = dict(zip(names, count(names), strict=True))
    empty = counted.pop("numpy-tensor-empty")["total"]
    found: dict[str, Any] = {"empty call": empty}
    for name, line in counted.items():
        producer, consumer, who = name.split("-")
        line["net"] = round(line["total"] - empty, 1)
        found[f"{producer} -> {consumer}, {who}"] = line
    return found


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, float, float, str]]:
    """Lines of name, committed, counted, verdict; only ours is held to the margin."""
    lines = []
    for name, counted in new.items():
        if name == "empty call":
            continue
        before = old.get(name, {}).get("net")
        if before is None:
            verdict = "new"
        elif name.endswith("floor"):
            verdict = "shown"
        elif counted["net"] > before * (1 + MARGIN):
            verdict = "GREW"
        else:
            verdict = "met"
        lines.append((name, "-" if before is None else before, counted["net"], verdict))
    return lines


def main() -> int:
    """Count, compare, and with ``--update`` write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument("--update", action="store_true", help="write the committed file")
    names = ["-".join(pair) for pair in PAIRS]
    parser.add_argument("--pair", choices=names, help="only one pair, as numpy-torch")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return 0
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: nothing was counted")
        return 2
    pairs = tuple(p for p in PAIRS if options.pair in (None, "-".join(p)))
    path = report.RESULTS / "instructions.json"
    environment = versions.describe()
    counts = count_all(pairs)
    old = json.loads(path.read_text()) if path.exists() else {"counts": {}}
    lines = compare(old["counts"], counts)
    print(report.table(("pair", "committed", "counted", "verdict"), lines))
    if options.update:
        merged = counts if options.pair is None else old["counts"] | counts
        document = {"suite": "instructions", "turns": TURNS, "margin": MARGIN}
        report.write(document | {"environment": environment, "counts": merged}, path)
        print(f"written: {path}")
        return 0
    return _judge(old, environment, lines)


def _judge(old: dict[str, Any], environment: dict[str, Any], lines: list[Any]) -> int:
    if "environment" not in old:
        print("no committed counts: run with --update")
        return 2
    then = old["environment"]
    differ = [
        f"{name} {then['versions'][name]} -> {environment['versions'][name]}"
        for name in MUST_AGREE
        if then["versions"][name] != environment["versions"][name]
    ]
    differ += [k for k in ("python", "compiler", "machine") if then[k] != environment[k]]
    if differ:
        print(f"not comparable with the committed counts: {', '.join(differ)}")
        return 2
    return int(any(line[-1] == "GREW" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
