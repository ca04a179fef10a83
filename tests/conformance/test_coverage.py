"""The suite is honest: clauses, checks and broken subjects belong together one to one."""

from __future__ import annotations

import gc
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

import dlexchange as dx
from dlexchange.conformance import runner
from dlexchange.conformance.checks import lifetime
from dlexchange.conformance.clauses import load, read_toml, spec_folder
from dlexchange.conformance.cuda import Cuda
from dlexchange.conformance.engine import (
    ON_HOST_AND_SYCL,
    ON_SYCL,
    Check,
    checks_of,
    checks_on,
    count,
    judge,
    registered,
)
from dlexchange.testing import simulated_cuda

from .model import Model
from .model.cuda import CudaModel
from .model.neutral import NeutralModel
from .model.sycl import SyclModel


def is_sycl_consumer(check: Check) -> bool:
    """Whether a check is of consumers, on SYCL; the context has a fault on each side."""
    return (
        check.role == "consumer"
        and check.grounds in (ON_SYCL, ON_HOST_AND_SYCL)
        and check.clause != "sycl.default-context-only"
    )


#: Clauses that can not be broken alone: breaking the first breaks the others, and why.
IMPLIES = {
    # reads every legacy struct wrongly, and both clauses feed it one
    "version.consumer-checks": {"import.null-strides", "version.both-structs"},
    # "as it is" is shared memory too
    "copy.none-shares": {"copy.own-device-as-is"},
    # a capsule that is not consumed yet can be consumed by any thread
    "capsule.not-shown-to-users": {"capsule.claimed-by-one-thread"},
    # the retry without keywords gets a legacy struct, which is what it refuses
    "version.both-structs@consumer": {"version.asked-first"},
    # the deleter is called by hand, with the GIL, by all of these
    "deleter.with-gil": {"capsule.consumed-skips-deleter", "deleter.leaves-no-exception"},
    # the main thread is a calling thread too
    "stream.two-is-per-thread": {"stream.two-in-calling-thread"},
    # no stream while work is pending covers no stream
    "cai.none-when-idle": {"cai.stream-covers-all"},
    # who records when memory is handed on does not record at the import
    "tensor.ready-at-import": {"push.one-record-one-wait"},
    # NULL is a work stream too
    "api.consumer-orders": {"api.null-stream-not-zero"},
    # it drops the capsule of an empty array too
    "capsule.null-deleter-skipped": {"struct.empty-data-null"},
}

#: Faults that end the process; each is seen in a child.
CRASHES = {
    "capsule.null-deleter-skipped": "SIGSEGV",
    "deleter.with-gil": "SIGABRT",
    "deleter.foreign-thread": "SIG",
    "deleter.after-finalization": "SIG",
}

#: Clauses with a check on each side have a fault on each side.
CONSUMER_FAULTS = ["capsule.name-is-static@consumer", "version.both-structs@consumer"]

#: Clauses whose every check needs a driver: broken on the simulated one.
CUDA_ONLY = set(checks_on("simulated CUDA")) - set(checks_on("host"))
CUDA_CLAUSES = sorted(name for name in CUDA_ONLY if not load()[name].only)
#: What binds dlexchange alone: broken in a stand-in for it.
OWN_CLAUSES = sorted(name for name in CUDA_ONLY if load()[name].only)
#: Broken on host memory that says it is a SYCL device's: what is checked of producers there
#: alone, and all that is checked of consumers.
SYCL_FAULTS = [
    "sycl.default-context-only",
    "sycl.default-context-only@consumer",
    "sycl.stream-type",
    *(name for name, some in registered().items() if any(is_sycl_consumer(c) for c in some)),
]
CUDA_FAULTS = [*CUDA_CLAUSES, "device.context-restored@consumer"]


HOST_CLAUSES = sorted(checks_on("host"))
FAULTS = [fault for fault in [*HOST_CLAUSES, *CONSUMER_FAULTS] if fault not in CRASHES]


@pytest.fixture(autouse=True)
def short_leak_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifetime, "WINDOW", 60)


def broken_clauses(subject: Model, passing_over: Collection[str] = ()) -> Iterator[str]:
    """The clauses that a subject does not keep, judged in this process."""
    for clause in load().values():
        if clause.id in passing_over or any(check.at_exit for check in checks_of(clause.id)):
            continue
        verdict = judge(clause, subject)
        assert verdict.outcome != "broken", verdict
        if verdict.outcome in ("fail", "noted"):
            yield clause.id


def test_every_file_of_clauses_yields_one() -> None:
    files = sorted(spec_folder().glob("*.toml"))
    assert len(files) >= 4
    for path in files:
        assert read_toml(path)["clause"], path


def test_every_clause_has_a_check_or_a_reason() -> None:
    clauses = load().values()
    assert len(clauses) > 200
    for clause in clauses:
        assert bool(checks_of(clause.id)) != bool(clause.untestable), clause.id


