"""The simulated driver's shared library: finding it, loading it, calling it."""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char_p, c_double, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from functools import lru_cache
from pathlib import Path
from typing import Any

SONAME = "libcuda.so.1"
HIP_FILE = "libamdhip64.so"
HIP_SONAMES = ("libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so")
POLICIES = ("lazy", "eager", "random", "exhaustive")

KERNEL_BODY = ctypes.CFUNCTYPE(None, c_void_p, ctypes.POINTER(c_void_p))
HOST_FUNCTION = ctypes.CFUNCTYPE(None, c_void_p)


class SimulatedDriverError(RuntimeError):
    """A call into the simulated driver failed.

    Attributes
    ----------
    call : str
        The driver's name of the call.
    status : int
        What it returned, a ``CUresult``.
    """

    def __init__(self, call: str, status: int, name: str) -> None:
        super().__init__(f"{call} returned {name} ({status}) on the simulated driver")
        self.call = call
        self.status = status


class Config(ctypes.Structure):
    """``struct simcuda_config`` of simcuda.h."""

    _fields_ = [
        ("devices", c_int32),
        ("policy", c_int32),
        ("seed", c_uint64),
        ("lazy_queries", c_uint32),
        ("window", c_uint32),
        ("idle_ms", c_uint32),
        ("reuse", c_uint32),
        ("timeout_s", c_double),
        ("device_memory", c_uint64),
    ]


class RawFinding(ctypes.Structure):
    """``struct simcuda_finding`` of simcuda.h."""

    _fields_ = [
        ("kind", c_char_p),
        ("message", c_char_p),
        ("first", c_char_p),
        ("second", c_char_p),
        ("times", c_uint64),
    ]


_CONTROLS: dict[str, tuple[Any, list[Any]]] = {
    "simcuda_reset": (None, [ctypes.POINTER(Config)]),
    "simcuda_name_count": (c_uint32, []),
    "simcuda_name": (c_char_p, [c_uint32]),
    "simcuda_calls": (c_uint64, [c_uint32]),
    "simcuda_reset_calls": (None, []),
    "simcuda_fail": (c_int32, [c_char_p, c_uint64, c_int32]),
    "simcuda_finding_count": (c_uint32, []),
    "simcuda_finding_get": (c_int32, [c_uint32, ctypes.POINTER(RawFinding)]),
    "simcuda_findings_clear": (None, []),
    "simcuda_label": (c_char_p, [c_char_p]),
    "simcuda_kill": (None, [c_int32, c_int32]),
    "simcuda_run": (c_uint64, []),
    "simcuda_poke": (None, []),
    "simcuda_submitted": (c_uint64, [c_int32, c_void_p]),
    "simcuda_effort": (c_uint64, []),
    "simcuda_live": (c_int64, [c_char_p]),
    "simcuda_peak": (c_int64, [c_char_p]),
    "simcuda_host_pointer": (c_void_p, [c_uint64]),
    "simcuda_host_access": (None, [c_uint64, c_size_t, c_int32]),
    "simcuda_register_kernel": (
        c_int32,
        [c_char_p, KERNEL_BODY, c_void_p, c_uint32, ctypes.POINTER(c_size_t), c_char_p],
    ),
    "simcuda_choices_set": (None, [ctypes.POINTER(c_uint32), c_uint32]),
    "simcuda_choices_get": (c_uint32, [ctypes.POINTER(c_uint32), c_uint32]),
}


def library_path() -> Path:
    """Return where the simulated driver was installed.

    Raises
    ------
    RuntimeError
        This build of dlexchange has none (it is built on Linux only).
    """
    from dlexchange import testing

    for folder in testing.__path__:
        path = Path(folder) / "lib" / SONAME
        if path.exists():
            return path.resolve()
    try:  # an editable install keeps what was built in the environment
        from importlib.metadata import files
    except ImportError:  # pragma: no cover
        pass
    else:
        for entry in files("dlexchange") or ():
            if entry.name == SONAME:
                return Path(str(entry.locate())).resolve()
    raise RuntimeError(
        "the simulated CUDA driver is not part of this build of dlexchange: it is built where "
        "the C compiler targets Linux"
    )


def _already_loaded(soname: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(soname, mode=os.RTLD_NOLOAD | os.RTLD_LOCAL)
    except OSError:
        return None


@lru_cache(maxsize=1)
def load() -> ctypes.CDLL:
    """Load the simulated driver, once a process; it is never unloaded.

    Raises
    ------
    RuntimeError
        A real ``libcuda.so.1`` is loaded already: both have the same name, and whoever asks
        for it later would get the one loaded first.
    """
    loaded = _already_loaded(SONAME)
    if loaded is not None and not hasattr(loaded, "simcuda_reset"):
        raise RuntimeError(
            "a real CUDA driver is loaded in this process: the simulated one cannot replace it; "
            "use a new process, and call simulated_cuda() before anything that uses CUDA"
        )
    library = loaded or ctypes.CDLL(str(library_path()), mode=os.RTLD_LOCAL)
    for name, (result, arguments) in _CONTROLS.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


@lru_cache(maxsize=1)
def load_hip() -> ctypes.CDLL:
    """Load HIP's names for the simulated driver, once a process.

    Raises
    ------
    RuntimeError
        A real HIP runtime is loaded already.
    """
    path = Path(path_of(load())).with_name(HIP_FILE)
    for soname in HIP_SONAMES:
        loaded = _already_loaded(soname)
        if loaded is not None and not hasattr(loaded, "simcuda_reset"):
            raise RuntimeError(
                f"a real HIP runtime ({soname}) is loaded in this process: use a new process"
            )
    return ctypes.CDLL(str(path), mode=os.RTLD_LOCAL)


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """Return the names of the driver API, in the order of the library's counters."""
    library = load()
    return tuple(library.simcuda_name(i).decode() for i in range(library.simcuda_name_count()))


def path_of(library: ctypes.CDLL) -> str:
    """Return the file a loaded driver came from (it may have been preloaded)."""
    return str(library_path()) if library._name == SONAME else str(library._name)


class Driver:
    """Calls the driver API by name; raises where the driver returns an error.

    ``driver.cuStreamQuery(handle)``: integers are passed as 64-bit values, so give ctypes
    objects where the parameter is narrower and negative, or is an output.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def status(self, call: str, *arguments: Any) -> int:
        """Call, and return the ``CUresult`` whatever it is."""
        function = getattr(self._library, call)
        function.restype = c_int32
        return int(function(*map(_argument, arguments)))

    def __call__(self, call: str, *arguments: Any) -> None:
        """Call, and raise unless the result is ``CUDA_SUCCESS``."""
        status = self.status(call, *arguments)
        if status != 0:
            raise SimulatedDriverError(call, status, self.error_name(status))

    def error_name(self, status: int) -> str:
        """Return the name of a ``CUresult``."""
        name = c_char_p()
        self._library.cuGetErrorName(c_int32(status), ctypes.byref(name))
        return name.value.decode() if name.value else "an unknown error"


def _argument(value: Any) -> Any:
    return c_uint64(value & 0xFFFFFFFFFFFFFFFF) if isinstance(value, int) else value
