"""Pipelines: stages in any frameworks, each in its thread and on its stream, asynchronous.

``Pipeline`` and its decorator ``stage`` are all that is needed; THREADS.md beside this file
says what may be done from where.
"""

# The layers, from the top: `pipeline` and `sync` are the faces, with and without an event
# loop. Below are the two engines, `threads` and `inline`, over `runner`, which runs one
# stage. `flow` moves requests, under one lock, and knows nothing of arrays. `message` and
# `currents` alone touch the exchange.

try:
    import anyio as _anyio  # noqa: F401
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "dlexchange.pipeline needs anyio: pip install anyio", name="anyio"
    ) from None

from .context import Context, Partial
from .future import Future
from .pipeline import Pipeline
from .progress import Progress
from .request import Part
from .stage import Stage
from .sync import SyncPipeline

__all__ = [
    "Context",
    "Future",
    "Part",
    "Partial",
    "Pipeline",
    "Progress",
    "Stage",
    "SyncPipeline",
]
