"""A tvm-ffi function that does nothing, called with the array: conversion and call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.peers.contract import Guarantees, require

label = "tvm_ffi call"
consumer = "tensor"
producers = ("numpy", "torch", "jax", "tvm")
guarantees = Guarantees(
    values="no",
    ordering="no",
    release="no",
    capture="no",
    why="runs on the producer's stream; torch's conj and neg bits come through raw",
)
call_many = "f(*x)"


def setup() -> Callable[[Any], Any]:
    return require("tvm_ffi").get_global_func("testing.nop")
