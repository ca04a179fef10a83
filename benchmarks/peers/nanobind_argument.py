"""A nanobind function that does nothing, called with the array: conversion and call.

The module is compiled here, against the nanobind that is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import build
from benchmarks.peers.contract import Absent, Guarantees, require

label = "nanobind argument"
consumer = "tensor"
producers = ("numpy", "torch", "jax", "tvm")
guarantees = Guarantees(
    values="no",
    ordering="no",
    release="no",
    capture="no",
    why="calls __dlpack__ without a stream and takes what comes, torch's neg bit included",
)
call_many = "f(*x)"


@cache
def _module() -> ModuleType:
    nanobind = require("nanobind")
    source = Path(nanobind.source_dir())
    robin_map = source.parent / "ext" / "robin_map" / "include"
    try:
        return build.load_extension(
            "_nanobind_peer",
            [source / "nb_combined.cpp", Path(__file__).with_suffix(".cpp")],
            [Path(nanobind.include_dir()), robin_map],
            stamp=nanobind.__version__,
        )
    except ImportError as error:
        raise Absent(f"the nanobind module does not build: {error}") from error


def setup() -> Callable[[Any], None]:
    return _module().nothing


def setup_many() -> Callable[..., None]:
    return _module().nothing_of_eight
