"""What orders work and what does not: streams, events, default streams, the host."""

from __future__ import annotations

import os
import threading

import pytest

from dlexchange.testing import Simulation, every_schedule, simulated_cuda


def kinds(sim: Simulation) -> list[str]:
    return [finding.kind for finding in sim.findings]


def stale_or_fresh(sim: Simulation, *, edge: bool) -> float:
    """Write 1 and wait; write 7 on P; read on C."""
    p, c = sim.stream(), sim.stream()
    array = sim.array(16, stream=p, fill=1)
    p.synchronize()
    array.fill(7, stream=p)
    if edge:
        c.wait(p)
    value = array.copy(stream=c).tolist(stream=c)[0]
    if edge:
        p.wait(c)  # before the memory is freed on P
    return float(value)


def test_missing_edge_shows_stale_value_every_time_under_lazy(sim: Simulation) -> None:
    assert [stale_or_fresh(sim, edge=False) for _ in range(20)] == [1.0] * 20


def test_missing_edge_is_a_race_that_names_both_sites_under_every_policy(
    any_sim: Simulation,
) -> None:
    stale_or_fresh(any_sim, edge=False)
    race = any_sim.findings[0]
    assert race.kind == "race"
    assert "cuLaunchKernel on stream" in race.first
    assert "cuMemcpyDtoDAsync on stream" in race.second
    assert "test_order.py:" in race.first
    assert "test_order.py:" in race.second


def test_edge_gives_fresh_value_and_no_finding_under_every_policy(any_sim: Simulation) -> None:
    assert stale_or_fresh(any_sim, edge=True) == 7.0
    assert any_sim.findings == []


def test_every_schedule_meets_both_values_without_the_edge_and_one_with_it() -> None:
    seen: dict[bool, set[float]] = {}
    for edge in (False, True):
        seen[edge] = set()
        for schedule in every_schedule():
            with schedule as sim:
                seen[edge].add(stale_or_fresh(sim, edge=edge))
    assert seen == {False: {1.0, 7.0}, True: {7.0}}


def test_exhaustive_policy_refuses_more_schedules_than_the_limit() -> None:
    def run_all() -> None:
        for schedule in every_schedule(limit=3):
            with schedule as sim:
                for _ in range(4):
                    sim.array(4, stream=sim.stream(), fill=1)
                sim.run()

    with pytest.raises(RuntimeError, match="more than 3 schedules"):
        run_all()


def test_random_policy_with_one_seed_gives_one_schedule() -> None:
    def values(seed: int) -> list[float]:
        with simulated_cuda(policy="random", seed=seed) as sim:
            return [stale_or_fresh(sim, edge=False) for _ in range(12)]

    assert values(5) == values(5)
    assert len({tuple(values(seed)) for seed in range(6)}) > 1


def test_write_after_unordered_read_is_a_race(any_sim: Simulation) -> None:
    p, c = any_sim.stream(), any_sim.stream()
    array = any_sim.array(16, stream=p, fill=1)
    c.wait(p)
    kept = array.copy(stream=c)
    array.fill(2, stream=p)
    assert kinds(any_sim) == ["race"]
    assert "read, then write" in any_sim.findings[0].message
    assert kept.size == 16


