"""The column *values*, seen and not only declared: torch's conj and neg bits.

Such a tensor's memory is not what the tensor shows. Handing it over rightly means to
refuse it or to resolve it; a result over the raw memory is wrong data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import frameworks


def _unlike_memory() -> Iterator[Any]:
    import torch

    x = torch.tensor([1 + 2j, 3 - 4j])
    yield x.conj()
    yield x.conj().imag
    yield x.conj().imag.as_strided((2,), (1,))  # dense, for those who refuse holes


def keeps_values(function: Callable[..., Any], call: str = "f(x)") -> bool | None:
    """Whether `call` refuses or resolves what is unlike its memory; None: not to be seen."""
    for x in _unlike_memory():
        try:
            result = eval(call, {"f": function, "x": x})
        except Exception:  # any refusal is right, each library has its own
            continue
        if result is None:
            return None
        if not _same_values(result, x):
            return False
    return True


def _same_values(result: Any, x: Any) -> bool:
    shown = frameworks.show(result)
    if shown is None:  # a bare view: over the raw memory it is wrong
        return frameworks.address_of(result) != x.data_ptr()
    return bool((shown == frameworks.show(x)).all())


def check(label: str, declared: str, function: Callable[..., Any], call: str) -> str:
    """Hold a declared column against what is seen; ``"seen"`` or ``"declared"``."""
    kept = keeps_values(function, call)
    if kept is None:
        return "declared"
    if kept != (declared == "yes"):
        raise AssertionError(f"{label} declares values={declared!r}, seen {kept}")
    return "seen"
