"""What holds for every framework, run for one of them: `DLX_PEER` names it.

Collected by `test_frameworks.py` in a process of its own, since some frameworks crash when
they are loaded together.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from layouts import DTYPES, SMALL, Peer, layouts, same_values

import dlexchange as dx

PEER: Peer = importlib.import_module(f"peers.{os.environ['DLX_PEER']}").PEER


@pytest.fixture(autouse=True)
def read_only_is_no_error() -> Iterator[None]:
    """The warning has a test of its own; here it would stop the matrix."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dx.errors.ReadOnlyWarning)
        yield


def _layouts(dtype: str) -> Iterator[tuple[str, Any]]:
    """Leave out what is the same packed and one a byte: a single small element, or none."""
    for layout, array in layouts(DTYPES[dtype]):
        if dtype not in SMALL or array.size > 1:
            yield layout, array


def _must_arrive(dtype: str, layout: str) -> bool:
    return dtype in PEER.takes and layout not in PEER.refuses


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_arrive_or_are_refused(dtype: str) -> None:
    seen = 0
    for layout, array in _layouts(dtype):
        copies = dx.stats().copies
        try:
            ours = dx.convert(array, PEER.name)
        except dx.ExchangeError:
            assert not _must_arrive(dtype, layout), f"{layout} was refused"
            continue
        assert _must_arrive(dtype, layout), f"{layout} was not refused"
        assert same_values(PEER.read(ours), array), f"{layout}: {PEER.read(ours)}"
        copied = dx.stats().copies - copies
        if array.size > 0:
            same = PEER.address(ours) == array.__array_interface__["data"][0]
            assert same == (copied == 0), f"{layout}: {copied} copies counted"
        del ours  # paddle leaks what it imports twice at a time
        seen += 1
    assert (seen > 0) == (dtype in PEER.takes)


@pytest.mark.parametrize("dtype", PEER.takes)
def test_copy_false_shares_or_refuses(dtype: str) -> None:
    refused = set()
    for layout, array in _layouts(dtype):
        copies = dx.stats().copies
        try:
            ours = dx.convert(array, PEER.name, copy=False)
        except dx.CopyError:
            refused.add(layout)
            continue
        except dx.ExchangeError:
            if layout not in PEER.refuses:
                raise
            continue
        assert dx.stats().copies == copies
        if array.size > 0:
            assert PEER.address(ours) == array.__array_interface__["data"][0], layout
        del ours
    assert ("compact" in refused) == PEER.always_copies


@pytest.mark.parametrize("dtype", PEER.takes)
def test_copy_true_never_shares(dtype: str) -> None:
    for layout, array in _layouts(dtype):
        if layout in PEER.refuses or array.size == 0:
            continue
        ours = dx.convert(array, PEER.name, copy=True)
        assert PEER.address(ours) != array.__array_interface__["data"][0], layout
        assert same_values(PEER.read(ours), array), layout


def test_read_only_is_kept_or_warned_about() -> None:
    array = np.arange(32, dtype=np.float32)
    array.flags.writeable = False
    with dx.strict():
        if PEER.keeps_read_only:
            dx.convert(array, PEER.name, copy=None)
        else:
            with pytest.raises(dx.ExchangeError, match="read-only"):
                dx.convert(array, PEER.name)


@pytest.mark.skipif(PEER.always_copies, reason="imports are copies")
def test_memory_outlives_the_producer() -> None:
    ours = dx.convert(np.full(1 << 16, 7, np.float32), PEER.name)
    _ = [np.zeros(1 << 16, np.float32) for _ in range(4)]
    assert (PEER.read(ours) == 7).all()


@pytest.mark.parametrize("dtype", PEER.makes)
def test_exported_values_are_what_the_framework_shows(dtype: str) -> None:
    array = np.arange(12).astype(DTYPES[dtype]).reshape(3, 4)
    made = PEER.make(array)
    tensor = dx.from_dlpack(made)
    assert tensor.shape == (3, 4)
    assert tensor.dtype.name == dtype
    assert same_values(dx.to_numpy(tensor), PEER.read(made))
    assert same_values(dx.to_numpy(made), array)


@pytest.mark.skipif(PEER.views is None, reason="no views by indexing")
def test_exported_views_are_what_the_framework_shows() -> None:
    assert PEER.views is not None
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    native, expected = PEER.views(PEER.make(array)), PEER.views(array)
    assert len(native) == len(expected) > 0
    for ours, theirs in zip(native, expected, strict=True):
        assert same_values(dx.to_numpy(ours), theirs)


def test_exported_memory_outlives_the_array() -> None:
    ours = dx.to_numpy(PEER.make(np.full((256, 256), 7, np.float32)))
    _ = [PEER.make(np.zeros((256, 256), np.float32)) for _ in range(4)]
    assert (ours == 7).all()


def test_named_by_type_and_by_array() -> None:
    one, two, three = (np.arange(6, dtype=np.float32) for _ in range(3))
    array: Any = dx.convert(one, PEER.name)
    assert type(dx.convert(two, array)) is type(array)
    assert type(dx.convert(three, type(array))) is type(array)
