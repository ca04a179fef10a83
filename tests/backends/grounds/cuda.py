"""A real CUDA device: the place for it, which no machine of this project's tests has filled."""

from __future__ import annotations

from .. import grounds


class Ground(grounds.Ground):
    name = "cuda"

    @staticmethod
    def absent() -> str:
        return "no framework of the tests makes arrays on a real GPU yet; not run on a GPU"
