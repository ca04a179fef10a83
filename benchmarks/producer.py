"""What an export costs an author's users: the worked authors of tests/authors.

Two groups, each beside its own line: ``__dlpack__`` beside numpy's, and the C exchange
API's function beside torch's, 100 exports in one C loop. Every figure includes release;
none includes the author's own first export.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlexchange as dx
from benchmarks import build, frameworks, timing
from benchmarks.timing import Contender

_HERE = Path(__file__).resolve().parent
METHOD = "numpy.ndarray.__dlpack__"
TABLE = "torch's exchange API"

#: What is exported, and at most how many times its line it may cost.
METHOD_LIMITS = {"described each time": 5.0, "described once": 1.5, "C author": 1.2}
TABLE_LIMITS = {"described once": 1.2, "C author": 1.2}


def run(*, rounds: int, round_ns: int) -> list[dict[str, Any]]:
    """Time every author; one line a limit, as `target.verdicts` makes them."""
    made = _authors()
    values = frameworks.numpy_array(24).reshape(2, 3)
    method = [Contender(METHOD, None, "x.__dlpack__()", values)]
    method += [Contender(name, None, "x.__dlpack__()", x) for name, x in made.items()]
    found = timing.measure(method, rounds=rounds, round_ns=round_ns)
    lines = list(_verdicts(found, METHOD, METHOD_LIMITS))
    table = []
    if frameworks.has("torch"):
        import torch

        made[TABLE] = torch.zeros(2, 3)
        table = [_by_table(name, made[name]) for name in (TABLE, *TABLE_LIMITS)]
    found = timing.measure(table, rounds=rounds, round_ns=round_ns) if table else {}
    return [*lines, *_verdicts(found, TABLE, TABLE_LIMITS)]


def _authors() -> dict[str, Any]:
    """An array of two rows and three columns by each author."""
    tests = str(_HERE.parent / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    from authors import c_extension, ctypes_library, pure_python

    return {
        "described each time": pure_python.Grid(range(6), (2, 3)),
        "described once": ctypes_library.Field(range(6), (2, 3)),
        "C author": c_extension.made(range(6), (2, 3)),
    }


def _by_table(name: str, x: Any) -> Contender:
    include = Path(dx.get_include())
    extension = build.load_extension(
        "_producer",
        [_HERE / "producer.c"],
        [include],
        depends=[include / "dlexchange" / "dlpack_abi.h"],
    )
    return Contender(name, extension.exporter(type(x).__dlpack_c_exchange_api__), "f(x)", x)


def _verdicts(
    found: dict[str, list[float]], line: str, limits: dict[str, float]
) -> Iterator[dict[str, Any]]:
    for name, limit in limits.items():
        said = {
            "pair": "producer",
            "state": name,
            "against": line,
            "limit": f"at most {limit:g} x",
        }
        if line in found:
            ratio = timing.ratio(found[name], found[line])
            met = ratio["median"] <= limit
            yield said | {"ratio": ratio, "verdict": "met" if met else "missed"}
        else:
            yield said | {"verdict": "not run"}
