"""Any diffusers pipeline as a stage, unchanged, through its ``callback_on_step_end``.

Its own ``interrupt`` skips the remaining steps and still decodes; here the callback raises,
so that nothing of a cancelled request is computed any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .context import Context

__all__ = ["adapt"]


def adapt(load: Callable[[], Any], **options: Any) -> Any:
    """Make a stage function of a pipeline that calls back at the end of each step.

    Parameters
    ----------
    load : callable
        Returns the native pipeline; called once, in the stage's thread.
    **options
        For each call of it, such as ``num_inference_steps``.

    Returns
    -------
    object
        For ``pipe.stage(...)``. Steps are progress, checkpoints, and partial results (the
        latents, which are handed over like any result).
    """
    return _Adapted(load, options)


class _Adapted:
    def __init__(self, load: Callable[[], Any], options: dict[str, Any]) -> None:
        self._load = load
        self._options = options
        self._native: Any = None

    def load(self) -> None:
        self._native = self._load()

    def __call__(self, ctx: Context, x: Any) -> Any:
        def at_step_end(_native: Any, step: int, _timestep: Any, kept: dict[str, Any]) -> Any:
            ctx.emit(ctx.partial(kept.get("latents"), step=step))  # raises where cancelled
            return kept

        return self._native(x, callback_on_step_end=at_step_end, **self._options)
