// A worked author: an array class bound with nanobind. nanobind's own ndarray ignores the
// consumer's stream; this class orders its work by dlexchange.h.
#include <Python.h>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <vector>

#include <dlexchange/dlexchange.h>

namespace nb = nanobind;

struct Sheet {
    std::vector<float> own;
    std::vector<int64_t> shape, strides;
    std::vector<uintptr_t> streams;
    uintptr_t address = 0;
    int device_type = kDLCPU, device_id = 0;
    bool read_only = false;
    nb::object base;

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

static nb::object dlpack(nb::handle self, nb::kwargs kwargs)
{
    Sheet &sheet = nb::cast<Sheet &>(self);
    DLTensor view = sheet.view();
    PyObject *capsule =
        dlx_py_dlpack_dict(kwargs.ptr(), &view,
                           sheet.read_only ? DLPACK_FLAG_BITMASK_READ_ONLY : 0, self.ptr(),
                           sheet.streams.data(), sheet.streams.size());
    if (capsule == nullptr) {
        throw nb::python_error();
    }
    return nb::steal(capsule);
}

NB_MODULE(dlx_author_nanobind, m)
{
    nb::class_<Sheet>(m, "Sheet")
        .def("__dlpack__", dlpack)
        .def("__dlpack_device__",
             [](const Sheet &s) { return nb::make_tuple(s.device_type, s.device_id); })
        .def_prop_ro("address", [](Sheet &s) {
            return reinterpret_cast<uintptr_t>(s.view().data);
        });
    m.def("sheet", [](std::vector<float> values, std::vector<int64_t> shape) {
        Sheet sheet;
        sheet.own = std::move(values);
        sheet.shape = std::move(shape);
        return sheet;
    });
    // The same memory as nanobind's own array, which orders nothing.
    m.def("plain", [](uintptr_t address, nb::object base) {
        return nb::ndarray<nb::array_api, float, nb::device::cuda>(
            reinterpret_cast<void *>(address), {2, 3}, base);
    });
    m.def("over", [](uintptr_t address, std::vector<int64_t> shape,
                     std::vector<int64_t> strides, int type, int id,
                     std::vector<uintptr_t> streams, nb::object base, bool read_only) {
        Sheet sheet;
        sheet.address = address;
        sheet.shape = std::move(shape);
        sheet.strides = std::move(strides);
        sheet.device_type = type;
        sheet.device_id = id;
        sheet.streams = std::move(streams);
        sheet.base = std::move(base);
        sheet.read_only = read_only;
        return sheet;
    });
}
