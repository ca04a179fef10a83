"""What the README shows is what commands print: ``python tests/readme.py`` fills it in.

The output of its example, the numbers between ``<!--name-->`` and ``<!---->``, and the
matrices. `test_readme.py` demands that the file is what this writes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"

#: Frameworks that can have arrays on a machine without a GPU, in the matrix's order.
MATRIX = (
    "numpy torch jax tvm_ffi array_api_strict pyarrow awkward mlx tensorflow paddle "
    "onnxruntime warp drjit cuda_core"
).split()
MARKS = {"shared": "●", "copied": "○", "refused": "-"}


def example(text: str) -> str:
    """Return the first block of code."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]


def shown(text: str) -> str:
    """Return the output that stands under the first block of code."""
    return re.findall(r"```text\n(.*?)```", text, re.DOTALL)[0]


def output(code: str) -> str:
    """Run code in a fresh interpreter."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def numbers() -> dict[str, str]:
    """Compute every number of the README, by its name there."""
    import dlexchange._core as core

    host = json.loads((ROOT / "benchmarks" / "results" / "host.json").read_text())
    unconditional = [line for line in requires("dlexchange") or [] if "extra ==" not in line]
    symbols = _said("nm", "-D", "--defined-only", core.__file__).splitlines()
    counted = _said(sys.executable, "-m", "dlexchange.conformance", "--count")
    clauses, checked = re.findall(r"(\d+) (?:clauses|with a check)", counted)
    return {
        "dependencies": str(len(unconditional)),
        "symbols": str(sum(" T " in line and "__asan" not in line for line in symbols)),
        "torch-numpy": _ratio(host, "torch -> numpy", "unique", "np.from_dlpack"),
        "numpy-torch": _ratio(host, "numpy -> torch", "", "torch.from_dlpack"),
        "clauses": clauses,
        "checked": checked,
    }


def written(text: str) -> dict[str, str]:
    """Return the numbers that stand in the README."""
    return dict(re.findall(r"<!--([\w-]+)-->([^<\n]+)<!---->", text))


def block(text: str, name: str) -> str:
    """Return the lines that stand in the README between the marks of that name."""
    return re.findall(rf"<!--{name}-->\n(.*?)<!---->", text, re.DOTALL)[0]


def conformance() -> str:
    """Draw the summary of the committed report."""
    path = ROOT / "spec" / "report" / "report.json"
    return _said(sys.executable, "-m", "dlexchange.conformance", "--summary", str(path))


def matrix(pairs: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """Return a mark for each pair of the doctor's report."""
    return {(p["producer"], p["consumer"]): MARKS[p["outcome"]] for p in pairs}


def drawn(cells: dict[tuple[str, str], str]) -> str:
    """Draw the table."""
    head = ["", *MATRIX]
    rows = [[f"**{a}**", *(cells[a, b] for b in MATRIX)] for a in MATRIX]
    lines = [head, [":--", *[":-:"] * len(MATRIX)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def table(text: str) -> dict[tuple[str, str], str]:
    """Read the matrix that stands in the README."""
    lines = re.findall(r"^\|(.*)\|$", block(text, "matrix"), re.MULTILINE)
    rows = [[cell.strip(" *") for cell in line.split("|")] for line in lines]
    names = rows[0][1:]
    return {(row[0], b): cell for row in rows[2:] for b, cell in zip(names, row[1:], strict=True)}


def _said(*command: str) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=300, cwd=ROOT
    ).stdout


def _ratio(host: dict[str, Any], pair: str, state: str, peer: str) -> str:
    (contenders,) = (
        group["contenders"]
        for group in host["groups"]
        if (group["pair"], group["kind"], group["state"]) == (pair, "16 floats", state)
    )
    (found,) = (c for c in contenders if c["name"] == peer)
    return f"{found['ratio_to_ours']['median']:.1f}"


def main() -> None:
    """Write the README anew; needs every framework of the matrix."""
    text = README.read_text()
    text = text.replace(f"```text\n{shown(text)}```", f"```text\n{output(example(text))}```", 1)
    for name, value in numbers().items():
        text = re.sub(rf"(<!--{name}-->)[^<\n]*(<!---->)", rf"\g<1>{value}\g<2>", text)
    report = json.loads(_said(sys.executable, "-m", "dlexchange", "--json", "--only", *MATRIX))
    text = text.replace(block(text, "matrix"), drawn(matrix(report["pairs"])) + "\n")
    text = text.replace(block(text, "conformance"), conformance())
    README.write_text(text)


if __name__ == "__main__":
    main()
