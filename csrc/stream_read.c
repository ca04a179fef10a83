/* SPDX-License-Identifier: Apache-2.0
 *
 * What people pass as `stream`, read (order.h). GIL: held.
 */
#include "backend.h"
#include "order.h"
#include "raise.h"
#include "stream_type.h"

int
dlx_stream_of_handle(dlx_state *state, DLDevice on, uintptr_t handle,
                     dlx_stream_ref *out)
{
    dlx_error error;
    *out = (dlx_stream_ref){.is_owned = false};
    if (dlx_stream_init(&out->stream, (int32_t)on.device_type, on.device_id, handle,
                        &error) != DLX_OK) {
        dlx_raise_driver(state, &error);
        return -1;
    }
    out->is_owned = dlx_stream_is_default(out->stream);
    return 0;
}

static int
read_integer(dlx_state *state, PyObject *object, DLDevice on, bool *vouched,
             dlx_stream_ref *out)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    uintptr_t handle = (uintptr_t)value;
    if (overflow > 0) { /* handles go up to 2^64 - 1 */
        handle = (uintptr_t)PyLong_AsUnsignedLongLong(object);
        if (PyErr_Occurred()) {
            PyErr_Clear();
            overflow = -1;
        }
    }
    if (overflow < 0 || (overflow == 0 && value < -1)) {
        dlx_raise(state->StreamError, "%R is not a stream handle", object);
        return -1;
    }
    if (overflow == 0 && value == -1) {
        *vouched = true;
        return 0;
    }
    if (handle == 0 && on.device_type == kDLCUDA) {
        dlx_raise(
            state->StreamError,
            "stream=0 is ambiguous on CUDA: pass 1 for the legacy default stream or 2 "
            "for the per-thread default stream");
        return -1;
    }
    return dlx_stream_of_handle(state, on, handle, out);
}

/* Objects of frameworks: dlexchange.adapters.streams.resolve knows them. */
static int
read_object(dlx_state *state, PyObject *object, DLDevice on, bool *vouched,
            dlx_stream_ref *out)
{
    int status = -1;
    PyObject *resolved = PyObject_CallMethod(state->streams, "resolve", "Oii", object,
                                             (int)on.device_type, (int)on.device_id);
    if (resolved != NULL && Py_TYPE(resolved) == state->stream_type) {
        status = dlx_stream_read(state, resolved, on, vouched, out);
    } else if (resolved != NULL) {
        PyErr_SetString(PyExc_SystemError, "resolve() must return a dlexchange.Stream");
    }
    Py_XDECREF(resolved);
    return status;
}

int
dlx_stream_read(dlx_state *state, PyObject *object, DLDevice on, bool *vouched,
                dlx_stream_ref *out)
{
    *out = (dlx_stream_ref){.is_owned = false};
    *vouched = false;
    if (Py_TYPE(object) == state->stream_type) {
        const dlx_stream_object *mine = (dlx_stream_object *)object;
        if (mine->stream.device_type != (int32_t)on.device_type ||
            mine->stream.device_id != on.device_id) {
            dlx_raise(state->StreamError,
                      "stream %R is not of the device (%d, %d) that holds the memory",
                      object, (int)on.device_type, (int)on.device_id);
            return -1;
        }
        out->stream = mine->stream;
        out->is_owned = mine->owner != NULL || mine->is_pooled ||
                        dlx_stream_is_default(mine->stream);
        out->owner = Py_NewRef(object);
        return 0;
    }
    if (PyLong_CheckExact(object)) {
        return read_integer(state, object, on, vouched, out);
    }
    return read_object(state, object, on, vouched, out);
}

int
dlx_stream_default(dlx_state *state, DLDevice on, dlx_stream_ref *out)
{
    int status = 0;
    bool vouched;
    *out = (dlx_stream_ref){.is_owned = false};
    if (dlx_backend_is_installed((int32_t)on.device_type)) {
        PyObject *stream = dlx_backend_stream(state, on, NULL);
        status =
            stream != NULL ? dlx_stream_read(state, stream, on, &vouched, out) : -1;
        Py_XDECREF(stream);
    } else {
        status = dlx_stream_of_handle(state, on, 0, out);
    }
    return status;
}

int
dlx_stream_argument(DLDevice on, dlx_stream stream, PyObject **out)
{
    if (dlx_backend_is_installed((int32_t)on.device_type)) {
        return dlx_backend_argument(stream, out);
    }
    *out = stream.device_type != 0 ? PyLong_FromUnsignedLongLong(stream.handle)
                                   : PyLong_FromLong(-1);
    return *out != NULL ? 0 : -1;
}
