"""warp, on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import warp as wp
from layouts import FLOATS, INTEGERS, Peer

import dlexchange as dx

wp.config.quiet = True
wp.init()

_DTYPES = ("bool", *INTEGERS, *FLOATS)


def _read(x: wp.array) -> np.ndarray:
    return dx.to_numpy(x) if x.dtype is wp.bfloat16 else x.numpy()


PEER = Peer(
    name="warp",
    takes=(*_DTYPES, "bfloat16"),
    read=_read,
    address=lambda x: x.ptr,
    make=lambda array: wp.array(array, device="cpu"),
    makes=_DTYPES,
    refuses=("scalar",),
    keeps_read_only=False,
)


def test_views_are_what_warp_shows() -> None:
    x = wp.array(np.arange(12, dtype=np.float32).reshape(3, 4), device="cpu")
    for view in (x.transpose(), x[1:, ::2], x[1]):
        assert dx.to_numpy(view).tolist() == view.numpy().tolist()


def test_vectors_and_matrices_become_dimensions() -> None:
    vectors = wp.array(np.arange(6, dtype=np.float32).reshape(2, 3), dtype=wp.vec3, device="cpu")
    assert dx.to_numpy(vectors).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_structured_arrays_are_refused() -> None:
    @wp.struct
    class Pair:
        x: float

    with pytest.raises(RuntimeError, match="structured"):
        dx.from_dlpack(wp.zeros(2, dtype=Pair, device="cpu"))
