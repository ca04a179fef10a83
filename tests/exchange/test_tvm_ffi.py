"""tvm-ffi is exported from C where its handle is found, and by its __dlpack__ elsewhere."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import tvm_ffi

import dlexchange as dx
from dlexchange.adapters import tvm_ffi as adapter


@pytest.fixture(params=["from C", "by __dlpack__"])
def route(request, monkeypatch):
    if request.param == "by __dlpack__":
        monkeypatch.setattr(adapter, "exchange_api", lambda: None)
    dx._core._forget_types()
    yield request.param
    dx._core._forget_types()


def test_this_release_is_exported_from_c():
    assert adapter.exchange_api() is not None


def test_both_routes_show_the_same_memory(route):
    source = np.arange(12, dtype=np.int32).reshape(3, 4)[:, ::2]
    tensor = dx.from_dlpack(tvm_ffi.from_dlpack(source))
    assert (tensor.shape, tensor.strides, tensor.data_ptr) == ((3, 2), (4, 2), source.ctypes.data)
    assert str(tensor.dtype) == "int32"
    assert not tensor.readonly


def test_memory_lives_as_long_as_what_was_made_of_it(route):
    source = np.arange(4.0)
    made = dx.to_numpy(tvm_ffi.from_dlpack(dx.from_dlpack(source)))
    live = dx.stats().live
    made[1] = 7
    assert source[1] == 7
    del made
    gc.collect()
    assert dx.stats().live < live


def test_stream_of_host_memory_is_refused(route):
    with pytest.raises(dx.StreamError, match="no stream"):
        dx.from_dlpack(tvm_ffi.from_dlpack(np.zeros(3)), stream=1)


def test_handle_is_not_guessed_where_specimens_disagree():
    tensors = [tvm_ffi.from_dlpack(np.zeros(n)) for n in (1, 2)]
    handles = [t.__chandle__() for t in tensors]
    locate = dx._core._tvm_ffi_locate
    assert locate(0, list(zip(tensors, handles, strict=True))) is None
    assert locate(1, list(zip(tensors, handles[::-1], strict=True))) is None
    assert locate(1, []) is None


def test_library_without_the_function_leaves_dlpack(monkeypatch):
    def missing():
        raise RuntimeError("Cannot find libtvm_ffi")

    monkeypatch.setattr(tvm_ffi.libinfo, "find_libtvm_ffi", missing)
    assert adapter.exchange_api.__wrapped__() is None
