"""Entering simulated CUDA or ROCm, one schedule or all of them, and leaving again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from ctypes import c_uint32
from typing import Any

from dlexchange import _core
from dlexchange.testing import driver as _driver
from dlexchange.testing.framework import Framework
from dlexchange.testing.simulation import Simulation

_VARIABLE = "DLEXCHANGE_CUDA_DRIVER"

_active: list[Simulation] = []


@contextmanager
def simulated_cuda(
    devices: int = 1,
    policy: str = "lazy",
    seed: int = 0,
    *,
    lazy_queries: int = 1,
    window: int = 4096,
    idle_ms: int = 5,
    reuse: bool = False,
    timeout: float = 20.0,
    device_memory: int = 16 << 30,
) -> Iterator[Simulation]:
    """Run the body on simulated CUDA devices.

    Parameters
    ----------
    devices : int
        How many, from 0 to 16.
    policy : str
        "lazy": nothing runs until something forces it, and then only what it needs, the
        latest first. "eager": at once, in order. "random": seeded. "exhaustive": one of all
        schedules, see :func:`every_schedule`.
    seed : int
        Of the policy "random".
    lazy_queries : int
        How many queries of an operation say "not ready" before one may run it.
    window : int
        How many operations can be pending before the oldest run; 0 means no limit.
    idle_ms : int
        Host functions that nobody forces run once the driver has been idle for so long; 0
        means never.
    reuse : bool
        Hand out freed addresses and destroyed handles again as soon as allowed.
    timeout : float
        Seconds a blocking call waits for a gate nobody opens before it fails.
    device_memory : int
        Bytes each device claims to have.

    Yields
    ------
    Simulation
        The controls.

    Raises
    ------
    RuntimeError
        A real CUDA driver is loaded in this process, or a simulation is active already.

    Notes
    -----
    After the body its memory reads as zeros, also where ``await dx.host(x)`` copied to: look at
    values inside.

    The library has the real one's name, so whoever loads ``libcuda.so.1`` in this process from
    now on gets the simulated one, after the body too: then it has no device. Child processes
    inherit ``DLEXCHANGE_CUDA_DRIVER``, which only dlexchange reads; set ``LD_LIBRARY_PATH`` or
    ``LD_PRELOAD`` for others, and the variables ``SIMCUDA_DEVICES``, ``SIMCUDA_POLICY``,
    ``SIMCUDA_SEED``, ``SIMCUDA_LAZY_QUERIES`` and ``SIMCUDA_TIMEOUT`` to configure them.
    """
    config = _configure(
        devices, policy, seed, lazy_queries, window, idle_ms, reuse, timeout, device_memory
    )
    with _simulate(Simulation(config)) as sim:
        yield sim


@contextmanager
def simulated_hip(devices: int = 1, policy: str = "lazy", seed: int = 0) -> Iterator[Simulation]:
    """Run the body on simulated ROCm devices: HIP's names for the same simulated driver.

    The library ``libamdhip64.so.7`` is loaded, so that whoever asks for it by name gets it.
    Arrays say they are on ROCm; their default stream is 0, and 1 and 2 are no streams. Calls
    are counted, and fail, under CUDA's names.

    Parameters
    ----------
    devices, policy, seed
        As for :func:`simulated_cuda`.

    Yields
    ------
    Simulation
        The controls.

    Raises
    ------
    RuntimeError
        A real driver is loaded in this process, or a simulation is active already.
    """
    config = _configure(devices, policy, seed, 1, 4096, 5, False, 20.0, 16 << 30)
    sim = Simulation(config, hip=True)
    _driver.load_hip()
    with _simulate(sim):
        yield sim


def _configure(
    devices: int,
    policy: str,
    seed: int,
    lazy_queries: int,
    window: int,
    idle_ms: int,
    reuse: bool,
    timeout: float,
    device_memory: int,
) -> _driver.Config:
    if policy not in _driver.POLICIES:
        raise ValueError(f"policy must be one of {', '.join(_driver.POLICIES)}, not {policy!r}")
    if not 0 <= devices <= 16:
        raise ValueError(f"devices must be from 0 to 16, not {devices}")
    return _driver.Config(
        devices=devices,
        policy=_driver.POLICIES.index(policy),
        seed=seed,
        lazy_queries=lazy_queries,
        window=window,
        idle_ms=idle_ms,
        reuse=reuse,
        timeout_s=timeout,
        device_memory=device_memory,
    )


@contextmanager
def _simulate(sim: Simulation) -> Iterator[Simulation]:
    if _active:
        raise RuntimeError("a simulation is active already: leave it before entering another")
    before = os.environ.get(_VARIABLE)
    _core._driver_reset()
    _active.append(sim)
    os.environ[_VARIABLE] = _driver.path_of(sim.library)
    sim._begin()
    try:
        yield sim
    finally:
        for latch in list(sim._closed):
            latch.open()  # whoever still waits for one, such as the core's threads, may go on
        _core._driver_reset()
        sim._end()
        _active.remove(sim)
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before


def active_frameworks() -> list[Framework]:
    """Return the array frameworks of the simulation that is active; none where none is."""
    return [framework for sim in _active for framework in list(sim._frameworks.values())]


def every_schedule(
    limit: int = 10_000, **options: Any
) -> Iterator[AbstractContextManager[Simulation]]:
    """Yield one simulation for each order in which the body's operations can run.

    The body must submit the same work each time. For few operations: the number of schedules
    grows as a factorial.

    Parameters
    ----------
    limit : int
        More schedules than that raise RuntimeError.
    **options
        As for :func:`simulated_cuda`, without ``policy``.

    Examples
    --------
    >>> for schedule in every_schedule():          # doctest: +SKIP
    ...     with schedule as sim:
    ...         program(sim)
    """
    choices: list[int] = []
    library = _driver.load()
    for _ in range(limit):
        array = (c_uint32 * len(choices))(*choices)
        library.simcuda_choices_set(array, len(choices))
        met: list[int] = []
        yield _one_schedule(met, options)
        choices = choices + [0] * (len(met) - len(choices))
        del choices[len(met) :]
        while choices and choices[-1] + 1 >= met[len(choices) - 1]:
            choices.pop()
        if not choices:
            return
        choices[-1] += 1
    raise RuntimeError(f"more than {limit} schedules: take fewer operations")


@contextmanager
def _one_schedule(met: list[int], options: dict[str, Any]) -> Iterator[Simulation]:
    with simulated_cuda(policy="exhaustive", **options) as sim:
        yield sim
        count = sim.library.simcuda_choices_get(None, 0)
        if count > 256:
            raise RuntimeError(f"{count} choices in one schedule: take fewer operations")
        alternatives = (c_uint32 * count)()
        sim.library.simcuda_choices_get(alternatives, count)
        met.extend(alternatives)


def drain() -> None:
    """Run what is pending in the active simulation, and let the core drop what it has parked.

    Without a simulation only the core is asked.
    """
    for sim in _active:
        sim.run()
    _core._drain()
