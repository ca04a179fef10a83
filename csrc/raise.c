/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of raise.h.
 */
#include "raise.h"

#include <stdarg.h>

PyObject *
dlx_raise(PyObject *type, const char *format, ...)
{
    PyObject *cause_type, *cause, *cause_traceback;
    va_list args;
    PyErr_Fetch(&cause_type, &cause, &cause_traceback);
    va_start(args, format);
    PyErr_FormatV(type, format, args);
    va_end(args);
    if (cause_type != NULL) {
        PyObject *raised_type, *raised, *raised_traceback;
        PyErr_Fetch(&raised_type, &raised, &raised_traceback);
        PyErr_NormalizeException(&cause_type, &cause, &cause_traceback);
        PyErr_NormalizeException(&raised_type, &raised, &raised_traceback);
        if (cause_traceback != NULL) {
            PyException_SetTraceback(cause, cause_traceback);
        }
        PyException_SetContext(raised, Py_NewRef(cause));
        PyException_SetCause(raised, cause);
        PyErr_Restore(raised_type, raised, raised_traceback);
        Py_DECREF(cause_type);
        Py_XDECREF(cause_traceback);
    }
    return NULL;
}

PyObject *
dlx_raise_driver(dlx_state *state, const dlx_error *error)
{
    PyObject *type = state->DriverError, *exception;
    switch (error->status) {
        case DLX_BAD_STREAM:
            return dlx_raise(state->StreamError, "%s", error->text);
        case DLX_CAPTURE_REFUSED:
            return dlx_raise(state->CaptureError, "%s", error->text);
        case DLX_UNSUPPORTED:
        case DLX_NO_DRIVER:
            return dlx_raise(state->ExchangeError, "%s", error->text);
        case DLX_NO_MEMORY:
            return PyErr_NoMemory();
        case DLX_DEVICE_LOST:
            type = state->DeviceLost;
            break;
        default:
            break;
    }
    exception = PyObject_CallFunction(type, "sis", error->call, error->driver_status,
                                      error->text);
    if (exception != NULL) {
        PyErr_SetObject(type, exception);
        Py_DECREF(exception);
    }
    return NULL;
}

static _Atomic bool warned;

static void
warn_attached(const dlx_error *error)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (PyErr_WarnFormat(PyExc_ResourceWarning, 1,
                         "device memory is leaked because its release could not be "
                         "ordered: %s (given once; see dlexchange.stats().leaked)",
                         error->text) < 0) {
        PyErr_WriteUnraisable(NULL);
    }
    PyErr_Restore(type, value, traceback);
}

void
dlx_warn_leak(const dlx_error *error, bool attached)
{
    if (atomic_exchange(&warned, true)) {
        return;
    }
    if (attached) {
        warn_attached(error);
    } else {
        PyGILState_STATE gil = PyGILState_Ensure();
        warn_attached(error);
        PyGILState_Release(gil);
    }
}
