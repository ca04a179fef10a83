"""A worked author: the array class of cython_extension.pyx."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import Cython

from .build import HERE, extension

_written = HERE / "cython_extension.pyx"
_key = hashlib.sha256(_written.read_bytes() + Cython.__version__.encode()).hexdigest()[:20]
_source = HERE / "__pycache__" / f"cython_extension-{_key}.c"
if not _source.exists():
    _source.parent.mkdir(exist_ok=True)
    _half = _source.with_suffix(f".{os.getpid()}.c")
    subprocess.run([sys.executable, "-m", "cython", str(_written), "-o", str(_half)], check=True)
    _half.replace(_source)  # whole or not at all: other test processes look too
module = extension("cython_extension", [_source], ["-std=c11", "-w"])


def made(values, shape, dtype="float32"):
    assert dtype == "float32"
    return module.strip(values, shape)


def view(base, offset, shape, strides, *, readonly=False):
    return module.Strip(base.address + 4 * offset, shape, strides, base, readonly)
