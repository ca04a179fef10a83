"""Every driver call of every path fails once: the error names it, nothing is taken."""

from __future__ import annotations

import ast
import asyncio
import gc
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import child

import dlexchange as dx
from dlexchange.testing import SimulatedDriverError, Simulation, drain, simulated_cuda

from .conftest import other

UNKNOWN, NO_MEMORY = 999, 2
#: Failures of these cannot be blamed on a hand-off: they only ask, enter, or give back.
HARMLESS = {"cuGetErrorName", "cuGetErrorString", "cuGetProcAddress"}


class Case:
    """One path, with everything made that it needs before; cold: without a driver loaded."""

    def __init__(self, sim: Simulation, speaks: str, is_cold: bool = False) -> None:
        self.sim = sim
        self.producer, self.consumer = sim.framework(speaks), other(sim)
        self.p, self.c = sim.stream(), sim.stream()
        self.x = self.producer.array(16, "int32", stream=self.p, fill=5)
        if not is_cold:
            self.t = dx.from_dlpack(self.x, stream=self.p)

    def from_dlpack(self) -> Any:
        return dx.from_dlpack(self.x, stream=self.p)

    def export(self) -> Any:
        return self.t.__dlpack__(stream=self.c.handle, max_version=(1, 3))

    def push(self) -> Any:
        dx.push(self.p, self.c)

    def push_legacy(self) -> Any:
        dx.push(dx.Stream.legacy_default("cuda:0"), self.c)

    def convert(self) -> Any:
        return dx.convert(self.t, self.consumer.array_type, stream=self.c)

    def convert_straight(self) -> Any:
        with self.producer.use_stream(self.p), self.consumer.use_stream(self.c):
            return dx.convert(self.x, self.consumer.array_type)

    def wait(self) -> Any:
        stream = dx.Stream.from_handle("cuda:0", self.c.handle, owner=self.c)
        stream.wait(self.t.ready_event)
        stream.record().synchronize()
        stream.synchronize()

    def record_stream(self) -> Any:
        with self.consumer.use_stream(self.c):
            y = self.consumer.from_dlpack(self.t)
        dx.record_stream(self.t, self.c)
        dx.record_stream(y, dx.Stream.create("cuda:0"))

    def ready(self) -> Any:
        async def main() -> None:
            await dx.ready(self.t)

        asyncio.run(main())

    def host(self) -> Any:
        async def main() -> Any:
            return await dx.host(self.t)

        return asyncio.run(main())

    def to_numpy(self) -> Any:
        return dx.to_numpy(self.t, copy=True)

    def interface(self) -> Any:
        return self.t.__cuda_array_interface__

    def query(self) -> Any:
        return self.t.ready_event.query()

    def create(self) -> Any:
        return [dx.Stream.create("cuda:0") for _ in range(3)]


PATHS = [name for name in vars(Case) if not name.startswith("_")]


def calls_of(path: str, speaks: str, is_cold: bool) -> dict[str, int]:
    with simulated_cuda(policy="eager") as sim:
        case = Case(sim, speaks, is_cold)
        sim.reset_calls()
        result = getattr(case, path)()
        drain()
        calls = dict(sim.calls)
        del result, case
    return {name: n for name, n in calls.items() if name not in HARMLESS}


