"""nanobind: arrays that a bound C++ function returns, out of a module compiled here."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType

import nanobind
import pytest

import dlexchange as dx

_SOURCE = """
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
namespace nb = nanobind;
static int deleted = 0;
NB_MODULE(peer, m) {
    m.def("make", []() {
        float *data = new float[6]{0, 1, 2, 3, 4, 5};
        nb::capsule owner(data, [](void *p) noexcept { deleted++; delete[] (float *) p; });
        return nb::ndarray<nb::array_api, float>(data, {2, 3}, owner);
    });
    m.def("deleted", []() { return deleted; });
    m.def("address", [](nb::ndarray<const float> a) { return (size_t) a.data(); });
}
"""


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Compile a module with nanobind's own sources."""
    folder = tmp_path_factory.mktemp("nanobind")
    home = Path(nanobind.__file__).parent
    (folder / "peer.cpp").write_text(_SOURCE)
    module = folder / f"peer{sysconfig.get_config_var('EXT_SUFFIX')}"
    includes = (home / "include", home / "ext/robin_map/include", sysconfig.get_path("include"))
    subprocess.run(
        [
            os.environ.get("CXX", "c++"),
            *("-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden"),
            *(f"-I{include}" for include in includes),
            *(folder / "peer.cpp", home / "src/nb_combined.cpp", "-o", module),
        ],
        check=True,
        timeout=300,
    )
    spec = importlib.util.spec_from_file_location("peer", module)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_returned_arrays_are_shared_and_deleted_once(peer: ModuleType) -> None:
    before = peer.deleted()
    array = peer.make()
    assert type(array).__module__ == "nanobind"
    ours = dx.to_numpy(array)
    assert ours.ctypes.data == peer.address(array)
    del array
    assert peer.deleted() == before
    assert ours.tolist() == [[0, 1, 2], [3, 4, 5]]
    del ours
    assert peer.deleted() == before + 1


def test_bound_functions_take_tensors(peer: ModuleType) -> None:
    tensor = dx.from_dlpack(peer.make())
    assert peer.address(tensor) == tensor.data_ptr
