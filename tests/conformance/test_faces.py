"""The faces of the suite: child processes, command line, plugin, known failures, report."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dlexchange.conformance import Failed, Subject, check, known, load, report, runner
from dlexchange.conformance.__main__ import main, shipped
from dlexchange.conformance.engine import count
from dlexchange.conformance.verdict import Verdict

from .model import Model

HERE = Path(__file__).resolve().parent
SUITE = Path(report.__file__).parent
ROOT = HERE.parent.parent


@pytest.fixture(autouse=True)
def children_find_the_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent))


def spec(name: str) -> str:
    return f"{__package__}.crashing:{name}"


# --- processes


@pytest.mark.slow
def test_crash_is_a_verdict_and_the_next_clause_is_judged_all_the_same() -> None:
    found = runner.run(
        spec("deleter_foreign_thread"), ["deleter.foreign-thread", "deleter.with-gil"]
    )
    assert [(v.clause, v.outcome) for v in found.verdicts] == [
        ("deleter.foreign-thread", "fail"),
        ("deleter.with-gil", "pass"),
    ]
    assert found.crashes == 1


@pytest.mark.slow
def test_sound_model_survives_finalization_and_says_the_same_twice() -> None:
    first, second = (runner.run(spec("sound")) for _ in range(2))
    outcomes = {v.clause: v.outcome for v in first.verdicts}
    assert outcomes["deleter.after-finalization"] == "pass"
    assert first.verdicts == second.verdicts
    assert set(outcomes) == set(load())


def test_subject_that_is_not_installed_is_absent() -> None:
    found = runner.run(spec("absent"), ["capsule"])
    assert {v.outcome for v in found.verdicts} == {"absent"}


def test_subject_that_can_not_be_imported_is_broken_and_not_absent() -> None:
    found = runner.run(spec("spoilt"), ["capsule"])
    assert {v.outcome for v in found.verdicts} == {"broken"}
    assert "can not be imported" in found.verdicts[0].seen


def test_subject_that_is_not_there_is_broken_and_not_passed_over() -> None:
    found = runner.run(spec("misspelt"), ["capsule"])
    assert {v.outcome for v in found.verdicts} == {"broken"}


def test_hang_is_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CHECK_LIMIT", 0.5)
    found = runner.run(spec("hanging"), ["device.pair"])
    assert found.verdicts[0].outcome == "fail"
    assert "in time" in found.verdicts[0].seen


# --- functions


def test_check_raises_with_clause_expected_seen_and_source() -> None:
    with pytest.raises(AssertionError, match=r"copy\.true-copies: expected .*; saw .*array-api"):
        check(Model("copy.true-copies"), ["copy"])


def test_check_counts_should_only_where_it_is_strict() -> None:
    check(Model("import.device-first"), ["import"])
    with pytest.raises(AssertionError, match=r"import\.device-first"):
        check(Model("import.device-first"), ["import"], strict=True)


def test_clause_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no clause begins with 'capsul'; there are: api"):
        check(Model(), ["capsul"])
    with pytest.raises(ValueError, match=r"there are: .*capsule\.consumed-once"):
        check(Model(), ["capsule.consumed"])


def test_refusal_of_a_subject_is_shown_with_its_reason() -> None:
    class Refusing(Model):
        refuses = {"copy": "it never copies"}  # noqa: RUF012

    verdicts = check(Refusing("copy.true-copies"), ["copy.true-copies"])
    assert [(v.outcome, v.seen) for v in verdicts] == [("refused", "it never copies")]


@pytest.mark.parametrize(
    ("attribute", "wrong", "says"),
    [
        ("ground", "simulated cuda", "ground must be one of .*simulated CUDA"),
        ("judged", ("capsul",), "speaks of 'capsul'"),
        ("refuses", {"copi": "it never copies"}, "speaks of 'copi'"),
    ],
)
def test_subject_that_is_misdescribed_is_not_judged(
    attribute: str, wrong: object, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, attribute, wrong)
    with pytest.raises(ValueError, match=says):
        check(Model(), ["capsule"])


def test_check_of_what_is_not_installed_is_no_pass() -> None:
    class Absent(Model):
        def load(self) -> None:
            raise ModuleNotFoundError("No module named 'mylib'")

    with pytest.raises(AssertionError, match="is absent: No module named 'mylib'"):
        check(Absent(), ["capsule"])


def test_mistake_in_a_check_is_broken_and_not_a_pass() -> None:
    class Mistaken(Model):
        def make(self, *_: object) -> object:  # type: ignore[override]
            raise ZeroDivisionError

    with pytest.raises(AssertionError, match="the check raised ZeroDivisionError"):
        check(Mistaken(), ["device.pair"])


# --- command line


def test_list_shows_clauses_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--json", "--clause", "capsule.consumed-once"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in rows] == ["capsule.consumed-once"]
    assert rows[0]["checks"] >= 1


def test_count_says_how_much_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--count"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{len(load())} clauses, ")
    assert f"{count()['driver']} of them nowhere else" in said


@pytest.mark.slow
def test_subject_that_needs_a_gpu_says_not_run() -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU")
    verdicts = runner.run("torch-cuda", ["stream"]).verdicts
    assert {v.outcome for v in verdicts} == {"absent"}
    assert verdicts[0].seen.startswith("not run: no CUDA ")


@pytest.mark.slow
def test_exit_status_tells_must_from_should(capsys: pytest.CaptureFixture[str]) -> None:
    must, should = spec("copies_never"), spec("device_last")
    assert main([must, "--clause", "copy"]) == 1
    assert "copy.true-copies" in capsys.readouterr().out
    assert main([should, "--clause", "import.device-first"]) == 0
    assert main([should, "--clause", "import.device-first", "--strict"]) == 1


def test_wrong_usage_ends_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--list", "--clause", "nonsense"])
    assert ended.value.code == 2
    assert "there are:" in capsys.readouterr().err


KNOWN = '[[known]]\nclause = "copy.true-copies"\n'


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nump"], "no subject 'nump': .* numpy"),
        (["m:s", "--known", "missing.toml"], "No such file"),
        (["m:s", "--known", "."], "Is a directory"),
        (["m:s", "--known", "broken.toml"], "broken.toml: "),
        (["m:s", "--known", "no_reason.toml"], "no_reason.toml: write"),
        (["m:s", "--known", "misspelt.toml"], "misspelt.toml: write"),
        (["m:s", "numpy", "--known", "broken.toml"], "one subject"),
        (["--summary", "broken.toml"], "is no report.json"),
        (["--summary", "empty.json"], "is no report.json"),
        (["m:s", "--report", "broken.toml"], "File exists"),
    ],
)
def test_what_can_not_be_done_is_said_before_anything_is_judged(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.toml").write_text("known")
    Path("no_reason.toml").write_text(KNOWN)
    Path("misspelt.toml").write_text((KNOWN + 'reason = "r"').replace("known", "knwon"))
    Path("empty.json").write_text("{}")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert re.search(says, capsys.readouterr().err)


@pytest.mark.slow
def test_known_failure_is_forgiven_and_a_stale_one_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "known.toml"
    file.write_text('[[known]]\nclause = "copy.true-copies"\nreason = "it never copies"\n')
    arguments = ["--clause", "copy.true-copies", "--known", str(file)]
    assert main([spec("copies_never"), *arguments]) == 0
    assert main([spec("sound"), *arguments]) == 1


# --- known failures


def test_entry_without_a_clause_is_stale() -> None:
    verdict = Verdict("copy.true-copies", "x", "fail")
    entries = [known.Known("no.such-clause", "r"), known.Known("copy.true-copies", "r")]
    assert known.stale(entries, [verdict]) == [
        "no.such-clause is known to fail, but there is no such clause"
    ]


@pytest.mark.parametrize("outcome", ["pass", "untested", "refused", "noted"])
def test_entry_whose_clause_does_not_fail_is_stale(outcome: str) -> None:
    verdict = Verdict("copy.true-copies", "x", outcome)  # type: ignore[arg-type]
    assert known.stale([known.Known("copy.true-copies", "r")], [verdict])


def test_shipped_known_failures_can_be_read_and_name_clauses() -> None:
    files = sorted((SUITE / "known_failures").glob("*.toml"))
    assert files
    for path in files:
        for entry in known.read_known(path):
            assert entry.clause in load(), f"{path.name}: {entry.clause}"


# --- plugin


@pytest.mark.slow
def test_plugin_makes_a_test_of_each_clause(tmp_path: Path) -> None:
    def run(*options: str) -> str:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "dlexchange.conformance.plugin"]
        command += ["-p", "no:cacheprovider", "--rootdir", str(tmp_path), *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    kept = run(f"--dlpack-subject={spec('sound')}", "--dlpack-clause=device")
    assert "failed" not in kept
    assert " passed" in kept
    broken = run(f"--dlpack-subject={spec('copies_never')}", "--dlpack-clause=copy")
    assert "1 failed" in broken
    assert "saw the array's own memory" in broken
    assert "no subject 'nump'" in run("--dlpack-subject=nump")
    assert "no clause begins with" in run(f"--dlpack-subject={spec('sound')}", "--dlpack-clause=x")
    assert "No such file" in run(f"--dlpack-subject={spec('sound')}", "--dlpack-known=missing.toml")
    soft = run(f"--dlpack-subject={spec('device_last')}", "--dlpack-clause=import.device-first")
    assert "1 xfailed" in soft


def test_plugin_does_nothing_without_its_option(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "dlexchange.conformance.plugin"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "--rootdir", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no tests ran" in done.stdout


# --- subjects, snippets and the report


def test_shipped_subjects_are_found_and_short() -> None:
    assert len(shipped()) >= 4
    for name in shipped():
        lines = (SUITE / "subjects" / f"{name}.py").read_text().splitlines()
        assert len(lines) <= 40, name


def test_snippet_counts_only_when_its_assertion_fails() -> None:
    assert runner.confirm("assert 1 == 2")
    assert runner.confirm("import os; os.abort()")
    assert not runner.confirm("assert 1 == 1")
    assert not runner.confirm("1 / 0")
    assert not runner.confirm("import no_such_module")
    assert not runner.confirm("")


def test_cell_is_red_only_when_its_snippet_showed_the_failure() -> None:
    failure = {"clause": "copy.true-copies", "outcome": "fail"}
    assert report.colour("must", dict(failure, confirmed=True)) == "must"
    assert report.colour("should", dict(failure, confirmed=True)) == "should"
    assert report.colour("must", dict(failure, confirmed=False)) == "unconfirmed"
    assert report.colour("must", failure) == "unconfirmed"


def test_report_is_drawn_from_the_json_alone(tmp_path: Path) -> None:
    verdicts = [
        Verdict("copy.true-copies", "thing", "fail", "a copy", "<none>", "assert 0", True),
        Verdict("copy.false-shares", "thing", "pass"),
    ]
    made = runner.SubjectReport("thing", "thing", "1.0", "host", verdicts)
    report.write_report([made], tmp_path)
    data = json.loads((tmp_path / "report.json").read_text())
    assert (tmp_path / "report.md").read_text() == report.draw_markdown(data)
    page = (tmp_path / "index.html").read_text()
    assert page == report.draw_html(data)
    assert "&lt;none&gt;" in page
    assert "http://" not in page
    assert "| thing | 1.0 | host | 1 | 1 | 0 | 0 |" in report.summary(data)


def committed() -> dict[str, Any]:
    return dict(json.loads((ROOT / "spec" / "report" / "report.json").read_text()))


def test_committed_report_holds_no_failure_that_its_snippet_does_not_show() -> None:
    data = committed()
    failures = [v for s in data["subjects"] for v in s["verdicts"] if v["outcome"] == "fail"]
    assert len(failures) > 50
    assert [v for v in failures if not v.get("confirmed")] == []
    assert {v["outcome"] for s in data["subjects"] for v in s["verdicts"]} >= {"pass", "untested"}
    assert {c["id"] for c in data["clauses"]} == set(load())
    assert {s["spec"] for s in data["subjects"]} == set(shipped())


def test_known_failures_are_those_of_the_committed_report() -> None:
    for subject in committed()["subjects"]:
        path = known.known_file(subject["name"])
        listed = {k.clause for k in known.read_known(path)} if path.is_file() else set()
        assert listed == {v["clause"] for v in subject["verdicts"] if v["outcome"] == "fail"}


def test_committed_report_accuses_only_with_a_snippet_of_ten_lines_without_this_suite() -> None:
    found = list(report._accusations(committed()))
    assert found
    for subject, clause, verdict in found:
        lines = verdict["snippet"].splitlines()
        where = f"{subject['name']} {clause['id']}"
        assert 0 < len(lines) <= 10, where
        assert "dlexchange.conformance" not in verdict["snippet"], where
        compile(verdict["snippet"], where, "exec")


def test_committed_report_is_drawn_from_its_json() -> None:
    data = committed()
    folder = ROOT / "spec" / "report"
    assert (folder / "report.md").read_text() == report.draw_markdown(data)
    assert (folder / "index.html").read_text() == report.draw_html(data)


def test_subject_that_gives_little_is_told_what_is_missing() -> None:
    class Little(Subject):
        name = "little"
        make_code = "[{values}, {shape}, '{dtype}']"

        @property
        def version(self) -> str:
            return "0"

    try:
        verdicts = check(Little(), ["capsule"])
    except Failed:
        pytest.fail("an object without __dlpack__ breaks no clause about capsules")
    reasons = {v.outcome: v.seen for v in verdicts}
    assert "__dlpack__" in reasons["untested"]
    assert reasons["refused"] == "it imports no arrays"