def fail_each(
    path: str, speaks: str, status: int, is_cold: bool = False
) -> list[tuple[str, int, str]]:
    """Run the path once for each call of it that can fail; return (call, n, outcome)."""
    outcomes = []
    for name, count in calls_of(path, speaks, is_cold).items():
        for n in range(1, count + 1):
            with simulated_cuda(policy="eager") as sim:
                case = Case(sim, speaks, is_cold)
                before = dx.stats()
                sim.fail(name, n, status)
                outcome = "passed"
                try:
                    result = getattr(case, path)()
                    del result
                except (dx.DriverError, dx.ExchangeError, SimulatedDriverError, MemoryError) as e:
                    text = repr(e.__cause__ or e)
                    assert isinstance(e, MemoryError) or name in text, (name, n, e)  # noqa: PT017
                    outcome = type(e).__name__
                sim.fail(name, 0)
                gc.collect()
                drain()
                after = dx.stats()
                given_up = after.leaked - before.leaked
                assert after.live - before.live <= 2 * given_up, (name, n)
                kept = after.events_in_use - before.events_in_use
                assert kept <= given_up, (name, n, after)
                # usable afterwards, and right
                assert getattr(case, path)() is not Ellipsis
                t = dx.from_dlpack(case.x, stream=case.p)
                y = dx.convert(t, case.consumer.array_type, stream=case.c)
                assert y.tolist(stream=case.c) == [5] * 16, (name, n)
                del y, t, case
                gc.collect()
                drain()
                assert [str(finding) for finding in sim.findings] == [], (name, n)
                assert dx.stats().parked == 0
                outcomes.append((name, n, outcome))
    return outcomes


def raised_in_a_child(path: str, speaks: str, status: int, is_cold: bool = False) -> set[str]:
    """Fail each call in a child, where what is given up may stay; return those that raised."""
    done = child.run(
        f"""
        import warnings
        warnings.simplefilter("ignore", ResourceWarning)  # of the first leak
        from streams.test_failures import fail_each
        print(fail_each({path!r}, {speaks!r}, {status}, {is_cold}))
        """
    )
    outcomes = ast.literal_eval(done.strip().splitlines()[-1])
    return {name for name, _, outcome in outcomes if outcome != "passed"}


