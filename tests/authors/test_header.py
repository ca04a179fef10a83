"""dlexchange.h: it compiles where it shall, and keeps order on the simulated driver."""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dlexchange as dx
from dlexchange.testing import simulated_cuda, simulated_hip

from . import c_extension
from .build import INCLUDES, STRICT, compiler

BINDINGS = ["c_extension", "nanobind_extension", "pybind11_extension"]
FORMS = {
    "alone": "#include <dlexchange/dlexchange.h>",
    "after dlpack.h": "#include <dlpack/dlpack.h>\n#include <dlexchange/dlexchange.h>",
    "before dlpack.h": "#include <dlexchange/dlexchange.h>\n#include <dlpack/dlpack.h>",
}


@pytest.mark.slow
@pytest.mark.parametrize("python", ["", "#include <Python.h>\n"], ids=["plain", "with Python"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("language", "standard"), [("c", "c11"), ("c++", "c++11")])
def test_header_compiles_without_a_warning(tmp_path, language, standard, form, python):
    includes = list(INCLUDES)
    if "dlpack.h" in form:
        tvm_ffi = pytest.importorskip("tvm_ffi")
        includes.append(f"-I{tvm_ffi.libinfo.find_dlpack_include_path()}")
    source = tmp_path / "includes.c"
    source.write_text(
        f"{python}{FORMS[form]}\nint main(void) {{ return dlx_error_text(0) == 0; }}\n"
    )
    command = [compiler(language), f"-std={standard}", *STRICT, *includes, "-x", language]
    done = subprocess.run([*command, "-c", str(source), "-o", "/dev/null"], capture_output=True)
    assert done.stderr.decode() == ""
    assert done.returncode == 0


def test_header_needs_no_package_at_run_time(tmp_path):
    code = (
        "import importlib.machinery as m, importlib.util as u, sys\n"
        "sys.modules['dlexchange'] = None\n"
        f"name, path = 'dlx_author_c', {c_extension.module.__file__!r}\n"
        "loader = m.ExtensionFileLoader(name, path)\n"
        "spec = u.spec_from_file_location(name, path, loader=loader)\n"
        "module = u.module_from_spec(spec)\n"
        "loader.exec_module(module)\n"
        "import numpy\n"
        "print(numpy.from_dlpack(module.image([1, 2], (2,))).tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout == "[1.0, 2.0]\n", done.stderr


@pytest.fixture
def author(request):
    """Return a compiled author; without the tool that binds it, absent."""
    tool = request.param.removesuffix("_extension")
    if tool != "c":
        pytest.importorskip(tool)
    return importlib.import_module(f"{__package__}.{request.param}")


# ---- on the simulated driver --------------------------------------------------------------


def show(author, memory, streams, device_type=2):
    strides = tuple(int(n) for n in np.cumprod((1, *memory.shape[:0:-1]))[::-1])
    over = author.module.over
    handles = tuple(stream.handle for stream in streams)
    device = ((device_type, 0),) if author is c_extension else (device_type, 0)
    return over(memory.data_ptr, memory.shape, strides, *device, handles, memory, False)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("author", BINDINGS, indirect=True)
def test_export_orders_all_pending_streams_and_never_waits(author, n):
    with simulated_cuda() as sim:
        streams, consumer = [sim.stream() for _ in range(n)], sim.stream()
        memory = sim.array((2, 3), stream=streams[0], fill=1)
        for before, after in itertools.pairwise(streams):
            after.wait(before.record())
            memory.fill(2, stream=after)
        framework = sim.framework("dlpack")
        latch = sim.latch(streams[-1])
        memory.fill(7, stream=streams[-1])
        sim.reset_calls()
        with framework.use_stream(consumer):
            got = framework.from_dlpack(show(author, memory, streams))
        calls = sim.calls
        assert (calls["cuEventRecord"], calls["cuStreamWaitEvent"]) == (n, n)
        assert calls["cuEventCreate"] == calls["cuEventDestroy"] == n
        assert calls["cuCtxPushCurrent"] == calls["cuCtxPopCurrent"]
        assert not [name for name in calls if name.endswith("Synchronize")]
        latch.open()
        assert got.tolist(stream=consumer) == [7.0] * 6
        del got
        gc.collect()
        assert sim.findings == []


@pytest.mark.parametrize("author", ["nanobind_extension"], indirect=True)
def test_nanobinds_own_array_orders_nothing_where_ours_does(author):
    with simulated_cuda() as sim:
        producer, consumer = sim.stream(), sim.stream()
        memory = sim.array((2, 3), stream=producer, fill=1)
        plain, ours = author.module.plain(memory.data_ptr, memory), show(author, memory, [producer])
        seen = []
        for value, array in ((5, plain), (6, ours)):
            consumer.synchronize()
            producer.synchronize()
            latch = sim.latch(producer)
            memory.fill(value, stream=producer)
            array.__dlpack__(stream=consumer.handle)
            kept = memory.copy(stream=consumer)
            latch.open()
            seen.append((kept.tolist(stream=consumer), [found.kind for found in sim.findings]))
            sim.run()
            sim.clear_findings()
        assert seen[0] == ([1.0] * 6, ["race"])
        assert seen[1] == ([6.0] * 6, [])
        del plain, ours, array
        gc.collect()


@pytest.mark.parametrize("author", BINDINGS, indirect=True)
def test_same_stream_or_minus_one_makes_no_driver_call(author):
    with simulated_cuda() as sim:
        stream = sim.stream()
        shown = show(author, sim.array((2, 3), stream=stream, fill=1), [stream])
        sim.reset_calls()
        shown.__dlpack__(stream=stream.handle, max_version=(1, 3))
        shown.__dlpack__(stream=-1)
        assert sim.calls == {}
        with pytest.raises(BufferError, match="never 0"):
            shown.__dlpack__(stream=0)
        del shown
        gc.collect()


@pytest.mark.parametrize("name", ["cuEventCreate", "cuEventRecord", "cuStreamWaitEvent"])
def test_failing_driver_call_is_reported_and_loses_nothing(name):
    with simulated_cuda() as sim:
        producer, consumer = sim.stream(), sim.stream()
        shown = show(c_extension, sim.array((2, 3), stream=producer, fill=1), [producer])
        sim.fail(name)
        with pytest.raises(RuntimeError, match="driver call failed"):
            shown.__dlpack__(stream=consumer.handle)
        assert sim.live["event"] == 0
        del shown
        gc.collect()


def test_import_orders_the_producer_into_the_named_stream():
    with simulated_cuda() as sim:
        producer, consumer = sim.stream(), sim.stream()
        memory = sim.array((2, 3), stream=producer, fill=1, speaks="dlpack")
        latch = sim.latch(producer)
        memory.fill(4, stream=producer)
        got = c_extension.module.from_dlpack(memory, consumer.handle)
        latch.open()
        assert got.address == memory.data_ptr
        assert memory.tolist(stream=consumer) == [4.0] * 6
        del got, memory
        gc.collect()
        assert sim.findings == []


def test_bad_capsules_are_refused_and_deleted_once():
    with pytest.raises((AttributeError, TypeError)):
        c_extension.module.from_dlpack(object())

    class Used:
        capsule = np.arange(3.0).__dlpack__(max_version=(1, 3))

        def __dlpack_device__(self):
            return (1, 0)

        def __dlpack__(self, **_):
            return self.capsule

    c_extension.module.from_dlpack(Used())
    with pytest.raises(BufferError, match="consumed"):
        c_extension.module.from_dlpack(Used())


def test_old_producer_without_max_version_is_read():
    class Old:
        def __dlpack_device__(self):
            return (1, 0)

        def __dlpack__(self):
            return np.arange(3, dtype="f4").__dlpack__()

    assert np.from_dlpack(c_extension.module.from_dlpack(Old())).tolist() == [0, 1, 2]


@pytest.mark.parametrize("author", BINDINGS, indirect=True)
def test_rocm_streams_are_ordered_and_copied_from_as_well(author):
    with simulated_hip() as sim:
        producer, consumer = sim.stream(), sim.stream()
        memory = sim.array((2, 3), stream=producer, fill=1)
        latch = sim.latch(producer)
        memory.fill(7, stream=producer)
        shown = show(author, memory, [producer], device_type=10)
        shown.__dlpack__(stream=consumer.handle)
        latch.open()
        assert memory.tolist(stream=consumer) == [7.0] * 6
        memory.fill(8, stream=producer)
        assert np.from_dlpack(shown, device="cpu").tolist() == [[8.0] * 3] * 2
        shown.__dlpack__(stream=0)  # the default stream, and no ambiguity
        assert sim.findings == []
        del shown
        gc.collect()


# ---- found by build systems ---------------------------------------------------------------


@pytest.mark.slow
def test_cmake_finds_the_header(tmp_path):
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(author LANGUAGES C)\n"
        f"find_package(dlexchange {dx.__version__} CONFIG REQUIRED)\n"
        "add_library(author SHARED author.c)\n"
        "target_link_libraries(author PRIVATE dlexchange::dlexchange)\n"
        "find_package(dlexchange 99 CONFIG)\n"
        'if(dlexchange_FOUND)\n  message(FATAL_ERROR "older than asked for")\nendif()\n'
    )
    (tmp_path / "author.c").write_text("#include <dlexchange/dlexchange.h>\n")
    folder = Path(dx.get_include(), "cmake")
    for command in (
        ["cmake", "-S", ".", "-B", "build", f"-Ddlexchange_DIR={folder}"],
        ["cmake", "--build", "build"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def test_pkg_config_finds_the_header():
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is not installed")

    def ask(option: str) -> str:
        command = ["pkg-config", option, "dlexchange"]
        search = {"PKG_CONFIG_PATH": str(Path(dx.get_include(), "pkgconfig"))}
        return subprocess.check_output(command, env={**os.environ, **search}, text=True).strip()

    assert ask("--modversion") == dx.__version__
    folder = Path(ask("--cflags").removeprefix("-I"))
    assert (folder / "dlexchange" / "dlexchange.h").samefile(
        Path(dx.get_include(), "dlexchange", "dlexchange.h")
    )
