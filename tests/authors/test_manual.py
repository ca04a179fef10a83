"""dlexchange.h as a manual: half of it is documentation, and its examples compile."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import dlexchange as dx

from .build import HERE, INCLUDES, STRICT, compiler

FOLDER = Path(dx.get_include(), "dlexchange")
INTERFACE = [path for path in sorted(FOLDER.glob("*.h")) if not path.name.startswith("impl_")]
COMMENT = re.compile(r"/\*.*?\*/", re.S)
#: A function with the comment in front of it, if it has one.
FUNCTION = re.compile(
    r"(?:(?P<comment>/\*(?:(?!\*/).)*\*/)\n)?static inline [^;{}]*?\b(?P<name>dlx_\w+)\("
    r"(?:[^;{}]*?)\)\s*(?P<end>[;{])",
    re.S,
)


def lines_of(text: str) -> tuple[int, int]:
    """Count lines that are documentation, and lines of code."""
    code = COMMENT.sub(lambda found: "\n" * found[0].count("\n"), text).splitlines()
    written = [line.strip() for line in text.splitlines()]
    of_code = sum(bool(line.strip()) for line in code)
    return sum(bool(line) for line in written) - of_code, of_code


def test_lines_are_counted_as_what_they_are():
    assert lines_of("/* a\n * b */\nint x; /* c */\n\n") == (2, 1)


def test_half_of_the_header_is_documentation():
    counts = [lines_of(path.read_text()) for path in INTERFACE]
    assert len(counts) >= 5
    assert sum(doc for doc, _ in counts) >= sum(code for _, code in counts)
    for name in ("dlexchange.h", "dlexchange_python.h"):
        doc, code = lines_of((FOLDER / name).read_text())
        assert doc >= code, name


def test_every_function_is_documented_or_private():
    declared, defined = {}, {}
    for path in sorted(FOLDER.glob("*.h")):
        for found in FUNCTION.finditer(path.read_text()):
            to = declared if found["end"] == ";" else defined
            to[found["name"]] = found["comment"] or ""
    assert len(declared) > 20
    assert set(declared) <= set(defined)
    assert [name for name, comment in declared.items() if not comment] == []
    public = {name for name, comment in defined.items() if "Private" not in comment}
    assert public == set(declared)


@pytest.mark.parametrize("word", ["Owns", "Orders", "GIL"])
def test_functions_that_take_or_give_memory_say_who_owns_it_and_where(word):
    text = (FOLDER / "dlexchange.h").read_text()
    said = {found["name"]: found["comment"] for found in FUNCTION.finditer(text)}
    for name in ("dlx_export", "dlx_import", "dlx_release", "dlx_push", "dlx_copy_to_host"):
        assert f"{word}:" in said[name], name


# ---- the examples -------------------------------------------------------------------------

AROUND = """
#include <Python.h>
#include <dlexchange/dlexchange.h>
typedef struct {
    PyObject_HEAD
    void *pixels, *decoder, *scaler;
    int64_t shape[2], strides[2];
    int ordinal;
    dlx_imported import;
} image;
%s
static PyMethodDef methods[] = {%s, {NULL, NULL, 0, NULL}};
void image_free(image *im) { %s }
void *used[] = {methods, (void *)frame_dlpack, (void *)image_read, (void *)hand_over};
"""


def examples() -> list[str]:
    """Return the blocks of code in the manual, in order."""
    text = (FOLDER / "dlexchange.h").read_text()
    text = text[text.index(" * A PRODUCER IN PYTHON") : text.index(" * WORDS")]
    blocks = re.findall(r"(?:^ \* {5,}\S.*\n(?:^ \*\n(?= \* {5}))?)+", text, re.M)
    return [re.sub(r"^ \* {0,5}", "", block, flags=re.M) for block in blocks]


@pytest.mark.slow
def test_examples_of_the_manual_compile(tmp_path):
    blocks = examples()
    functions = [code for code in blocks if "static" in code]
    (entry,) = [code for code in blocks if '"__dlpack__"' in code]
    (release,) = [code for code in blocks if code.strip().startswith("dlx_release")]
    assert len(functions) == 4
    source = tmp_path / "examples.c"
    source.write_text(AROUND % ("\n".join(functions), entry, release))
    flags = [*STRICT, "-Wno-pedantic", "-D_GNU_SOURCE", *INCLUDES]
    command = [compiler("c"), "-std=c11", *flags, "-c", str(source), "-o", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("program", "standard"), [("check.c", "c11"), ("raii.cpp", "c++11")])
def test_program_finds_nothing_wrong(tmp_path, program, standard):
    language = "c" if program.endswith(".c") else "c++"
    built = tmp_path / "program"
    flags = [f"-std={standard}", "-g", "-fsanitize=address,undefined", *STRICT, INCLUDES[0]]
    subprocess.run(
        [compiler(language), *flags, str(HERE / program), "-o", str(built), "-ldl"], check=True
    )
    done = subprocess.run([built], capture_output=True, text=True, env={})
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
