/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of cupy.h.
 */
#include "cupy.h"

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
