"""Each wait, release and shield, taken out, is missed by a test.

A mutant is a replacement of one function. The test that must fail runs in a process of its
own, since it may hang or leave anything behind.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.slow


class Mutant(NamedTuple):
    """What is taken out, how, and the test that misses it."""

    what: str
    target: str
    code: str
    test: str
    arguments: str = ""


REQUESTS, ENDS, DEVICES, R000, R004, PROMISES = (
    f"pipeline.test_{name}" for name in ("requests", "ends", "devices", "r000", "r004", "promises")
)
STORM = f"{REQUESTS}:test_every_request_has_exactly_one_outcome_whenever_it_is_cancelled"

MUTANTS = [
    Mutant(
        "the wait for the producer's event",
        "message.from_dlpack",
        "lambda x, stream=None: dx.from_dlpack(x, stream=-1)",
        f"{R004}:test_r004_1_frameworks_go_on_in_stream_order_without_any_synchronisation",
        "sim, 'asyncio', True",
    ),
    Mutant(
        "the park: releases become edges",
        "message._core",
        "types.SimpleNamespace(_park=lambda tensor: None)",
        f"{R004}:test_r004_10_a_slow_consumer_does_not_serialise_the_producer",
        "sim",
    ),
    Mutant(
        "the wait for a promise",
        "message.promise_of",
        "lambda tensor: None",
        f"{PROMISES}:test_r004_11_what_comes_out_has_its_values",
        "'asyncio', True",
    ),
    Mutant(
        "the error of a promise",
        "promises._own",
        "lambda error: None",
        f"{PROMISES}:test_r004_11_a_promise_that_fails_ends_its_request_with_its_error",
        "'asyncio', True, True, False",
    ),
    Mutant(
        "the wait of lookahead",
        "runner.Runner._keep_ahead",
        "lambda self: None",
        f"{DEVICES}:test_the_host_runs_at_most_lookahead_steps_ahead_of_the_device",
        "sim, True",
    ),
    Mutant(
        "the wait for room for partial results",
        "flow.Flow.part",
        "flow.Flow.part_now",
        f"{REQUESTS}:test_a_consumer_that_does_not_take_parts_holds_the_stage_"
        "and_cancelling_frees_it",
    ),
    Mutant(
        "the room that a taken part makes",
        "flow.Flow._make_room",
        "lambda self, request: None",
        STORM,
        "'asyncio', 0",
    ),
    Mutant(
        "the wait for a ticket",
        "flow.Flow._start",
        "lambda self, request: (start(self, request), setattr(self, 'tickets', 99))",
        f"{REQUESTS}:test_a_full_pipe_waits_and_does_not_grow",
    ),
    Mutant(
        "the wait at the door",
        "flow.Flow.is_at_door",
        "lambda self, request: False",
        f"{REQUESTS}:test_a_full_pipe_waits_and_does_not_grow",
    ),
    Mutant(
        "the return of the ticket",
        "flow.Flow._finish_idle",
        "lambda self, request: (setattr(request, 'has_ticket', False), finish(self, request))",
        STORM,
        "'asyncio', 0",
    ),
    Mutant(
        "that a ticket is returned once",
        "flow.Flow._finish_idle",
        "lambda self, request: (setattr(request, 'is_finished', False), "
        "setattr(request, 'has_ticket', True), finish(self, request))",
        STORM,
        "'asyncio', 0",
    ),
    Mutant(
        "the closing of the generator",
        "runner.Runner._drive",
        "leaky_drive",
        f"{R000}:test_r000_2_leaving_the_loop_stops_the_remaining_steps",
        "'asyncio', True, 'aclose'",
    ),
    Mutant(
        "the checkpoint between steps",
        "context.Context.checkpoint",
        "lambda self: None",
        f"{R000}:test_r000_1_cancel_at_step_k_runs_k_steps_and_the_next_request_needs_no_rebuild",
        "'asyncio'",
    ),
    Mutant(
        "the shield",
        "outcome.anyio.CancelScope",
        "lambda shield: cancel_scope()",
        f"{R000}:test_r000_1_cancel_at_step_k_runs_k_steps_and_the_next_request_needs_no_rebuild",
        "'trio'",
    ),
    Mutant(
        "the release of messages on cancelling",
        "request.Request.forget",
        "lambda self: []",
        f"{ENDS}:test_cancelled_it_lets_go_of_its_input_at_once",
    ),
    Mutant(
        "what is left to do once the lock is free",
        "inbox.Guard.__exit__",
        "lambda self, *_: self.lock.release()",
        f"{ENDS}:test_a_destructor_cancels_also_while_the_lock_is_held",
    ),
    Mutant(
        "the cancelling destructor",
        "outcome.Parts.__del__",
        "lambda self: None",
        f"{R000}:test_r000_2_leaving_the_loop_stops_the_remaining_steps",
        "'asyncio', True, 'break'",
    ),
    Mutant(
        "the look for a lost device",
        "runner.Runner.loss",
        "lambda self, error: None",
        f"{DEVICES}:test_a_dead_device_fails_what_is_in_flight_instead_of_hanging",
        "'asyncio', 'in the stage', sim",
    ),
    Mutant(
        "the current stream",
        "currents.Currents.refresh",
        "lambda self: None",
        f"{R004}:test_r004_9_nothing_is_submitted_to_the_default_streams",
        "sim",
    ),
    Mutant(
        "the check of the device",
        "message._is_at",
        "lambda here, wanted: True",
        f"{R004}:test_r004_15_another_device_is_refused",
        "sim",
    ),
]

CHILD = """
import anyio, importlib, os, sys, types
import dlexchange as dx
import pipeline.conftest, pipeline.support, support.promises
from dlexchange.pipeline import context, currents, flow, inbox, message, outcome, promises
from dlexchange.pipeline import request, runner
from dlexchange.testing import simulated_cuda

