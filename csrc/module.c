/* SPDX-License-Identifier: Apache-2.0
 *
 * The module dlexchange._core: its functions, its state, its making.
 */
#include "state.h"

#include "adapt.h"
#include "backend.h"
#include "cupy.h"
#include "description.h"
#include "docs.h"
#include "driver.h"
#include "hand_off.h"
#include "jax.h"
#include "module_driver.h"
#include "stream_type.h"
#include "producer.h"
#include "tensor.h"
#include "torch.h"
#include "tvm_ffi.h"

dlx_state *dlx_the_state;
atomic_long dlx_alloc_countdown;

/* ---- reports and test hooks ---- */

static PyObject *
stats(PyObject *module, PyObject *unused)
{
    (void)unused;
    const dlx_counts *counts = &((dlx_state *)PyModule_GetState(module))->counts;
    Py_ssize_t blocks = counts->blocks - atomic_load(&counts->blocks_unlocked);
    PyObject *dict =
        Py_BuildValue("{s:L,s:L,s:L,s:n,s:n}", "copies", counts->copies, "host_waits",
                      counts->host_waits, "leaked",
                      counts->leaked + atomic_load(&counts->leaked_unlocked), "tensors",
                      counts->tensors, "blocks", blocks);
    if (dict != NULL && dlx_counters_into(dict) < 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

static PyObject *
set_strict(PyObject *module, PyObject *value)
{
    dlx_state *state = PyModule_GetState(module);
    int strict = PyObject_IsTrue(value);
    if (strict < 0) {
        return NULL;
    }
    bool before = state->strict;
    state->strict = strict != 0;
    return PyBool_FromLong(before);
}

static PyObject *
fail_allocation(PyObject *module, PyObject *nth)
{
    (void)module;
    long n = PyLong_AsLong(nth);
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    return PyLong_FromLong(atomic_exchange(&dlx_alloc_countdown, n));
}

static PyObject *
forget_types(PyObject *module, PyObject *unused)
{
    (void)unused;
    dlx_state *state = PyModule_GetState(module);
    for (int i = 0; i < DLX_CACHE_SIZE; i++) {
        state->cache[i].type = state->displaced[i].type = NULL;
    }
    PyDict_Clear(state->consumers);
    state->warned_read_only = false;
    Py_RETURN_NONE;
}

static PyObject *
jax_load(PyObject *module, PyObject *unused)
{
    (void)unused;
    int usable = dlx_jax_load(PyModule_GetState(module));
    return usable < 0 ? NULL : PyBool_FromLong(usable);
}

static PyObject *
buffer_address(PyObject *module, PyObject *view)
{
    (void)module;
    if (!PyMemoryView_Check(view)) {
        return PyErr_Format(PyExc_TypeError, "expected memoryview, not %s",
                            Py_TYPE(view)->tp_name);
    }
    return PyLong_FromVoidPtr(PyMemoryView_GET_BUFFER(view)->buf);
}

#define FAST(function) \
    (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS

static PyMethodDef functions[] = {
    {"from_dlpack", FAST(dlx_py_from_dlpack), dlx_from_dlpack_doc},
    {"to_numpy", FAST(dlx_py_to_numpy), dlx_to_numpy_doc},
    {"to_torch", FAST(dlx_py_to_torch), dlx_to_torch_doc},
    {"to_jax", FAST(dlx_py_to_jax), dlx_to_jax_doc},
    {"convert", FAST(dlx_py_convert), dlx_convert_doc},
    {"_stats", stats, METH_NOARGS,
     PyDoc_STR("The counters of the upper half, a dict.")},
    {"_set_strict", set_strict, METH_O,
     PyDoc_STR("Set strict mode; return the old one.")},
    {"_fail_allocation", fail_allocation, METH_O,
     PyDoc_STR("For tests: let the n-th allocation from now fail; 0 for none.")},
    {"_forget_types", forget_types, METH_NOARGS,
     PyDoc_STR("For tests: forget what is known of types and consumers.")},
    {"_jax_load", jax_load, METH_NOARGS,
     PyDoc_STR("Load jax's functions; True where the fast route is used.")},
    {"_push", dlx_py_push, METH_VARARGS,
     PyDoc_STR("_push(src, dst): of Stream objects.")},
    {"_notify", dlx_completion_start, METH_O,
     PyDoc_STR("_notify(event_or_stream) -> _Completion.")},
    {"_work_stream", dlx_py_work_stream, METH_VARARGS,
     PyDoc_STR("_work_stream(type, device_type, device_id) -> Stream or None.")},
    {"_record_stream", dlx_py_record_stream, METH_VARARGS,
     PyDoc_STR("_record_stream(address, stream) -> number of leases that noted it.")},
    {"_read_stream", dlx_py_read_stream, METH_VARARGS,
     PyDoc_STR("_read_stream(x, device_type, device_id) -> Stream.")},
    {"_for_adapter", dlx_py_for_adapter, METH_VARARGS,
     PyDoc_STR("_for_adapter(x, stream, is_current, copy) -> Tensor in that stream.")},
    {"_driver_info", dlx_py_driver_info, METH_O,
     PyDoc_STR("_driver_info(device_type) -> dict; no side effects.")},
    {"_driver_presence", dlx_py_driver_presence, METH_O,
     PyDoc_STR("_driver_presence(device_type): 2 loaded, 1 to be loaded, 0 neither.")},
    {"_driver_load", dlx_py_driver_load, METH_O,
     PyDoc_STR("Load and initialise the driver of a device type.")},
    {"_driver_reset", dlx_py_driver_reset, METH_NOARGS,
     PyDoc_STR("For tests: forget drivers, pools and contexts.")},
    {"_copy_to_host", dlx_py_copy_to_host, METH_O,
     PyDoc_STR("_copy_to_host(tensor) -> (Tensor on the host, Event of the copy).")},
    {"_host_waits", dlx_py_host_waits, METH_NOARGS,
     PyDoc_STR("Times this thread has waited for a device.")},
    {"_park", dlx_py_park, METH_O,
     PyDoc_STR("Release this Tensor's memory by park, never by an edge.")},
    {"_drain", dlx_py_drain, METH_VARARGS,
     PyDoc_STR("_drain(seconds=5.0): for tests: wait until nothing is parked; return "
               "what is left.")},
    {"_stop", dlx_py_stop, METH_NOARGS,
     PyDoc_STR(
         "Stop the reaper; from then on nothing is driven. For interpreter exit.")},
    {"_backend_install", dlx_py_backend_install, METH_VARARGS,
     PyDoc_STR("_backend_install(device_type, name, table): drive that type by it.")},
    {"_cupy_streams", dlx_cupy_streams, METH_O,
     PyDoc_STR("Make an exchange API of CuPy's get_stream_ptr; see cupy.h.")},
    {"_tvm_ffi_locate", dlx_tvm_ffi_locate, METH_VARARGS,
     PyDoc_STR("Make a C exchange API for tvm-ffi.")},
    {"_torch_locate", dlx_torch_locate, METH_O,
     PyDoc_STR("Find torch's lazy bits by specimens; see torch.h.")},
    {"_torch_watch_pinned", dlx_torch_watch_pinned, METH_O,
     PyDoc_STR("Ask this function of torch's host tensors; see torch.h.")},
    {"_legacy_capsule", dlx_adapt_legacy_capsule, METH_O,
     PyDoc_STR("For adapters: a legacy capsule of a Tensor, also of a read-only one.")},
    {"_managed_capsule", dlx_adapt_managed_capsule, METH_VARARGS,
     PyDoc_STR(
         "For dlexchange.testing: a capsule of the managed tensor at an address.")},
    {"_buffer_address", buffer_address, METH_O,
     PyDoc_STR("_buffer_address(memoryview) -> address of its first element.")},
    {"_count_copy", dlx_adapt_count_copy, METH_NOARGS,
     PyDoc_STR("For adapters: count a copy that a consumer made.")},
    {"_count_host_wait", dlx_adapt_count_host_wait, METH_NOARGS,
     PyDoc_STR("For backends: count that the host waited for a promise.")},
    {"_warn_read_only", dlx_adapt_warn_read_only, METH_VARARGS,
     PyDoc_STR("For adapters: warn that (producer, consumer) loses read-only.")},
    {NULL, NULL, 0, NULL},
};

/* ---- making ---- */

static int
import_names(dlx_state *state)
{
    static const struct {
        const char *module, *name;
        size_t offset;
    } wanted[] = {
        {"dlexchange.errors", "ExchangeError", offsetof(dlx_state, ExchangeError)},
        {"dlexchange.errors", "CopyError", offsetof(dlx_state, CopyError)},
        {"dlexchange.errors", "StreamError", offsetof(dlx_state, StreamError)},
        {"dlexchange.errors", "CaptureError", offsetof(dlx_state, CaptureError)},
        {"dlexchange.errors", "DriverError", offsetof(dlx_state, DriverError)},
        {"dlexchange.errors", "DeviceLost", offsetof(dlx_state, DeviceLost)},
        {"dlexchange.errors", "ReadOnlyWarning", offsetof(dlx_state, ReadOnlyWarning)},
        {"dlexchange.errors", "NotATensorError", offsetof(dlx_state, NotATensorError)},
        {"dlexchange.device", "DType", offsetof(dlx_state, make_dtype)},
        {"dlexchange.device", "Device", offsetof(dlx_state, make_device)},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        PyObject *module = PyImport_ImportModule(wanted[i].module);
        PyObject *found =
            module != NULL ? PyObject_GetAttrString(module, wanted[i].name) : NULL;
        Py_XDECREF(module);
        if (found == NULL) {
            return -1;
        }
        *(PyObject **)((char *)state + wanted[i].offset) = found;
    }
    state->adapters = PyImport_ImportModule("dlexchange.adapters");
    state->streams = PyImport_ImportModule("dlexchange.adapters.streams");
    return state->adapters != NULL && state->streams != NULL ? 0 : -1;
}

static int
intern_names(dlx_state *state)
{
#define DLX_NAME(name)                                     \
    state->names.name = PyUnicode_InternFromString(#name); \
    if (state->names.name == NULL) {                       \
        return -1;                                         \
    }
    DLX_NAMES(DLX_NAME)
#undef DLX_NAME
    state->max_version =
        Py_BuildValue("(ii)", DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION);
    state->kw_max_version = PyTuple_Pack(1, state->names.max_version);
    state->consumers = PyDict_New();
    state->known_dtypes = PyDict_New();
    state->known_devices = PyDict_New();
    return state->known_dtypes && state->known_devices && state->max_version &&
                   state->kw_max_version && state->consumers
               ? 0
               : -1;
}

static int
make_type(PyObject *module, PyType_Spec *spec, PyTypeObject **out)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    *out = (PyTypeObject *)type;
    return type != NULL ? PyModule_AddType(module, *out) : -1;
}

static int
make_tensor_type(PyObject *module, dlx_state *state)
{
    if (make_type(module, &dlx_tensor_spec, &state->tensor_type) < 0) {
        return -1;
    }
    state->exchange_api_capsule = dlx_exchange_api_capsule();
    if (state->exchange_api_capsule == NULL ||
        PyDict_SetItem(state->tensor_type->tp_dict,
                       state->names.__dlpack_c_exchange_api__,
                       state->exchange_api_capsule) < 0) {
        return -1;
    }
    PyType_Modified(state->tensor_type);
    if (make_type(module, &dlx_description_spec, &state->description_type) < 0 ||
        make_type(module, &dlx_producer_spec, &state->producer_type) < 0) {
        return -1;
    }
    dlx_description_setup(state->description_type);
    return dlx_producer_setup(state);
}

static int
module_exec(PyObject *module)
{
    dlx_state *state = PyModule_GetState(module);
    if (dlx_the_state != NULL && dlx_the_state != state) {
        PyErr_SetString(PyExc_ImportError,
                        "dlexchange._core can be loaded only once in a process");
        return -1;
    }
    dlx_the_state = state;
    Py_INCREF(module); /* deleters look at the state at any time: it is never freed */
    if (intern_names(state) < 0 || import_names(state) < 0 || dlx_hold_setup() < 0 ||
        dlx_lease_setup() < 0 ||
        make_type(module, &dlx_stream_spec, &state->stream_type) < 0 ||
        make_type(module, &dlx_event_spec, &state->event_type) < 0 ||
        make_type(module, &dlx_completion_spec, &state->completion_type) < 0 ||
        make_tensor_type(module, state) < 0) {
        dlx_the_state = NULL; /* the next import begins anew */
        return -1;
    }
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "dlexchange._core",
    .m_doc = "The C core of dlexchange. Import names from dlexchange instead.",
    .m_size = sizeof(dlx_state),
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
