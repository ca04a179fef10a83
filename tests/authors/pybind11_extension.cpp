// A worked author: an array class bound with pybind11, over dlexchange.h.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <utility>
#include <vector>

#include <dlexchange/dlexchange.h>

namespace py = pybind11;

struct __attribute__((visibility("hidden"))) Board {
    std::vector<float> own;
    std::vector<int64_t> shape, strides;
    std::vector<uintptr_t> streams;
    uintptr_t address = 0;
    int device_type = kDLCPU, device_id = 0;
    bool read_only = false;
    py::object base;

    DLTensor view()
    {
        DLTensor tensor{};
        tensor.data = own.empty() ? reinterpret_cast<void *>(address) : own.data();
        tensor.device.device_type = static_cast<DLDeviceType>(device_type);
        tensor.device.device_id = device_id;
        tensor.ndim = static_cast<int32_t>(shape.size());
        tensor.dtype.code = kDLFloat;
        tensor.dtype.bits = 32;
        tensor.dtype.lanes = 1;
        tensor.shape = shape.data();
        tensor.strides = strides.empty() ? nullptr : strides.data();
        return tensor;
    }
};

static py::object dlpack(py::object self, py::kwargs kwargs)
{
    Board &board = self.cast<Board &>();
    DLTensor view = board.view();
    PyObject *capsule =
        dlx_py_dlpack_dict(kwargs.ptr(), &view,
                           board.read_only ? DLPACK_FLAG_BITMASK_READ_ONLY : 0, self.ptr(),
                           board.streams.data(), board.streams.size());
    if (capsule == nullptr) {
        throw py::error_already_set();
    }
    return py::reinterpret_steal<py::object>(capsule);
}

PYBIND11_MODULE(dlx_author_pybind11, m)
{
    py::class_<Board>(m, "Board")
        .def("__dlpack__", dlpack)
        .def("__dlpack_device__",
             [](const Board &b) { return py::make_tuple(b.device_type, b.device_id); })
        .def_property_readonly(
            "address", [](Board &b) { return reinterpret_cast<uintptr_t>(b.view().data); });
    m.def("board", [](std::vector<float> values, std::vector<int64_t> shape) {
        Board board;
        board.own = std::move(values);
        board.shape = std::move(shape);
        return board;
    });
    m.def("over", [](uintptr_t address, std::vector<int64_t> shape,
                     std::vector<int64_t> strides, int type, int id,
                     std::vector<uintptr_t> streams, py::object base, bool read_only) {
        Board board;
        board.address = address;
        board.shape = std::move(shape);
        board.strides = std::move(strides);
        board.device_type = type;
        board.device_id = id;
        board.streams = std::move(streams);
        board.base = std::move(base);
        board.read_only = read_only;
        return board;
    });
}
