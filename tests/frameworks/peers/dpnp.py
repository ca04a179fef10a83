"""dpnp: SYCL memory, here of the OpenCL CPU device."""

from __future__ import annotations

import dpnp
import numpy as np
import pytest

import dlexchange as dx


@pytest.fixture
def array() -> np.ndarray:
    return np.arange(12, dtype=np.float32).reshape(3, 4)


def test_to_the_host_by_naming_the_device(array: np.ndarray) -> None:
    x = dpnp.asarray(array)
    copies = dx.stats().copies
    assert dx.convert(x, "numpy", device="cpu").tolist() == array.tolist()
    assert dx.convert(x.T[1:, ::2], "numpy", device="cpu").tolist() == array.T[1:, ::2].tolist()
    assert dx.stats().copies == copies + 2


def test_to_the_host_never_unasked(array: np.ndarray) -> None:
    x = dpnp.asarray(array)
    with pytest.raises(dx.ExchangeError):
        dx.to_numpy(x)
    with pytest.raises(dx.CopyError):
        dx.convert(x, "numpy", device="cpu", copy=False)


def test_from_the_host_by_asking_for_a_copy(array: np.ndarray) -> None:
    ours = dx.convert(array, "dpnp", copy=True)
    assert isinstance(ours, dpnp.ndarray)
    assert dpnp.asnumpy(ours).tolist() == array.tolist()
    with pytest.raises(dx.CopyError, match="copy=True"):
        dx.convert(array, "dpnp")
