"""The page for authors: its code runs, and its promises hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from authors.build import INCLUDES, STRICT, compiler

import dlexchange as dx
from dlexchange.testing import simulated_cuda

PAGE = Path(dx.__file__).with_name("producer.md").read_text()
MIXIN, STREAMS, READING, SUBJECT = re.findall(r"```python\n(.*?)```", PAGE, re.S)
(HEADER,) = re.findall(r"```c\n(.*?)```", PAGE, re.S)


READERS = {
    "numpy": np.from_dlpack,
    "numpy's asarray": np.asarray,
    "memoryview": memoryview,
    "torch": dx.to_torch,
    "jax": dx.to_jax,
}


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_first_example_is_read_by_everybody(reader):
    if reader in ("torch", "jax"):
        pytest.importorskip(reader, reason=f"absent: {reader} is not installed")
    names: dict[str, type] = {}
    exec(MIXIN, names)
    assert READERS[reader](names["Samples"]([1, 2, 3], (3,))).tolist() == [1, 2, 3]


def test_description_with_streams_orders_each_of_them():
    with simulated_cuda() as sim:
        memory = sim.array((6,), stream=sim.stream(), fill=1)
        array = SimpleNamespace(compute_stream=memory.stream, copy_stream=sim.stream())
        consumer = sim.stream()
        names = {"dx": dx, "self": array, "pointer": memory.data_ptr, "shape": (6,)}
        said = eval(STREAMS, names)
        sim.reset_calls()
        dx.wrap(memory, lambda _: said).__dlpack__(stream=consumer.handle)
        assert (sim.calls["cuEventRecord"], sim.calls["cuStreamWaitEvent"]) == (2, 2)


def test_reading_gives_the_memory_ordered():
    with simulated_cuda() as sim:
        memory = sim.array((6,), stream=sim.stream(), fill=4, speaks="dlpack")
        names = {"dx": dx, "x": memory, "my_stream": sim.stream()}
        exec(READING, names)
        assert names["tensor"].data_ptr == memory.data_ptr
        assert memory.tolist(stream=names["my_stream"]) == [4.0] * 6
        names["tensor"].close()


@pytest.mark.slow
def test_c_example_compiles(tmp_path):
    source = tmp_path / "page.c"
    source.write_text(f"{HEADER}\nPyMethodDef *used = image_methods;\n")
    flags = ["-std=c11", "-D_GNU_SOURCE", *STRICT, *INCLUDES]
    command = [compiler("c"), *flags, "-c", str(source), "-o", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_library_of_the_page_fails_no_clause(tmp_path):
    (tmp_path / "my_library.py").write_text(MIXIN)
    (tmp_path / "my_subject.py").write_text(SUBJECT)
    done = subprocess.run(
        [sys.executable, "-m", "dlexchange.conformance", "my_subject:subject"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) pass", done.stdout)
    assert passed is not None, done.stdout
    assert int(passed[1]) > 30


def test_every_name_of_ours_on_the_page_exists():
    named = set(re.findall(r"\bdx\.([A-Za-z]\w*)", PAGE))
    assert len(named) > 5
    assert named <= {*dx.__all__, "to_"}
    header = Path(dx.get_include(), "dlexchange", "dlexchange_python.h").read_text()
    functions = set(re.findall(r"\bdlx_py_\w+", PAGE))
    assert len(functions) > 3
    assert [name for name in functions if f"{name}(" not in header] == []
