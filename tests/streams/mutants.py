"""The mutants: what can be removed of the library, and which test notices.

``python tests/streams/mutants.py`` builds the second extension, runs the named test on each
mutant, and prints what it saw; ``--list`` prints the table without running anything.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent.parent
CSRC = TESTS.parent / "csrc"

TENSOR = "test_threads.py::test_tensor_goes_to_another_thread_and_a_native_array_does_not"
STRAIGHT = "test_routes.py::test_hand_off_between_two_known_streams_waits"
TOY = "../backends/battery.py::"  # on the registered toy device
OUTSIDE = "../backends/test_registration.py::"

#: Which test notices that a guarantee is gone, by the names of mutant.h.
KILLED_BY = {
    "push": "test_arguments.py::test_push_across_devices",
    "push_wait": "test_arguments.py::test_push_across_devices",
    "ready_record": TENSOR,
    "ready_wait": TENSOR,
    "edge": "test_counts.py::test_edge_is_one_record_and_one_wait",
    "edge_wait": "test_counts.py::test_edge_is_one_record_and_one_wait",
    "park": "test_counts.py::test_park_is_one_record_and_no_wait",
    "park_query": "test_arguments.py::test_release_waits_for_more_streams_than_any_fixed_number",
    "check_push": "test_capture.py::test_consumer_captures_and_the_work_is_outside",
    "check_record": "test_capture.py::test_legacy_push_that_would_break_a_third_streams_capture",
    "check_wait": "test_capture.py::test_two_captures_are_not_merged",
    "check_release": "test_capture.py::test_release_is_held_until_a_capture_of_its_streams_ends",
    "capture_mode": "test_capture.py::test_view_of_older_memory_collected_while_an_unrelated_"
    "capture_runs",
    "context_enter": "test_arguments.py::test_legacy_streams_of_two_devices_are_two_streams",
    "context_restore": "test_counts.py::test_current_context_is_what_it_was",
    "quarantine": "test_failures.py::test_event_of_a_failed_push_is_put_aside",
    "foreign_thread": "test_threads.py::test_per_thread_consumer_is_released_in_another_thread",
    "notify_wait": "test_completion.py::test_one_ready_is_awaited_by_many_tasks",
    "notify_watch": "test_completion.py::test_death_is_noticed_where_the_driver_calls_nobody_back",
    "copy_wait": "test_completion.py::test_host_copies_trees",
    "per_thread_same": "test_threads.py::test_per_thread_streams_of_two_threads_are_two_streams",
    "tensor_event": TENSOR,
    "export_wait": "test_counts.py::test_consuming_a_tensor_is_one_wait_a_stream",
    "add_consumer": "test_counts.py::test_park_is_one_record_and_no_wait",
    "interface_wait": "test_interface.py::test_interface_names_a_stream_of_ours_that_waits",
    "lease_thread": "test_threads.py::test_per_thread_streams_of_two_threads_are_both_waited_for",
    "lease_release": "test_counts.py::test_edge_is_one_record_and_one_wait",
    "check_fires": "test_capture.py::test_ready_event_of_a_capture_serves_that_capture_only",
    "hand_off": STRAIGHT,
    "described_push": STRAIGHT,
    "named_push": "test_arguments.py::test_push_across_devices",
    "record_stream": "test_arguments.py::test_record_stream_finds_the_memory_behind_an_array",
    "find_edge": "test_routes.py::test_memory_of_another_stream_is_parked",
    "interface_return": "test_interface.py::test_interface_names_a_stream_of_ours_that_waits",
    "reap": "test_release.py::test_hand_off_looks_at_what_is_parked",
    "in_flight": "test_completion.py::test_cancelled_await_frees_nothing_early",
    "backend_record": TOY + "test_stream_objects",
    "backend_wait": OUTSIDE + "test_none_means_the_default_stream",
    "backend_query": TOY + "test_stream_objects",
    "backend_synchronize": OUTSIDE + "test_a_host_wait_is_the_backends",
    "backend_notify": TOY + "test_ready_completes_with_the_work",
    "backend_forgotten": OUTSIDE + "test_a_notifier_that_is_let_go_of_says_so",
    "backend_stream_query": TOY + "test_stream_objects",
    "backend_stream_synchronize": OUTSIDE + "test_a_host_wait_is_the_backends",
    "backend_argument": OUTSIDE + "test_a_producer_that_nobody_knows_orders_into_a_stream_of_ours",
}


class Mutant(NamedTuple):
    number: str
    name: str
    removes: str


def mutants() -> list[Mutant]:
    """Read mutant.h."""
    text = (CSRC / "mutant.h").read_text()
    rows = re.findall(r'^ +[XYZ]\((\d+), (\w+),\s+\\?\s*"([^"]+)"\)', text, re.MULTILINE)
    return [Mutant(*row) for row in rows]


def build(where: Path) -> Path:
    """Build the extension with DLX_MUTANTS, aside from the one under test."""
    cmake = shutil.which("cmake")
    assert cmake, "cmake is needed to build the twin (it is in the [test] extra)"
    ninja = ["-G", "Ninja"] if shutil.which("ninja") else []
    options = [
        f"-DPython_EXECUTABLE={sys.executable}",
        "-DCMAKE_BUILD_TYPE=Debug",
        "-DCMAKE_C_FLAGS=-DDLX_MUTANTS -O1",
    ]
    for command in (
        [cmake, "-S", str(CSRC), "-B", str(where), *ninja, *options],
        [cmake, "--build", str(where), "--target", "_core", "--parallel", "2"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return next(where.glob("_core*"))


def run(twin: Path, number: str, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests on the twin with one guarantee removed ("0": none)."""
    paths = [str(TESTS / "streams" / test) for test in tests]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "streams.twin"]  # noqa: RUF005
        + ["-p", "no:cacheprovider", *paths],
        env={
            **os.environ,
            "PYTHONPATH": str(TESTS),
            "DLEXCHANGE_TWIN": str(twin),
            "DLEXCHANGE_MUTANT": number,
            "DLX_GROUND": "toy",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def is_killed(done: subprocess.CompletedProcess[str]) -> bool:
    """Tell whether a test failed or crashed.

    Pytest's other statuses (nothing collected, a usage error) kill nothing. A negative one is a
    crash of the mutant, which the test has provoked.
    """
    return done.returncode == 1 or done.returncode < 0


def judge(twin: Path, rows: list[Mutant]) -> Iterator[tuple[Mutant, bool]]:
    """Run mutants, two at a time; yield each with whether its test failed."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        done = pool.map(lambda m: run(twin, m.number, KILLED_BY[m.name]), rows)
        yield from zip(rows, map(is_killed, done), strict=True)


def main() -> int:
    """Print the table; return the number of survivors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the table, run nothing")
    parser.add_argument("name", nargs="*", help="mutants to run; none: all")
    options = parser.parse_args()
    if unknown := ", ".join(sorted({*options.name} - {*KILLED_BY})):
        parser.error(f"no mutant is called {unknown}; --list prints all")
    rows = [m for m in mutants() if not options.name or m.name in options.name]
    if options.list:
        for mutant in rows:
            print(f"{mutant.number:>4} {mutant.name}: {mutant.removes}; {KILLED_BY[mutant.name]}")
        return 0
    survivors = 0
    with tempfile.TemporaryDirectory() as where:
        for mutant, killed in judge(build(Path(where)), rows):
            survivors += not killed
            said = "killed by" if killed else "SURVIVES"
            print(f"{mutant.number:>4} {mutant.name}: {mutant.removes}")
            print(f"     {said} {KILLED_BY[mutant.name]}", flush=True)
    print(f"{len(rows) - survivors} of {len(rows)} mutants killed, on a simulated device")
    return survivors


if __name__ == "__main__":
    sys.exit(main())
