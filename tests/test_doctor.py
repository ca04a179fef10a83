"""``python -m dlexchange``: its verdicts, what it survives, and how it reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlexchange as dx
from dlexchange.doctor import SECTIONS, main, pairs, text
from dlexchange.doctor.exchange import Verdict, exchange
from dlexchange.doctor.specimens import SPECIMENS


def _run(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    return subprocess.run(
        [sys.executable, "-m", "dlexchange", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def _outcomes(report: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(pair["producer"], pair["consumer"]): pair["outcome"] for pair in report["pairs"]}


@pytest.mark.slow
def test_every_installed_pair_gives_right_values() -> None:
    done = _run("--json")
    report = json.loads(done.stdout)
    outcomes = _outcomes(report)
    names = {info.name for info in dx.frameworks() if info.name in SPECIMENS}
    assert outcomes.keys() == {(a, b) for a in names for b in names}
    strange = {
        (pair["producer"], pair["consumer"]): pair["why"]
        for pair in report["pairs"]
        if pair["outcome"] not in ("shared", "copied", "absent", "refused")
    }
    assert strange == {}
    assert done.returncode == 0
    light = {"numpy", "torch", "jax", "tvm_ffi", "array_api_strict"} & names
    assert len(light) >= 1
    assert {outcomes[a, b] for a in light for b in light} == {"shared"}


@pytest.mark.slow
def test_one_process_for_the_fast_ones() -> None:
    done = _run("--fast", "--json")
    assert done.returncode == 0, done.stderr
    outcomes = _outcomes(json.loads(done.stdout))
    installed = {info.name for info in dx.frameworks()} & set(pairs.FAST)
    assert outcomes.keys() == {(a, b) for a in installed for b in installed}
    assert outcomes["numpy", "numpy"] == "shared"


def test_writes_are_seen_in_both_directions() -> None:
    pytest.importorskip("torch", reason="absent: torch is not installed")
    for verdict in (exchange("numpy", "torch"), exchange("torch", "numpy")):
        assert verdict.outcome == "shared"
        assert verdict.writes == "both"
        assert verdict.ns is not None
        assert verdict.ns > 0


def test_immutable_sides_are_named() -> None:
    pytest.importorskip("jax", reason="absent: jax is not installed")
    verdict = exchange("jax", "numpy")
    assert verdict.outcome == "shared"
    assert verdict.writes == "none"
    assert "jax arrays are immutable" in verdict.sealed
    assert verdict.read_only == "kept"


def test_a_copy_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jax", reason="absent: jax is not installed")
    make = SPECIMENS["numpy"].make

    def misaligned() -> Any:
        raw = np.zeros(4 * 32 + 64 + 4, np.uint8)
        start = -raw.ctypes.data % 64 + 4
        array = raw[start : start + 4 * 32].view(np.float32).reshape(4, 8)
        array[...] = make()
        return array

    monkeypatch.setitem(SPECIMENS, "numpy", SPECIMENS["numpy"]._replace(make=misaligned))
    verdict = exchange("numpy", "jax")
    assert verdict.outcome == "copied"
    assert "aligned to 64 bytes" in verdict.why


def _lying(monkeypatch: pytest.MonkeyPatch, **parts: Callable[..., Any]) -> Verdict:
    monkeypatch.setitem(SPECIMENS, "numpy", SPECIMENS["numpy"]._replace(**parts))
    return exchange("numpy", "numpy")


def test_wrong_values_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = _lying(monkeypatch, read=lambda x: [0.0] * 32)
    assert verdict.outcome == "wrong"
    assert "values differ" in verdict.why


def test_the_same_address_without_a_shared_write_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verdict = _lying(monkeypatch, write=lambda x, value: x.fill(value) if x.base is None else None)
    assert verdict.outcome == "wrong"


def test_another_address_with_a_shared_write_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = iter(range(100))
    verdict = _lying(monkeypatch, address=lambda x: next(addresses))
    assert verdict.outcome == "wrong"
    assert "copy=False" in verdict.why or "addresses differ" in verdict.why


def test_wrong_values_are_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lying = SPECIMENS["numpy"]._replace(read=lambda x: [0.0] * 32)
    monkeypatch.setitem(SPECIMENS, "numpy", lying)
    assert main(["--fast", "--only", "numpy"]) == 1
    assert "WRONG: numpy > numpy" in capsys.readouterr().out
    monkeypatch.undo()
    assert main(["--fast", "--only", "numpy"]) == 0
    assert "No exchange gave wrong values" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "nmpy"], "not installed: nmpy; there are: numpy"),
        (["--only", "array_api_strict", "--fast"], "--fast leaves out array_api_strict"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_a_mistyped_option_is_not_passed_over(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_nothing_installed_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dx, "frameworks", lambda: ())
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "pip install numpy torch" in said
    assert "This machine" in said


def _fake_warp(folder: Path, code: str) -> Path:
    """Install a package that calls itself warp-lang and does something on import."""
    (folder / "warp.py").write_text(code)
    information = folder / "warp_lang-99.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: warp-lang\nVersion: 99.0\n")
    return folder


@pytest.mark.slow
def test_a_crash_is_a_verdict_of_its_pairs(tmp_path: Path) -> None:
    fake = _fake_warp(tmp_path, "import os; os.abort()")
    done = _run("--json", "--only", "numpy", "warp", path=fake)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert _outcomes(report) == {
        ("numpy", "numpy"): "shared",
        ("numpy", "warp"): "crashed",
        ("warp", "numpy"): "crashed",
        ("warp", "warp"): "crashed",
    }
    assert {pair["why"] for pair in report["pairs"]} == {"", "SIGABRT"}


@pytest.mark.slow
def test_a_hang_is_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _fake_warp(tmp_path, "import threading; threading.Event().wait()")
    monkeypatch.setenv("PYTHONPATH", str(fake))
    outcome = pairs._process([["warp", "warp"]], 2.0)
    assert outcome.ended == "hung"
    assert "2 s" in outcome.why


@pytest.mark.slow
def test_a_failing_import_is_a_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _fake_warp(tmp_path, "raise ImportError('libmissing.so.1: no such file')")
    monkeypatch.setenv("PYTHONPATH", str(fake))
    monkeypatch.syspath_prepend(fake)
    found = pairs.survey(only=("numpy", "warp"))
    outcomes = {(v.producer, v.consumer): v.outcome for v in found.pairs}
    assert outcomes.pop(("numpy", "numpy")) == "shared"
    assert set(outcomes.values()) == {"failed"}
    assert found.pairs[-1].why == "import of warp: ImportError: libmissing.so.1: no such file"


def test_the_text_fits_a_hundred_columns() -> None:
    names = [name for name in SPECIMENS if name not in ("cupy", "numba_cuda")]
    assert len(names) >= 15
    why = "a reason that is long enough to be wrapped " * 5
    kinds = ("shared", "copied", "refused", "crashed")
    verdicts = [
        Verdict(a, b, kinds[(i + j) % 4], why, writes="none", ns=123456.7)
        for i, a in enumerate(names)
        for j, b in enumerate(names)
    ]
    verdicts += [
        Verdict("cupy", name, "absent", "no array: no device") for name in ("cupy", *names)
    ]
    drawn = text.matrix(verdicts)
    assert max(len(line) for line in drawn.splitlines()) <= text.WIDTH
    assert "cupy: no array: no device" in drawn
    found = [
        {"name": n, "version": "1.2.3.post4", "devices": None, "exchange_api": None, "notes": [why]}
        for n in names
    ]
    assert max(len(line) for line in text.frameworks(found).splitlines()) <= text.WIDTH


def test_values_stand_in_one_column() -> None:
    lines = text.rows([("system", "x"), ("an unrelated stream finished", "x")]).splitlines()
    assert lines[0].index("x") == lines[1].index("x")


def test_every_section_shows_what_it_collects() -> None:
    found = pairs.survey(fast=True, only=("numpy",))
    assert len(SECTIONS) >= 3
    for section in SECTIONS:
        data = section.collect(found)
        assert json.loads(json.dumps(data)) is not None
        assert section.show(data).strip()