pipeline.support.PATIENCE = support.promises.PATIENCE = 2.0
support.promises.register()
pipeline.conftest.start_the_reaper()
start, finish, cancel_scope = flow.Flow._start, flow.Flow._finish_idle, anyio.CancelScope

def leaky_drive(self, generator):
    kept.append(generator)
    while True:
        try:
            said = next(generator)
        except StopIteration as stop:
            return stop.value
        if said is not None:
            self.context.emit(said)
        yield
        self.context.checkpoint()

kept = []
what, where, code, test, arguments = sys.argv[1:]
if where:
    *path, name = where.split(".")
    holder = globals()[path[0]]
    for part in path[1:]:
        holder = getattr(holder, part)
    setattr(holder, name, eval(code))
module, name = test.split(":")
function = getattr(importlib.import_module(module), name)
try:
    with simulated_cuda(devices=2, timeout=2.0) as sim:
        exec(f"function({arguments})")
        found = [str(finding) for finding in sim.findings]
        assert not found, found
        assert dx.stats().events_in_use == 0 or pipeline.support.settle(
            lambda: dx.stats().events_in_use == 0)
except BaseException as error:
    print("killed by", type(error).__name__, str(error)[:300], flush=True)
else:
    print("survived", flush=True)
os._exit(0)
"""


def verdict(mutant: Mutant, *, mutate: bool = True) -> str:
    """Run the mutant's test in a process of its own."""
    arguments = [mutant.what, mutant.target, mutant.code, mutant.test, mutant.arguments]
    if not mutate:
        arguments[1] = ""
    try:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        )
    except subprocess.TimeoutExpired:
        return "killed by a hang"
    return done.stdout.strip() or f"broken: {done.stderr[-2000:]}"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.what)
def test_the_mutant_is_killed(mutant: Mutant) -> None:
    said = verdict(mutant)
    assert said.startswith("killed by"), said


@pytest.mark.parametrize("test", sorted({m.test for m in MUTANTS}), ids=lambda t: t[9:50])
def test_unmutated_its_test_passes_there(test: str) -> None:
    mutant = next(m for m in MUTANTS if m.test == test)
    assert verdict(mutant, mutate=False) == "survived"
