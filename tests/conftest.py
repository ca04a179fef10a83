"""Every test ends with nothing of ours alive; one of a framework that is not here is absent."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from support import peers
from support.live import settle

import dlexchange as dx

settings.register_profile(
    "dlexchange",
    deadline=None,  # nothing here asserts on time
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("dlexchange")


@pytest.fixture(scope="module", autouse=True)
def what_is_older_is_out_of_the_collectors_sight() -> None:
    """Let collecting, which tests do often, look only at what they make: not at frameworks."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left_alive() -> Iterator[None]:
    """Demand that the test lets go of every Tensor and managed tensor it made.

    Only the test that left something behind fails, not those after it.
    """
    before = dx.stats()
    yield
    if not settle(lambda: dx.stats().live <= before.live):
        pytest.fail(f"still alive after the test: {dx.stats()}")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Iterator[None]:
    try:
        return (yield)
    except ModuleNotFoundError as error:
        name = peers.absent(str(error))
        if name is None:
            raise
        error.__traceback__ = None  # its frames hold what the test made
        pytest.skip(f"absent: {name} is not installed")
