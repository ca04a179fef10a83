"""The worked authors as subjects of the conformance suite."""

from __future__ import annotations

from typing import ClassVar

from dlexchange.conformance import Subject

DTYPES = ("float32", "float64", "int8", "uint8", "int32", "int64")


class Author(Subject):
    """What the authors have in common: memory on the host, and no reader but dlexchange's."""

    make_code = "Made({values}, {shape}, '{dtype}')"
    values_code = "dx.to_numpy({a}).ravel().tolist()"
    write_code = "dx.to_numpy({a}).fill({value})"
    layouts: ClassVar = {}
    host_only = True
    version = "0"  # type: ignore[assignment]


class PurePython(Author):
    name = "pure Python author"
    imports = "import dlexchange as dx; from authors.pure_python import Grid as Made"
    dtypes = DTYPES
    layouts: ClassVar = {
        "transposed": "{a}.view(0, (3, 2), (1, 3))",
        "every-second": "{a}.view(0, (2, 2), (3, 2))",
        "from-the-middle": "{a}.view(4, (1, 2), (3, 1))",
        "column": "{a}.view(1, (2,), (3,))",
    }
    read_only_code = "{a}.view(0, {a}.shape, {a}.strides, readonly=True)"
    is_writable_code = "not {a}.readonly"


class CTypes(Author):
    name = "ctypes author"
    imports = "import dlexchange as dx; from authors.ctypes_library import Field as Made"
    dtypes = ("float32", "float64", "int32", "uint8")


pure_python = PurePython()
ctypes_library = CTypes()


class Compiled(Author):
    """An author in C or C++ over dlexchange.h; the module is built when it is imported."""

    layouts: ClassVar = {
        "transposed": "view({a}, 0, (3, 2), (1, 3))",
        "every-second": "view({a}, 0, (2, 2), (3, 2))",
        "from-the-middle": "view({a}, 4, (1, 2), (3, 1))",
        "column": "view({a}, 1, (2,), (3,))",
    }
    read_only_code = "view({a}, 0, (2, 3), (3, 1), readonly=True)"

    def __init__(self, module: str) -> None:
        super().__init__()
        self.name = module.replace("_", " ")  # type: ignore[misc]
        self.imports = (  # type: ignore[misc]
            f"import dlexchange as dx; from authors.{module} import made as Made, view"
        )


class Reading(Compiled):
    """The author in C, who also imports."""

    consume_code = "author.from_dlpack({x})"

    def __init__(self, module: str) -> None:
        super().__init__(module)
        self.imports += f"; from authors.{module} import module as author"  # type: ignore[misc]


c_extension = Reading("c_extension")
nanobind_extension = Compiled("nanobind_extension")
pybind11_extension = Compiled("pybind11_extension")
cython_extension = Compiled("cython_extension")


class OnDevice(Subject):
    """A worked author whose memory is on the simulated CUDA device."""

    ground = "simulated CUDA"
    make_code = "desk.make({values}, {shape}, '{dtype}')"
    values_code = "desk.memory({a}).tolist()"
    layouts: ClassVar = {}
    stream_code = "sim.stream()"
    handle_code = "{s}.handle"
    using_code = "desk.framework.use_stream({s})"
    fill_code = "desk.fill({a}, {value}, {s})"
    touch_code = "desk.copy({a}, {s})"
    address_code = "desk.memory({a}).data_ptr"
    device = (2, 0)
    version = "0"  # type: ignore[assignment]

    def __init__(self, author: str) -> None:
        super().__init__()
        self.name = f"{author.replace('_', ' ')} on a device"  # type: ignore[misc]
        self.imports = (  # type: ignore[misc]
            f"from authors.simulated import Desk; desk = Desk(sim, '{author}')"
        )

    @property
    def has_current_stream(self) -> bool:
        """The desk's framework has one; the authors' arrays carry their own."""
        return False


class ReadingOnDevice(OnDevice):
    """The author in C, who also imports."""

    consume_code = "author.from_dlpack({x})"
    import_on_code = "author.from_dlpack({x}, {s}.handle)"
    address_code = "{a}.address"
    touch_code = ""  # what was imported computes nothing

    def __init__(self, module: str) -> None:
        super().__init__(module)
        self.imports += f"; from authors.{module} import module as author"  # type: ignore[misc]


pure_python_cuda = OnDevice("pure_python")
ctypes_library_cuda = OnDevice("ctypes_library")
c_extension_cuda = ReadingOnDevice("c_extension")
nanobind_extension_cuda = OnDevice("nanobind_extension")
pybind11_extension_cuda = OnDevice("pybind11_extension")
cython_extension_cuda = OnDevice("cython_extension")