def test_lazy_policy_runs_the_later_of_two_unordered_writes_first(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    array = sim.array(16, stream=p, fill=0)
    p.synchronize()
    array.fill(1, stream=p)
    array.fill(2, stream=c)
    sim.set_device()
    sim.driver("cuCtxSynchronize")
    assert array.tolist(stream=p)[0] == 1
    assert kinds(sim) == ["race"]


def test_two_unordered_reads_are_no_race(any_sim: Simulation) -> None:
    p, c = any_sim.stream(), any_sim.stream()
    array = any_sim.array(16, stream=p, fill=1)
    c.wait(p)
    kept = [array.copy(stream=p), array.copy(stream=c)]
    assert any_sim.findings == []
    p.wait(c)
    assert len(kept) == 2


def test_disjoint_halves_written_on_two_streams_are_no_race(any_sim: Simulation) -> None:
    streams = [any_sim.stream(), any_sim.stream()]
    any_sim.array(16, stream=streams, fill=1)
    assert any_sim.findings == []


def test_order_is_transitive_through_a_third_stream(any_sim: Simulation) -> None:
    p, via, c = any_sim.stream(), any_sim.stream(), any_sim.stream()
    array = any_sim.array(16, stream=p, fill=7)
    via.wait(p)
    c.wait(via)
    assert array.tolist(stream=c)[0] == 7
    assert any_sim.findings == []


def test_wait_covers_only_work_before_the_record(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    array = sim.array(16, stream=p, fill=1)
    event = p.record()
    array.fill(7, stream=p)
    c.wait(event)
    assert array.tolist(stream=c)[0] == 1
    assert kinds(sim) == ["race"]


def test_rerecorded_event_does_not_move_a_wait_made_before(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    array = sim.array(16, stream=p, fill=1)
    event = p.record()
    c.wait(event)
    latch = sim.latch(p)
    p.record(event)
    assert array.tolist(stream=c)[0] == 1
    latch.open()


def test_wait_for_event_never_recorded_orders_nothing_and_holds_nothing(
    sim: Simulation,
) -> None:
    c = sim.stream()
    event = sim.event()
    c.wait(event)
    assert event.query()
    c.synchronize()


def test_destroyed_event_still_orders_waits_made_before(sim: Simulation) -> None:
    p, c = sim.stream(), sim.stream()
    array = sim.array(16, stream=p, fill=7)
    event = p.record()
    c.wait(event)
    event.destroy()
    assert array.tolist(stream=c)[0] == 7
    assert sim.findings == []


def test_synchronize_orders_everything_after_it(any_sim: Simulation) -> None:
    p, c = any_sim.stream(), any_sim.stream()
    array = any_sim.array(16, stream=p, fill=7)
    p.synchronize()
    assert array.tolist(stream=c)[0] == 7
    assert any_sim.findings == []


def test_successful_query_orders_like_a_synchronize(any_sim: Simulation) -> None:
    p, c = any_sim.stream(), any_sim.stream()
    array = any_sim.array(16, stream=p, fill=7)
    event = p.record()
    while not event.query():
        pass
    assert array.tolist(stream=c)[0] == 7
    assert any_sim.findings == []


def test_synchronizing_one_stream_says_nothing_about_another(any_sim: Simulation) -> None:
    p, c, other = (any_sim.stream() for _ in range(3))
    array = any_sim.array(16, stream=p, fill=7)
    other.synchronize()
    array.tolist(stream=c)
    assert "race" in kinds(any_sim)


# --- default streams ---


def test_blocking_streams_and_the_legacy_stream_wait_for_each_other(
    any_sim: Simulation,
) -> None:
    p, c = any_sim.stream(blocking=True), any_sim.stream(blocking=True)
    array = any_sim.array(16, stream=p, fill=1)
    array.fill(5, stream=any_sim.legacy())
    assert array.tolist(stream=c)[0] == 5
    assert any_sim.findings == []


def test_non_blocking_stream_does_not_wait_for_the_legacy_stream(sim: Simulation) -> None:
    p = sim.stream()
    array = sim.array(16, stream=sim.legacy(), fill=1)
    sim.legacy().synchronize()
    array.fill(5, stream=sim.legacy())
    assert array.tolist(stream=p)[0] == 1
    assert kinds(sim) == ["race"]


def test_legacy_stream_does_not_wait_for_a_non_blocking_stream(sim: Simulation) -> None:
    p = sim.stream()
    array = sim.array(16, stream=p, fill=1)
    p.synchronize()
    array.fill(5, stream=p)
    assert array.tolist(stream=sim.legacy())[0] == 1
    assert kinds(sim) == ["race"]


def test_per_thread_default_stream_waits_for_the_legacy_stream(any_sim: Simulation) -> None:
    array = any_sim.array(16, stream=any_sim.legacy(), fill=5)
    assert array.tolist(stream=any_sim.per_thread())[0] == 5
    assert any_sim.findings == []


def test_per_thread_default_streams_of_two_threads_are_two_streams(sim: Simulation) -> None:
    array = sim.array(16, stream=sim.per_thread(), fill=1)
    sim.per_thread().synchronize()
    array.fill(7, stream=sim.per_thread())
    read: list[float] = []
    thread = threading.Thread(target=lambda: read.append(array.tolist(stream=sim.per_thread())[0]))
    thread.start()
    thread.join()
    assert read == [1.0]
    assert kinds(sim) == ["race"]
    assert "default stream of thread" in sim.findings[0].first


def test_default_streams_of_threads_that_ended_are_not_kept(sim: Simulation) -> None:
    event = sim.event()

    def use() -> None:
        sim.set_device()
        sim.driver("cuEventRecord", event.handle, 2)

    def effort_after(threads: int) -> int:
        for _ in range(threads):
            thread = threading.Thread(target=use)
            thread.start()
            native = thread.native_id
            thread.join()
            while os.path.exists(f"/proc/self/task/{native}"):
                pass  # Python lets go of a thread a little before it ends
        event.synchronize()
        sim.run()
        before = sim.effort
        sim.legacy().record(event)  # looks at every blocking stream
        return sim.effort - before

    # One look at a clock of 40 components or so, not 40 looks.
    assert effort_after(40) < 200


def test_legacy_streams_of_two_devices_are_two_streams() -> None:
    with simulated_cuda(devices=2) as sim:
        array = sim.array(16, stream=sim.legacy(0), fill=1)
        sim.legacy(0).synchronize()
        array.fill(7, stream=sim.legacy(0))
        other = sim.legacy(1)
        assert array.tolist(stream=other)[0] == 1
        assert "race" in kinds(sim)


def test_wait_crosses_devices() -> None:
    with simulated_cuda(devices=2) as sim:
        p, c = sim.stream(0), sim.stream(1)
        array = sim.array(16, stream=p, fill=7)
        c.wait(p.record())
        assert array.tolist(stream=c)[0] == 7
        assert sim.findings == []


# --- the host ---


def test_host_access_to_pinned_memory_races_with_a_pending_copy(any_sim: Simulation) -> None:
    import ctypes

    sim = any_sim
    p = sim.stream()
    array = sim.array(16, stream=p, fill=7)
    host = ctypes.c_void_p()
    with sim.on_device(0):
        sim.driver("cuMemHostAlloc", ctypes.byref(host), 64, 0)
        sim.driver("cuMemcpyDtoHAsync_v2", host, array.data_ptr, 64, p.handle)
    assert host.value is not None
    sim.host_access(host.value, 64, writes=False)
    assert kinds(sim) == ["race"]
    sim.clear_findings()
    p.synchronize()
    sim.host_access(host.value, 64, writes=False)
    assert sim.findings == []


def test_copy_from_pageable_memory_takes_the_bytes_at_the_call(sim: Simulation) -> None:
    import ctypes

    p = sim.stream()
    array = sim.array(4, stream=p)
    source = (ctypes.c_float * 4)(1, 2, 3, 4)
    with sim.on_device(0):
        sim.driver("cuMemcpyHtoDAsync_v2", array.data_ptr, source, 16, p.handle)
    source[0] = 99
    assert array.tolist(stream=p) == [1, 2, 3, 4]


def test_copy_from_pinned_memory_takes_the_bytes_when_it_runs(sim: Simulation) -> None:
    import ctypes

    p = sim.stream()
    array = sim.array(4, stream=p)
    host = ctypes.c_void_p()
    with sim.on_device(0):
        sim.driver("cuMemHostAlloc", ctypes.byref(host), 16, 0)
        source = (ctypes.c_float * 4).from_address(host.value or 0)
        source[:] = [1, 2, 3, 4]
        sim.driver("cuMemcpyHtoDAsync_v2", array.data_ptr, host, 16, p.handle)
    source[0] = 99
    assert array.tolist(stream=p) == [99, 2, 3, 4]