def test_most_clauses_have_a_check_and_many_of_these_a_driver() -> None:
    counted = count()
    assert counted["checked"] >= 150
    assert counted["driver"] >= 60
    assert counted["checked"] == sum(not clause.untestable for clause in load().values())


def test_every_check_names_a_clause_and_a_side_that_it_binds() -> None:
    assert registered()
    for name, checks in registered().items():
        clause = load()[name]
        for check in checks:
            assert clause.binds in ("both", check.role), name


def test_docstrings_name_clauses_that_exist() -> None:
    docs = (dx.__dict__[name].__doc__ or "" for name in dx.__all__)
    named = [re.findall(r"[\w.-]+", doc.partition("Source\n")[2].lstrip(" -")) for doc in docs]
    assert len([ids for ids in named if ids]) >= 8
    assert {name for ids in named for name in ids if name.strip("-")} <= set(load())


def test_clauses_are_well_formed() -> None:
    for clause in load().values():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*\.[a-z0-9]+(-[a-z0-9]+)*", clause.id)
        assert clause.strength in ("must", "should", "may")
        assert clause.binds in ("producer", "consumer", "both")
        assert clause.says.endswith("."), clause.id
        assert not clause.open or clause.strength == "may", clause.id


def test_model_without_a_fault_keeps_every_clause() -> None:
    assert list(broken_clauses(Model())) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_model_fails_exactly_its_clause(fault: str) -> None:
    clause = fault.partition("@")[0]
    expected = {clause} | IMPLIES.get(fault, set())
    assert set(broken_clauses(Model(fault))) == expected


def test_model_on_the_simulated_driver_keeps_every_clause() -> None:
    with simulated_cuda(devices=2) as simulator:
        subject = CudaModel()
        subject.enter(simulator)
        assert list(broken_clauses(subject)) == []


def test_calls_of_older_garbage_are_not_counted() -> None:
    class Caller:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            cuda.call("cuCtxSynchronize")

    limits = gc.get_threshold()
    with simulated_cuda() as simulator:
        cuda = Cuda(simulator)
        cuda.use(0)
        gc.collect()
        Caller()
        try:
            with cuda.counting() as calls:
                gc.set_threshold(1)  # collect as soon as anything is made
                assert [[] for _ in range(10)]
        finally:
            gc.set_threshold(*limits)
        assert gc.isenabled()
        gc.collect()
    assert not calls


@pytest.mark.parametrize("fault", CUDA_FAULTS)
def test_model_that_is_broken_on_the_simulated_driver_fails_exactly_its_clause(
    fault: str,
) -> None:
    expected = {fault.partition("@")[0]} | IMPLIES.get(fault, set())
    with simulated_cuda(devices=2) as simulator:
        subject = CudaModel(fault)
        subject.enter(simulator)
        assert set(broken_clauses(subject)) == expected


@pytest.mark.parametrize("fault", ["", *OWN_CLAUSES])
def test_broken_stand_in_for_dlexchange_fails_exactly_its_clause(fault: str) -> None:
    expected = {fault} | IMPLIES.get(fault, set()) if fault else set()
    with simulated_cuda(devices=2, timeout=1.0) as simulator:
        subject = NeutralModel(fault)
        subject.enter(simulator)
        assert set(broken_clauses(subject)) == expected


@pytest.mark.parametrize("fault", ["", *SYCL_FAULTS])
def test_model_that_is_broken_on_sycl_fails_exactly_its_clause(fault: str) -> None:
    clause = fault.partition("@")[0]
    assert set(broken_clauses(SyclModel(fault))) == ({clause} if fault else set())


@pytest.mark.slow
@pytest.mark.parametrize("fault", sorted(CRASHES))
def test_crashing_model_fails_exactly_its_clause(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    report = runner.run(
        f"{__package__}.crashing:{fault.replace('.', '_').replace('-', '_')}", [fault]
    )
    assert [v.outcome for v in report.verdicts] == ["fail"]
    assert CRASHES[fault] in report.verdicts[0].seen
    passing_over = {fault} | IMPLIES.get(fault, set())
    assert list(broken_clauses(Model(fault), passing_over)) == []


def test_every_fault_of_the_model_is_tested() -> None:
    """A fault that is spelled wrong would break nothing, and be found by no other test."""
    assert len(FAULTS) + len(CRASHES) + len(CUDA_FAULTS) > 170
    every = [*FAULTS, *CRASHES, *CUDA_FAULTS, *OWN_CLAUSES, *SYCL_FAULTS]
    assert {fault.partition("@")[0] for fault in every} == set(registered())
    for fault in [*FAULTS, *CRASHES, *IMPLIES]:
        assert fault.partition("@")[0] in load(), fault
