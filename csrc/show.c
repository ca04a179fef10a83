/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of show.h.
 */
#include "show.h"

PyObject *
dlx_show_dims(int32_t n, const int64_t *values)
{
    PyObject *tuple = PyTuple_New(n);
    for (int32_t i = 0; tuple != NULL && i < n; i++) {
        PyObject *value = PyLong_FromLongLong(values[i]);
        if (value == NULL) {
            Py_CLEAR(tuple);
        } else {
            PyTuple_SET_ITEM(tuple, i, value);
        }
    }
    return tuple;
}

PyObject *
dlx_show_dtype(DLDataType dtype)
{
    return PyObject_CallFunction(dlx_the_state->make_dtype, "iii", (int)dtype.code,
                                 (int)dtype.bits, (int)dtype.lanes);
}

PyObject *
dlx_show_device(DLDevice device)
{
    return PyObject_CallFunction(dlx_the_state->make_device, "ii",
                                 (int)device.device_type, (int)device.device_id);
}
