/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of tvm_ffi.h.
 */
#include "tvm_ffi.h"

#include "order.h"

static struct {
    int (*to_versioned)(void *handle, DLManagedTensorVersioned **out);
    Py_ssize_t handle_at; /* in the Python object */
} tvm;

static inline void *
handle_of(PyObject *x)
{
    return *(void **)((char *)x + tvm.handle_at);
}

static int
from_object(void *x, DLManagedTensorVersioned **out)
{
    void *handle = handle_of(x);
    if (handle == NULL || tvm.to_versioned(handle, out) != 0) {
        dlx_raise(dlx_the_state->ExchangeError,
                  handle == NULL ? "this tvm-ffi tensor has been moved from"
                                 : "tvm-ffi refused to export this tensor");
        return -1;
    }
    return 0;
}

/* Its tensors know no stream, and its __dlpack__ orders nothing. */
static int
work_stream(DLDeviceType device_type, int32_t device_id, void **out)
{
    (void)device_type;
    (void)device_id;
    *out = NULL;
    return dlx_refuse_silent_producer(dlx_the_state, "tvm_ffi");
}

static const DLPackExchangeAPI api = {
    .header = {.version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION}},
    .managed_tensor_from_py_object_no_sync = from_object,
    .current_work_stream = work_stream,
};

/* Where the object holds the handle: the only such place, or -1. */
static Py_ssize_t
find_handle(PyObject *tensor, const void *handle)
{
    Py_ssize_t found = -1;
    Py_ssize_t end = Py_TYPE(tensor)->tp_basicsize - (Py_ssize_t)sizeof(void *);
    for (Py_ssize_t at = (Py_ssize_t)sizeof(PyObject); at <= end; at += 8) {
        if (*(void **)((char *)tensor + at) == handle) {
            if (found >= 0) {
                return -1;
            }
            found = at;
        }
    }
    return found;
}

PyObject *
dlx_tvm_ffi_locate(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *specimens;
    unsigned long long address;
    Py_ssize_t place = -1;
    if (!PyArg_ParseTuple(args, "KO!", &address, &PyList_Type, &specimens)) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(specimens); i++) {
        PyObject *tensor;
        unsigned long long handle;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(specimens, i), "OK", &tensor, &handle)) {
            return NULL;
        }
        Py_ssize_t at = find_handle(tensor, (const void *)(uintptr_t)handle);
        if (at < 0 || (i > 0 && at != place)) {
            Py_RETURN_NONE;
        }
        place = at;
    }
    if (place < 0 || address == 0) {
        Py_RETURN_NONE;
    }
    tvm.handle_at = place;
    tvm.to_versioned = (int (*)(void *, DLManagedTensorVersioned **))(uintptr_t)address;
    return PyCapsule_New((void *)&api, "dlpack_exchange_api", NULL);
}
