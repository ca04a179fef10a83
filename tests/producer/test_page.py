"""The page for authors: its Python runs, and its promises hold."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

import dlexchange as dx

PAGE = Path(dx.__file__).with_name("producer.md").read_text()


def test_first_example_is_a_conforming_class():
    code = re.findall(r"```python\n(.*?)```", PAGE, re.S)[0]
    names: dict[str, type] = {}
    exec(code, names)
    samples = names["Samples"]([1, 2, 3])
    for read in (np.from_dlpack, np.asarray, memoryview, dx.to_torch, dx.to_jax):
        assert read(samples).tolist() == [1, 2, 3]


def test_every_name_of_ours_on_the_page_exists():
    named = set(re.findall(r"\bdx\.([A-Za-z]\w*)", PAGE))
    assert len(named) > 5
    assert named <= {*dx.__all__, "to_"}
    header = Path(dx.get_include(), "dlexchange", "dlexchange_python.h").read_text()
    functions = set(re.findall(r"\bdlx_py_\w+", PAGE))
    assert functions
    assert all(f"\n{name}(" in header for name in functions)
