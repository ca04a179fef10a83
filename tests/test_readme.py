"""The README is true: its example runs, its numbers and its matrix are what commands say."""

from __future__ import annotations

import re
from importlib.metadata import metadata, requires

import pytest
import readme

import dlexchange as dx
from dlexchange.doctor.pairs import survey

TEXT = readme.README.read_text()


def _require(*names: str) -> None:
    installed = {info.name for info in dx.frameworks()}
    if absent := set(names) - installed:
        pytest.skip(f"absent: {', '.join(sorted(absent))} not installed")


@pytest.mark.slow
def test_the_example_prints_what_is_shown() -> None:
    _require("numpy", "torch", "tvm_ffi")
    assert readme.output(readme.example(TEXT)) == readme.shown(TEXT)


def test_the_example_is_short() -> None:
    code = readme.example(TEXT).splitlines()
    assert len([line for line in code if line.strip() and "import" not in line]) <= 10


@pytest.mark.slow
def test_the_numbers_are_what_commands_print() -> None:
    assert readme.written(TEXT) == readme.numbers(), "run python tests/readme.py"


@pytest.mark.slow
def test_the_matrix_is_what_the_doctor_finds() -> None:
    light = ("numpy", "torch", "jax", "tvm_ffi", "array_api_strict", "cuda_core")
    names = {info.name for info in dx.frameworks()} & set(light)
    found = readme.matrix([v._asdict() for v in survey(only=tuple(names)).pairs])
    assert len(found) == len(names) ** 2 >= 1
    table = readme.table(TEXT)
    assert len(table) == len(readme.MATRIX) ** 2
    assert {pair: table[pair] for pair in found} == found, "run python tests/readme.py"


@pytest.mark.slow
def test_the_verdicts_are_those_of_the_report() -> None:
    assert readme.block(TEXT, "conformance") == readme.conformance(), "run python tests/readme.py"


def test_the_commands_install_what_they_name() -> None:
    commands = re.findall(
        r"^pip install -c tests/constraints.txt -e '\.\[(\w+)\]' && (.+)$", TEXT, re.M
    )
    assert commands == [("demo", "python -m dlexchange"), ("test", "pytest")]
    extras = metadata("dlexchange").get_all("Provides-Extra") or []
    assert {extra for extra, _ in commands} <= set(extras)
    named = re.search(
        r"^Extras: (.*?)\. ", TEXT.replace("\n", " ").replace("Extras", "\nExtras"), re.M
    )
    assert named is not None
    assert set(re.findall(r"`(\w+)`", named[1])) <= set(extras)


def test_constraints_pin_what_the_extras_name() -> None:
    pinned = set()
    for line in (readme.ROOT / "tests" / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, equals, _ = line.partition("==")
            assert equals, f"{line} is no pin"
            pinned.add(name.replace("_", "-").lower())
    wanted = {
        re.split(r"[;\[ <>=]", requirement)[0].replace("_", "-").lower()
        for requirement in requires("dlexchange") or []
    }
    assert len(wanted) > 20
    assert wanted - pinned == set()


def test_links_and_files_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', TEXT)
    assert len(links) >= 3
    assert len(pictures) >= 6
    for link in (*links, *pictures):
        assert link.startswith("http") or (readme.ROOT / link).exists(), link
