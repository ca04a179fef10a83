"""Build and load native.c: once for calls that hold the GIL, once for calls that do not."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import dlexchange as dx

_SOURCE = Path(__file__).with_name("native.c")


def _build() -> str:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError("the tests need a C compiler (cc), as building dlexchange does")
    flags = ["-std=gnu11", "-O1", "-fPIC", "-shared", "-pthread", "-Wall", "-Wextra"]
    includes = [f"-I{dx.get_include()}", f"-I{sysconfig.get_path('include')}"]
    key = hashlib.sha256(_SOURCE.read_bytes() + repr((flags, includes)).encode()).hexdigest()
    target = _SOURCE.parent / "__pycache__" / f"native-{key[:20]}.so"
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / target.name
            subprocess.run([compiler, *flags, *includes, str(_SOURCE), "-o", str(made)], check=True)
            staged = target.with_suffix(f".{Path(folder).name}")
            shutil.copy(made, staged)
            staged.replace(target)  # whole or not at all: other test processes look too
    return str(target)


PATH = _build()
#: Calls hold the GIL.
held = ctypes.PyDLL(PATH)
#: Calls give the GIL up first.
released = ctypes.CDLL(PATH)

for library in (held, released):
    library.delete_here.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.delete_here.restype = None
    library.delete_in_raw_thread.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.delete_in_raw_threads.argtypes = [
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_int,
        ctypes.c_int,
    ]
    library.delete_after_finalisation.argtypes = [ctypes.c_void_p, ctypes.c_int]
held.claim.argtypes = [ctypes.py_object]
held.claim.restype = ctypes.c_void_p


def address(name: str) -> int:
    """Return the address of a function of native.c."""
    found = ctypes.cast(getattr(held, name), ctypes.c_void_p).value
    assert found is not None
    return found
