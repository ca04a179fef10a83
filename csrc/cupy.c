/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of cupy.h.
 */
#include "cupy.h"

#include "arguments.h"
#include "capsule.h"
#include "order.h"
#include "produce.h"
#include "tensor.h"

/* Of a device, in the calling thread; 0: the default stream. May raise. */
static intptr_t (*get_stream_ptr)(int device_id);

static int
work_stream(DLDeviceType device_type, int32_t device_id, void **out)
{
    (void)device_type;
    *out = (void *)get_stream_ptr(device_id);
    return PyErr_Occurred() ? -1 : 0;
}

/* Its arrays are exported by their __dlpack__. */
static int
from_object(void *x, DLManagedTensorVersioned **out)
{
    (void)x;
    (void)out;
    PyErr_SetString(dlx_the_state->ExchangeError, "CuPy exports by __dlpack__ only");
    return -1;
}

static const DLPackExchangeAPI api = {
    .header = {.version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION}},
    .managed_tensor_from_py_object_no_sync = from_object,
    .current_work_stream = work_stream,
};

PyObject *
dlx_cupy_streams(PyObject *module, PyObject *function)
{
    static const char signature[] = "intptr_t (int)"; /* Cython's name for it */
    (void)module;
    if (!PyCapsule_IsValid(function, signature)) {
        Py_RETURN_NONE;
    }
    get_stream_ptr =
        (intptr_t (*)(int))(uintptr_t)PyCapsule_GetPointer(function, signature);
    return PyCapsule_New((void *)&api, "dlpack_exchange_api", NULL);
}

/* ---- CuPy as a consumer ---- */

bool
dlx_cupy_takes(DLDevice device)
{
    return device.device_type == kDLCUDA || device.device_type == kDLCUDAManaged ||
           device.device_type == kDLROCM;
}

int
dlx_cupy_stream(dlx_state *state, PyObject *current_stream, DLDevice on,
                dlx_stream_ref *out)
{
    PyObject *stream = NULL, *ptr = NULL;
    int status = -1;
    size_t handle = 0;
    PyObject *id = PyLong_FromLong(on.device_id);
    stream = id != NULL ? PyObject_CallOneArg(current_stream, id) : NULL;
    ptr = stream != NULL ? PyObject_GetAttr(stream, state->names.ptr) : NULL;
    handle = ptr != NULL ? PyLong_AsSize_t(ptr) : 0;
    if (!PyErr_Occurred()) {
        status = dlx_stream_of_handle(state, on, handle, out);
    } else if (PyErr_ExceptionMatches(PyExc_Exception) &&
               !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        dlx_raise(state->ExchangeError,
                  "cupy refused to tell its current stream on device %d; see the cause "
                  "above",
                  (int)on.device_id);
    }
    if (status == 0) {
        out->owner = Py_NewRef(stream);
        out->is_owned = true;
    }
    Py_XDECREF(id);
    Py_XDECREF(stream);
    Py_XDECREF(ptr);
    return status;
}

static PyObject *
import_source(dlx_state *state, PyObject *from_dlpack, dlx_source *source)
{
    PyObject *capsule = NULL, *result = NULL;
    if (dlx_source_is_read_only(source) &&
        dlx_warn_read_only(state, source->framework, "cupy", 1) < 0) {
        return NULL;
    }
    capsule = dlx_source_export(state, source, true);
    if (capsule == NULL) {
        return NULL;
    }
    result = PyObject_CallOneArg(from_dlpack, capsule);
    Py_DECREF(capsule);
    if (result == NULL) {
        dlx_consumer_refused(state, "cupy", source);
    }
    return result;
}

PyObject *
dlx_cupy_hand_off(dlx_state *state, PyObject *x, PyObject *consumer, int copy)
{
    const dlx_request request = {.copy = copy,
                                 .consumer = DLX_TO_CUPY,
                                 .current_stream = PyTuple_GET_ITEM(consumer, 0)};
    PyObject *tensor = NULL, *result = NULL;
    dlx_source source;
    if (dlx_source_open(state, x, &request, &source) < 0) {
        return NULL;
    }
    if (dlx_cupy_takes(source.view.device)) {
        result = import_source(state, PyTuple_GET_ITEM(consumer, 1), &source);
    } else if ((tensor = dlx_tensor_new(state, &source)) != NULL) {
        result =
            PyObject_CallFunction(PyTuple_GET_ITEM(consumer, 2), "OOOs", tensor,
                                  Py_None, dlx_copy_object(copy), source.framework);
        Py_DECREF(tensor);
    }
    dlx_source_close(&source);
    return result;
}
