"""Stages and what follows what: a chain, or any graph without cycles."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .stage import Stage

__all__ = ["Graph"]


class Graph:
    """The stages of a pipeline, in the order they were made, and the edges between them."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.after: dict[Stage, list[Stage]] = {}
        self.before: dict[Stage, list[Stage]] = {}
        self.filter: Stage | None = None
        self.is_frozen = False

    def add(self, stage: Stage) -> None:
        """Add a stage, joined to nothing yet."""
        self._check_open()
        if any(stage.name == other.name for other in self.everything):
            raise ValueError(f"there is a stage {stage.name!r} already: give this one a name=")
        if stage.is_filter:
            if self.filter is not None:
                raise ValueError(f"the pipeline has a filter already: {self.filter.name!r}")
            self.filter = stage
        else:
            self.stages.append(stage)
            self.after[stage], self.before[stage] = [], []

    def join(self, a: Stage, b: Stage) -> None:
        """Let `b` follow `a`; the order of joining is the order of `b`'s arguments."""
        self._check_open()
        for stage in (a, b):
            if stage not in self.after:
                raise ValueError(f"{stage!r} cannot be joined by >> in this pipeline")
        if b in self.after[a]:
            raise ValueError(f"{a.name!r} >> {b.name!r} stands there already")
        if self._reaches(b, a):
            raise ValueError(f"{a.name!r} >> {b.name!r} would close a cycle")
        self.after[a].append(b)
        self.before[b].append(a)

    def check(self) -> None:
        """Raise where the stages do not make one pipeline."""
        if not self.stages:
            raise ValueError("the pipeline has no stage")
        for stage in self.stages:
            if len(self.stages) > 1 and not self.after[stage] and not self.before[stage]:
                raise ValueError(f"stage {stage.name!r} is joined to no other: use >>")

    @property
    def everything(self) -> list[Stage]:
        """All stages, the filter last."""
        return [*self.stages, *([self.filter] if self.filter else [])]

    @property
    def sources(self) -> list[Stage]:
        """The stages that are given what the caller gives."""
        return [stage for stage in self.stages if not self.before[stage]]

    @property
    def sinks(self) -> list[Stage]:
        """The stages whose results the caller gets."""
        return [stage for stage in self.stages if not self.after[stage]]

    def _reaches(self, a: Stage, b: Stage) -> bool:
        return a is b or any(self._reaches(stage, b) for stage in self.after[a])

    def _check_open(self) -> None:
        if self.is_frozen:
            raise RuntimeError("the pipeline is running: add and join stages before it is entered")
