"""What `convert` may be asked for, `frameworks` says, and neither does by the way."""

from __future__ import annotations

import gc
import json
import sys
import types
import weakref

import ml_dtypes
import numpy as np
import pytest
from support import child

import dlexchange as dx
from dlexchange.adapters import fit
from dlexchange.testing import simulated_cuda


def test_a_framework_without_an_adapter_is_reached_by_its_from_dlpack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stranger = types.ModuleType("stranger")
    stranger.from_dlpack = np.from_dlpack  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stranger", stranger)
    array = np.arange(3.0)
    assert np.shares_memory(dx.convert(array, "stranger"), array)
    assert np.shares_memory(dx.convert(array, stranger), array)
    dx._core._forget_types()


@pytest.mark.parametrize("to", ["no_such_framework", "", 5, None, object()])
def test_what_is_no_framework_is_refused(to: object) -> None:
    with pytest.raises(dx.ExchangeError, match="cannot convert to"):
        dx.convert(np.zeros(3), to)


def test_a_refusal_by_the_framework_keeps_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(x: object) -> None:
        raise RuntimeError("not today")

    stranger = types.ModuleType("refusing")
    stranger.from_dlpack = refuse  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "refusing", stranger)
    with pytest.raises(dx.ExchangeError, match="refusing refused") as caught:
        dx.convert(np.zeros(3), "refusing")
    assert isinstance(caught.value.__cause__, RuntimeError)
    dx._core._forget_types()


def test_an_array_as_target_is_not_kept_alive() -> None:
    class Array(np.ndarray):
        __hash__ = object.__hash__  # type: ignore[assignment]

    like = np.zeros(1).view(Array)
    alive = weakref.ref(like)
    dx.convert(np.arange(3.0), like)
    del like
    gc.collect()
    assert alive() is None


def test_another_device_is_never_copied_to_unasked() -> None:
    with pytest.raises(dx.CopyError, match="needs a copy"):
        dx.from_dlpack(np.zeros(3), device="cuda:0", copy=False)
    with pytest.raises(ValueError, match="unknown device"):
        dx.from_dlpack(np.zeros(3), device="the moon")
    assert dx.from_dlpack(np.zeros(3), device="cpu").device == (1, 0)


@pytest.mark.parametrize("wrong", ["cuda:x", ("cuda", 0), (99, 0), (2,), 0, None])
def test_what_is_no_device_is_told_how_one_is_written(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"unknown device .*: write 'cpu'"):
        dx.Device.of(wrong)


def test_a_copy_that_we_do_not_make_says_who_does() -> None:
    with pytest.raises(dx.CopyError, match="a framework that drives cuda:1 must"):
        dx.convert(np.ones(3), "numpy", device="cuda:1", copy=True)
    with (
        simulated_cuda() as sim,
        pytest.raises(dx.CopyError, match=r"dx\.to_numpy\(x, copy=True\)"),
    ):
        dx.from_dlpack(sim.array(3, fill=1), device="cpu", copy=True)


def _modules_after(code: str) -> set[str]:
    said = child.run(f"import json, sys\n{code}\nprint('\\n' + json.dumps(sorted(sys.modules)))")
    return set(json.loads(said.strip().splitlines()[-1]))


def test_importing_and_reporting_import_no_framework() -> None:
    heavy = {"numpy", "torch", "jax", "cupy", "tvm_ffi", "tensorflow", "paddle", "numba", "warp"}
    assert _modules_after("import dlexchange as dx") & heavy == set()
    assert _modules_after("import dlexchange as dx; assert dx.frameworks()") & heavy == set()


def test_reporting_starts_no_driver() -> None:
    code = """
        import sys
        import dlexchange as dx
        for name in ("torch", "jax", "cupy", "cuda.core", "numba.cuda"):
            try:
                __import__(name)
            except ImportError:
                pass
        def drivers():
            lines = open("/proc/self/maps").read().split()
            return {word for word in lines if "libcuda.so" in word or "libamdhip" in word}
        before = drivers()
        dx.frameworks()
        assert drivers() == before
        assert not dx._core._driver_info(2)["is_loaded"]
        if "torch" in sys.modules:
            assert not sys.modules["torch"].cuda.is_initialized()
        if "jax" in sys.modules:
            from jax._src import xla_bridge
            assert not xla_bridge.backends_are_initialized()
        print("quiet")
    """
    assert "quiet" in child.run(code)


def test_frameworks_tells_more_of_what_is_imported() -> None:
    code = """
        import json
        import dlexchange as dx
        before = {info.name: info for info in dx.frameworks()}
        import numpy
        after = {info.name: info for info in dx.frameworks()}
        assert not before["numpy"].imported and before["numpy"].devices is None
        assert after["numpy"].imported and after["numpy"].devices == ("cpu",)
        assert after["numpy"].version == numpy.__version__
        print("told")
    """
    assert "told" in child.run(code)


def test_the_route_into_torch_is_told() -> None:
    torch = pytest.importorskip("torch", reason="absent: torch is not installed")
    assert torch is sys.modules["torch"]
    (info,) = [info for info in dx.frameworks() if info.name == "torch"]
    assert info.exchange_api
    assert "conj, neg and autograd state is found in its memory" in info.notes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("breaking", "note"),
    [
        ("", "fast route: yes"),
        (
            "from dlexchange.adapters import jax as adapter; adapter._probe = lambda: 1 / 0",
            "fast route: no, ZeroDivisionError",
        ),
    ],
)
def test_the_route_into_jax_is_told(breaking: str, note: str) -> None:
    pytest.importorskip("jax", reason="absent: jax is not installed")
    code = f"""
        import numpy as np
        import jax
        import dlexchange as dx
        {breaking}
        def notes():
            return [i.notes for i in dx.frameworks() if i.name == "jax"][0]
        assert "fast route: tested at first use" in notes()
        x = np.arange(6.0, dtype=np.float32)
        assert dx.to_jax(x).tolist() == x.tolist()
        assert dx.to_numpy(dx.to_jax(x)).tolist() == x.tolist()
        print(notes())
    """
    assert note in child.run(code)


def test_memory_that_fits_needs_no_python_but_the_consumers_own(monkeypatch):
    class Asked(Exception):
        pass

    def asked(*_arguments):
        raise Asked

    dx._core._forget_types()
    monkeypatch.setattr(fit, "_fitted", asked)
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert dx.to_numpy(dx.convert(x.T, "tvm_ffi")).tolist() == x.T.tolist()
    assert dx.convert(x[:0], "tvm_ffi").shape == (0, 4)
    odd = np.frombuffer(bytearray(13), np.float32, 3, offset=1)
    fixed = np.zeros(3)
    fixed.flags.writeable = False
    small = np.zeros(3, ml_dtypes.int4)
    for misfit in (odd, fixed, small):
        with pytest.raises(Asked):
            dx.convert(misfit, "tvm_ffi")
    with pytest.raises(Asked):
        dx.convert(x, "tvm_ffi", copy=True)
    dx._core._forget_types()
