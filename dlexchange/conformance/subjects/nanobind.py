"""nanobind's ndarray: a module of one function, compiled at the first use."""

import subprocess
import tempfile
from pathlib import Path
from sysconfig import get_config_var, get_path

from ..subject import Subject

ERRORS = ("import.missing-methods", "import.producer-errors-propagate")
NOT_ASKED = (*ERRORS, "version.retry-hides-nothing", "import.foreign-device-refused")


class Nanobind(Subject):
    name = "nanobind"
    imports = (
        "import sys, tempfile, numpy as np; "
        "sys.path.insert(0, tempfile.gettempdir() + '/dlexchange-nanobind'); import nb_probe"
    )
    make_code = "nb_probe.take(np.array({values}, dtype='{dtype}').reshape({shape}))"
    consume_code = "nb_probe.take({x})"
    values_code = "np.from_dlpack({a}).ravel().tolist()"
    dtypes = ("float32", "float64", "int8", "int32", "int64", "uint8", "bool", "complex64")
    refuses = dict.fromkeys(NOT_ASKED, "a bound function takes what converts")

    def load(self) -> None:
        folder = Path(tempfile.gettempdir(), "dlexchange-nanobind")
        target = folder / f"nb_probe{get_config_var('EXT_SUFFIX')}"
        if not target.exists():
            root = Path(__import__("nanobind").include_dir()).parent
            folder.mkdir(exist_ok=True)
            where = [get_path("include"), f"{root}/include", f"{root}/ext/robin_map/include"]
            files = [f"{root}/src/nb_combined.cpp", f"{Path(__file__).parent}/nanobind_probe.cpp"]
            flags = ["-std=c++17", "-O1", "-fPIC", "-shared", *(f"-I{folder}" for folder in where)]
            subprocess.check_call(["c++", *flags, *files, "-o", str(target)])
        super().load()


subject = Nanobind()
