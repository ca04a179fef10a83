"""array-api-strict."""

from __future__ import annotations

import array_api_strict
import numpy as np
from layouts import COMPLEX, INTEGERS, Peer

_DTYPES = ("bool", *INTEGERS, "float32", "float64", *COMPLEX)

PEER = Peer(
    name="array_api_strict",
    takes=_DTYPES,
    read=np.from_dlpack,
    address=lambda x: np.from_dlpack(x).__array_interface__["data"][0],
    make=array_api_strict.asarray,
    makes=_DTYPES,
    views=lambda x: [x.T, x[1:, ::2], x[::-1, :], x[2, :]],
)
