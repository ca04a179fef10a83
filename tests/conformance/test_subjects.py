"""Subjects as whole: the simulated frameworks, dlexchange itself, and a second run."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from dlexchange.conformance import Subject, load, runner
from dlexchange.conformance.__main__ import main
from dlexchange.conformance.clauses import spec_folder

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def children_find_the_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))


@pytest.mark.parametrize(("dialect", "least"), [("dlpack", 60), ("exchange_api", 70), ("cai", 10)])
def test_simulated_framework_fails_no_clause(dialect: str, least: int) -> None:
    verdicts = runner.run(f"{__package__}.simulated:{dialect}").verdicts
    assert [v for v in verdicts if v.outcome in ("fail", "broken", "absent")] == []
    assert sum(v.outcome == "pass" for v in verdicts) >= least


@pytest.mark.parametrize(
    ("name", "least"), [("dlexchange", 110), ("dlexchange-cuda", 90), ("dlexchange-sycl", 40)]
)
def test_dlexchange_fails_no_must_and_no_should(name: str, least: int) -> None:
    if name == "dlexchange-sycl":
        pytest.importorskip("dpnp", reason="absent: dpnp is not installed")
    verdicts = runner.run(name).verdicts
    assert [v for v in verdicts if v.outcome in ("fail", "broken", "absent")] == []
    assert sum(v.outcome == "pass" for v in verdicts) >= least


@pytest.mark.parametrize("name", ["numpy", "array-api-strict", "torch", "cuda.core"])
def test_framework_breaks_what_is_known_and_nothing_else(name: str) -> None:
    if name == "torch":
        pytest.importorskip("torch", reason="absent: torch is not installed")
    assert main([name, "--strict"]) == 0


@pytest.mark.parametrize(
    "name",
    ["numpy", "array-api-strict", "dlexchange", "dlexchange-cuda", "cuda.core", "numba-cuda"],
)
def test_committed_report_says_what_a_run_says(name: str) -> None:
    report = json.loads((spec_folder() / "report" / "report.json").read_text())
    (told,) = (subject for subject in report["subjects"] if subject["name"] == name)
    found = runner.run(name).as_json()
    if name == "dlexchange" and Path("/dev/nvidiactl").exists():
        pytest.skip("the report is of a machine without a GPU, which pinned memory needs")
    if found.get("version") != told["version"]:
        pytest.skip(f"absent: the report is of {name} {told['version']}")
    said, seen = (
        {v["clause"]: v["outcome"] for v in subject["verdicts"]}  # words are each Python's own
        for subject in (told, found)
    )
    assert seen == said


@pytest.mark.parametrize("name", ["numpy", "dlexchange-cuda", "cuda.core"])
def test_second_run_gives_the_same_verdicts(name: str) -> None:
    first, second = runner.run(name), runner.run(name)
    assert first.verdicts == second.verdicts
    assert len(first.verdicts) == len(load())


def test_version_is_of_the_distribution_that_is_installed() -> None:
    class Several(Subject):
        distribution = ("no-such-thing", "numpy")

    class Neither(Subject):
        distribution = ("no-such-thing", "nor-this")

    assert Several().version == metadata.version("numpy")
    with pytest.raises(metadata.PackageNotFoundError, match="no-such-thing or nor-this"):
        _ = Neither().version
