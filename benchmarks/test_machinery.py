"""The benchmarks' own parts: each check here has been seen to fail when it should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as main
from benchmarks import (
    cases,
    floor,
    frameworks,
    instructions,
    plots,
    push,
    report,
    soak,
    soak_threads,
    target,
    timing,
    values,
)
from benchmarks.frameworks import Source
from benchmarks.timing import Contender

PAIRS = [
    (producer, consumer)
    for producer in frameworks.PRODUCERS
    for consumer in frameworks.CONSUMERS
    if frameworks.has(producer) and frameworks.has(consumer)
]


@pytest.mark.parametrize(("producer", "consumer"), PAIRS)
def test_floor_shares_memory_and_shows_the_same_values(producer: str, consumer: str) -> None:
    sources = cases.Case(producer, consumer, cases.KINDS[0]).sources()
    contender = Contender("floor", floor.function(producer, consumer), "f(x)", sources[0].array)
    assert cases.prove(contender, sources) == "same memory"


def test_prove_refuses_other_values() -> None:
    source = frameworks.make_source("numpy", cases.KINDS[0].make)
    wrong = Contender("wrong", lambda x: x + 1, "f(x)", source.array)
    with pytest.raises(AssertionError, match="wrong: values differ"):
        cases.prove(wrong, (source,))


def test_prove_says_where_a_contender_copied() -> None:
    source = frameworks.make_source("numpy", cases.KINDS[0].make)
    copying = Contender("copying", lambda x: x.copy(), "f(x)", source.array)
    assert cases.prove(copying, (source,)) == "copied"


def test_ownership_state_is_what_the_case_says() -> None:
    pytest.importorskip("torch")
    make = cases.KINDS[0].make
    assert frameworks.make_source("torch", make).array._use_count() == 1
    assert frameworks.make_source("torch", make, aliased=True).array._use_count() == 2


def test_values_column_sees_raw_memory_behind_a_neg_bit() -> None:
    torch = pytest.importorskip("torch")
    assert values.keeps_values(torch.Tensor.numpy) is True
    assert values.keeps_values(torch.from_dlpack) is False
    assert values.keeps_values(lambda x: None) is None


def test_false_declaration_of_values_is_an_error() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(AssertionError, match="declares values='yes', seen False"):
        values.check("torch.from_dlpack", "yes", torch.from_dlpack, "f(x)")


def test_every_contender_is_timed_once_a_round() -> None:
    calls: dict[str, int] = {"a": 0, "b": 0}

    def count(name: str) -> None:
        calls[name] += 1

    contenders = [Contender(name, count, "f(x)", name) for name in calls]
    figures = timing.measure(contenders, rounds=3, round_ns=1)
    assert {name: len(found) for name, found in figures.items()} == {"a": 3, "b": 3}
    assert all(calls.values())


def test_one_lost_time_slice_does_not_leave_few_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([0, 10_000_000, *[1_000] * 100])  # the first counted run lost its slice
    monkeypatch.setattr(timing, "make_loop", lambda call: lambda f, x, turns: next(taken) * turns)
    runner = timing._Runner(Contender("a", None, "pass", None), round_ns=64_000)
    assert runner.turns == 64


def test_two_contenders_of_one_name_are_refused() -> None:
    twice = [Contender("a", None, "pass", None)] * 2
    with pytest.raises(ValueError, match="share a name"):
        timing.measure(twice, rounds=1)


def _group(ours: float, floor_ns: float, peer: float) -> dict[str, Any]:
    times = {"dlexchange": [ours], "floor": [floor_ns], "nanobind argument": [peer]}
    lines = [
        {
            "name": name,
            "ratio_to_floor": timing.ratio(found, times["floor"]),
            "ratio_to_ours": timing.ratio(found, times["dlexchange"]),
        }
        for name, found in times.items()
    ]
    return {"pair": "numpy -> tensor", "kind": target.KIND, "state": "", "contenders": lines}


@pytest.mark.parametrize(
    ("ours", "peer", "verdicts"),
    [(15, 45, ["met", "met"]), (16, 45, ["missed", "missed"]), (15, 44, ["met", "missed"])],
)
def test_target_says_met_and_missed(ours: float, peer: float, verdicts: list[str]) -> None:
    lines = [
        line
        for line in target.verdicts([_group(ours, 10, peer)])
        if line["pair"] == "numpy -> tensor"
    ]
    assert [line["verdict"] for line in lines] == verdicts


def test_target_without_a_run_is_not_met() -> None:
    lines = list(target.verdicts([]))
    assert len(lines) == sum(1 + len(row.faster) for row in target.ROWS)
    assert {line["verdict"] for line in lines} == {"not run"}


CALLGRIND = """\
events: Ir
ob=(1) /x/bin/python3.11
fn=(1) loop
10 7
cob=(2) /x/site-packages/numpy/_core/_umath.so
cfn=(2) make
calls=3 20
11 300
+1 5
ob=(2)
fn=(2)
20 90
* 10
ob=(1)
fn=(1)
12 1
"""


def test_callgrind_costs_go_to_the_object_that_ran_them() -> None:
    assert instructions.by_object(CALLGRIND) == {"python": 13, "numpy": 100}


@pytest.mark.parametrize(("counted", "verdict"), [(103.0, "met"), (103.1, "GREW"), (50.0, "met")])
def test_instruction_guard_allows_three_percent(counted: float, verdict: str) -> None:
    name = "numpy -> tensor, ours"
    lines = instructions.compare({name: {"net": 100.0}}, {name: {"net": counted}})
    assert [line[-1] for line in lines] == [verdict]


def test_soak_sees_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr(cases, "ours", lambda consumer: lambda x: kept.append(bytearray(1024)))
    assert soak.soak_pair("numpy", "tensor", 2_000)["verdict"] == "missed"


def test_soak_of_threads_holds_every_line_and_sees_a_missed_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert {line["verdict"] for line in soak_threads.run(100)["lines"]} == {"met"}
    monkeypatch.setattr(soak_threads, "LIMIT_KILOBYTES", -1_000_000)
    missed = [line["what"] for line in soak_threads.run(100)["lines"] if line["verdict"] != "met"]
    assert missed == ["growth of memory, KiB"]


@pytest.mark.parametrize(("dearest", "verdict"), [(150.0, "met"), (150.1, "missed")])
def test_push_is_judged_by_its_dearer_kind(dearest: float, verdict: str) -> None:
    assert push.judged({"push_ns": 30.0, "push_legacy_ns": dearest})["verdict"] == verdict


def test_every_picture_is_there_in_both_themes_and_forms() -> None:
    names = {path.name for path in plots.PLOTS.iterdir()}
    assert names == {
        f"{name}-{theme}.{suffix}"
        for name in plots.PICTURES
        for theme in plots.THEMES
        for suffix in ("svg", "png")
    }


@pytest.mark.parametrize("name", plots.PICTURES)
def test_picture_shows_the_committed_result(name: str, tmp_path: Path) -> None:
    version = pytest.importorskip("matplotlib").__version__
    committed = (plots.PLOTS / f"{name}-light.svg").read_text()
    if f"Matplotlib v{version}" not in committed:
        pytest.skip(f"the committed picture was drawn by another Matplotlib than {version}")
    drawn, _ = plots.draw(name, "light", tmp_path)
    assert drawn.read_text() == committed, "run python -m benchmarks.plots"


def test_all_runs_a_command_for_each_committed_result() -> None:
    committed = {path.stem for path in report.RESULTS.glob("*.json")}
    assert len(committed) >= 7
    assert committed - {"gpu"} <= set(main.EVERYTHING)


def test_all_goes_on_after_a_failure_and_returns_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    commands = {"a": ("no_such_module",), "b": ("platform",)}
    monkeypatch.setattr(main, "EVERYTHING", commands)
    assert main._all() == 1
    said = capfd.readouterr().out
    assert "== python -m platform\n\nLinux" in said
    assert "exit 1: python -m no_such_module" in said


def test_source_is_on_a_border_that_jax_does_not_copy() -> None:
    source: Source = frameworks.make_source("numpy", cases.KINDS[0].make)
    assert source.address % 64 == 0


def test_pair_that_nobody_counts_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["instructions", "--pair", "numpy-troch"])
    with pytest.raises(SystemExit):
        instructions.main()
    assert "numpy-torch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("--all --fast", "--all takes no --fast"),
        ("--all --json x.json", "--all takes no --json"),
        ("--soak-threads --pair numpy-torch", "--soak-threads takes no --pair"),
    ],
)
def test_option_that_would_be_passed_over_is_refused(
    typed: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", *typed.split()])
    with pytest.raises(SystemExit):
        main._parse()
    assert says in capsys.readouterr().err


def test_pair_that_is_no_case_is_told_which_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "--pair", "numpy-troch"])
    assert main.main() == 2
    said = capsys.readouterr().err
    assert "numpy-torch" in said
    assert "'16 floats'" in said


def test_help_of_plots_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["plots", "--help"])
    monkeypatch.setattr(plots, "draw", lambda *_: pytest.fail("drawn"))
    with pytest.raises(SystemExit) as ended:
        plots.main()
    assert ended.value.code == 0


def test_two_clones_do_not_build_the_push_in_one_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("subprocess.run", lambda command, **_: commands.append(command))
    programs = set()
    for clone in ("/one", "/two"):
        monkeypatch.setattr(push, "_SOURCES", Path(clone))
        programs.add(push._program())
    assert len(programs) == 2
    assert [command[2] for command in commands if "-S" in command] == ["/one", "/two"]
