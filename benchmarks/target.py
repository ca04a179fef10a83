"""What the project set itself: a table of limits, and the verdict on each row.

The rows are 16 floats in host memory. ``at_most`` is the ratio to the floor, ``faster``
the ratio of a peer's time to ours; both of the same run and the same ownership state.
What counts is the median of the ratios round by round.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

KIND = "16 floats"


@dataclass(frozen=True)
class Row:
    producer: str
    consumer: str
    at_most: float
    faster: tuple[tuple[str, float], ...]


ROWS = (
    Row("torch", "tensor", 1.6, (("tvm_ffi.from_dlpack", 2.0),)),
    Row("numpy", "tensor", 1.5, (("nanobind argument", 3.0),)),
    Row("torch", "numpy", 1.4, (("t.numpy()", 4.5), ("np.from_dlpack", 16.0))),
    Row("numpy", "torch", 1.15, (("torch.from_numpy", 1.15), ("torch.from_dlpack", 3.2))),
    Row("torch", "torch", 1.2, (("torch.from_dlpack", 9.0),)),
    Row("jax", "numpy", 1.2, (("np.from_dlpack", 4.0),)),
    Row("jax", "torch", 1.2, (("torch.from_dlpack", 4.0),)),
    Row("numpy", "jax", 1.15, (("jax.dlpack.from_dlpack", 5.5),)),
    Row("torch", "jax", 1.15, (("jax.dlpack.from_dlpack", 6.5),)),
    Row("tvm", "torch", 1.2, (("torch.from_dlpack", 2.5),)),
    Row("tvm", "numpy", 1.2, (("np.from_dlpack", 1.05),)),
)


def verdicts(groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One verdict a limit and ownership state: ``met``, ``missed``, or ``not run``."""
    for row in ROWS:
        pair = f"{row.producer} -> {row.consumer}"
        found = [g for g in groups if g["pair"] == pair and g["kind"] == KIND]
        for group in found or [{"state": "", "contenders": []}]:
            times = {c["name"]: c for c in group["contenders"]}
            base = {"pair": pair, "state": group["state"]}
            yield base | _verdict("floor", row.at_most, times, at_most=True)
            for peer, least in row.faster:
                yield base | _verdict(peer, least, times, at_most=False)


def _verdict(
    against: str, limit: float, times: dict[str, dict[str, Any]], *, at_most: bool
) -> dict[str, Any]:
    said = f"at most {limit:g} x floor" if at_most else f"at least {limit:g} x faster"
    line: dict[str, Any] = {"against": against, "limit": said}
    if against not in times:
        return line | {"verdict": "not run"}
    ratio = times["dlexchange"]["ratio_to_floor"] if at_most else times[against]["ratio_to_ours"]
    met = ratio["median"] <= limit if at_most else ratio["median"] >= limit
    return line | {"ratio": ratio, "verdict": "met" if met else "missed"}
