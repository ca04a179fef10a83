"""The README's quick start: what it prints is what is shown, and no one has to order anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import readme

SECTION = readme.README.read_text().split("## Pipelines")[1].split("\n## ")[0]


@pytest.mark.slow
def test_the_quick_start_prints_what_is_shown() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    assert readme.output(readme.example(SECTION)) == readme.shown(SECTION)
    assert len(readme.shown(SECTION).splitlines()) >= 5


def test_r004_17_the_quick_start_speaks_of_no_stream_no_event_and_no_synchronisation() -> None:
    """But for the method ``pipe.stream``, which is a stream of results."""
    code = readme.example(SECTION)
    assert code.count("pipe.stream(") == 1
    words = re.findall(
        r"\b(stream\w*|event\w*|sync\w*|device\w*)\b", code.replace("pipe.stream", "")
    )
    assert words == []


def test_the_files_it_names_are_there() -> None:
    names = re.findall(r"\]\(([\w/.]+)\)", SECTION)
    assert len(names) == 2
    assert all((Path(readme.ROOT) / name).exists() for name in names)