@pytest.mark.parametrize("status", [UNKNOWN, NO_MEMORY], ids=["unknown", "no-memory"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.slow
def test_every_call_of_a_path_fails_once(path: str, status: int) -> None:
    wanted = {
        "from_dlpack": {"cuEventRecord", "cuStreamGetCaptureInfo"},
        "export": {"cuStreamWaitEvent", "cuStreamGetCaptureInfo"},
        "push": {"cuEventRecord", "cuStreamWaitEvent", "cuStreamGetCaptureInfo"},
        "push_legacy": {"cuEventRecord", "cuStreamWaitEvent"},
        "convert": {"cuStreamWaitEvent", "cuStreamGetCaptureInfo"},
        "convert_straight": {"cuEventRecord", "cuStreamWaitEvent", "cuStreamGetCaptureInfo"},
        "wait": {"cuStreamWaitEvent", "cuEventSynchronize", "cuStreamSynchronize"},
        "record_stream": {"cuStreamWaitEvent", "cuStreamCreate"},
        "to_numpy": {"cuMemcpyDtoHAsync", "cuEventSynchronize", "cuEventRecord"},
        "host": {"cuMemcpyDtoHAsync", "cuEventRecord"},
        "ready": {"cuStreamWaitEvent"},
        "interface": {"cuStreamWaitEvent"},
        "query": {"cuEventQuery"},
        "create": {"cuStreamCreate"},
    }[path]
    assert wanted <= raised_in_a_child(path, "exchange_api", status)


@pytest.mark.parametrize("speaks", ["dlpack", "cai"])
@pytest.mark.parametrize("path", ["from_dlpack", "convert_straight"])
@pytest.mark.slow
def test_every_call_of_a_path_fails_once_in_other_dialects(path: str, speaks: str) -> None:
    assert {"cuEventRecord"} <= raised_in_a_child(path, speaks, UNKNOWN)


@pytest.mark.parametrize("path", ["from_dlpack", "convert_straight", "push", "create"])
@pytest.mark.slow
def test_every_call_of_the_first_use_of_a_driver_fails_once(path: str) -> None:
    raised = raised_in_a_child(path, "exchange_api", UNKNOWN, is_cold=True)
    assert {"cuInit", "cuDevicePrimaryCtxRetain"} <= raised


def released(sim: Simulation, speaks: str) -> Callable[[], None]:
    """Return what releases memory that a second stream has used."""
    case = Case(sim, speaks)
    with case.consumer.use_stream(case.c):
        held = [case.consumer.from_dlpack(case.t)]
    case.t.record_stream(case.c)
    case.t.close()
    del case.x

    def release() -> None:
        case.t = None
        held.clear()
        gc.collect()

    return release


@pytest.mark.parametrize("speaks", ["exchange_api", "dlpack"], ids=["edge", "park"])
@pytest.mark.slow
def test_every_call_of_a_release_fails_once(speaks: str) -> None:
    done = child.run(
        f"""
        from streams.test_failures import fail_each_of_a_release
        print(fail_each_of_a_release({speaks!r}))
        """
    )
    assert int(done.strip().splitlines()[-1]) > 3


def fail_each_of_a_release(speaks: str) -> int:
    """Release once for each call that can fail; in a child, since leaks stay."""
    with simulated_cuda(policy="eager") as sim:
        release = released(sim, speaks)
        sim.reset_calls()
        release()
        drain()
        calls = {name: n for name, n in sim.calls.items() if name not in HARMLESS}
    assert calls["cuEventRecord"] >= 1
    seen = 0
    for name, count in calls.items():
        if name.startswith("cuMem") or name == "cuEventCreate":
            continue  # the simulated framework's own
        for n in range(1, count + 1):
            with simulated_cuda(policy="eager") as sim, warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                release = released(sim, speaks)
                leaked = dx.stats().leaked
                sim.fail(name, n)
                try:
                    release()
                finally:
                    sim.fail(name, 0)
                drain()
                stats = dx.stats()
                assert (stats.parked, stats.held) == (0, 0), (name, n)
                assert stats.leaked - leaked <= 1, (name, n)
                assert [str(finding) for finding in sim.findings] == [], (name, n)
                seen += 1
    return seen


def test_release_after_the_context_has_died_runs_the_deleter() -> None:
    with simulated_cuda() as sim:
        t = dx.from_dlpack(sim.array(16, stream=sim.stream(), fill=5, speaks="dlpack"))
        t.record_stream(sim.stream())
        leaked = dx.stats().leaked
        sim.kill_context()
        t.close()
        drain()
        assert dx.stats().leaked == leaked
        with pytest.raises(dx.DeviceLost) as error:
            dx.push(sim.legacy(), dx.Stream.per_thread_default("cuda:0"))
        assert error.value.call.startswith("cu")
        assert error.value.status == 700


def test_event_of_a_failed_push_is_put_aside(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    before = dx._core._stats()["quarantined"]
    sim.fail("cuStreamWaitEvent")
    with pytest.raises(dx.DriverError, match="cuStreamWaitEvent"):
        dx.push(p, c)
    assert dx._core._stats()["quarantined"] == before + 1


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.slow
def test_every_allocation_of_a_path_fails_once(path: str) -> None:
    done = child.run(
        f"""
        import warnings
        warnings.simplefilter("ignore", ResourceWarning)
        from streams.test_failures import fail_each_allocation
        fail_each_allocation({path!r})
        """
    )
    assert "Traceback" not in done


def fail_each_allocation(path: str) -> None:
    """Run the path once for each allocation that can fail; in a child, since leaks stay."""
    with simulated_cuda(policy="eager") as sim:
        for n in range(1, 30):
            case = Case(sim, "exchange_api")
            dx._core._fail_allocation(n)
            try:
                result = getattr(case, path)()
                del result
            except (MemoryError, dx.ExchangeError, dx.DriverError):
                pass
            finally:
                dx._core._fail_allocation(0)
            assert getattr(case, path)() is not Ellipsis
            del case
            gc.collect()
            drain()
            stats = dx.stats()
            assert stats.live <= 2 * stats.leaked, n
            assert stats.parked == stats.held == stats.notifications == 0, n
        assert [str(finding) for finding in sim.findings] == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_table_that_fails_without_an_error_is_named_and_nothing_is_taken(sim: Simulation) -> None:
    consumer = other(sim)
    x = np.zeros(3, np.float32)  # a simulated framework holds no host memory
    live, references = dx.stats().live, sys.getrefcount(x)
    with pytest.raises(dx.ExchangeError, match="failed and set no error"):
        dx.convert(x, consumer.array_type)
    assert (dx.stats().live, sys.getrefcount(x)) == (live, references)
