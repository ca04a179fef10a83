/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of consume_dlpack.h.
 */
#include "consume_dlpack.h"

#include <string.h>

#include "adapt.h"
#include "capsule.h"
#include "order.h"
#include "torch.h"

int
dlx_producer_refused(dlx_state *state, const char *framework)
{
    if (PyErr_ExceptionMatches(PyExc_BufferError) &&
        !PyErr_ExceptionMatches(state->ExchangeError)) {
        dlx_raise(state->ExchangeError,
                  "%s refused to export this tensor; see the cause above", framework);
    }
    return -1;
}

/* Give up the keywords of ours that, by the pending TypeError, the producer does not
 * know: those it names, or all where it names none. False, and the error stays, where
 * it says that something went wrong inside the producer: it came out of a frame of the
 * producer's and does not speak of our keywords. Clauses: V09, V10. */
static bool
give_up_unknown_keywords(bool *max_version, bool *copy_false)
{
    PyObject *type, *value, *traceback, *text = NULL;
    if (!PyErr_ExceptionMatches(PyExc_TypeError) || !(*max_version || *copy_false)) {
        return false;
    }
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    text = value != NULL ? PyObject_Str(value) : NULL;
    const char *utf8 = text != NULL ? PyUnicode_AsUTF8(text) : NULL;
    const char *says = utf8 != NULL ? utf8 : "";
    bool max = *max_version && strstr(says, "'max_version'") != NULL;
    bool copy = *copy_false && strstr(says, "'copy'") != NULL;
    bool ours = traceback == NULL ||
                (strstr(says, "keyword argument") != NULL &&
                 (max || copy || strstr(says, "no keyword arguments") != NULL));
    Py_XDECREF(text);
    PyErr_Clear();
    if (!ours) {
        PyErr_Restore(type, value, traceback);
        return false;
    }
    *max_version = *max_version && !max && copy;
    *copy_false = *copy_false && !copy && max;
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return true;
}

static PyObject *
call_dlpack_with(dlx_state *state, const dlx_entry *known, PyObject *x,
                 bool max_version, PyObject *stream, bool copy_false)
{
    PyObject *args[4] = {x};
    PyObject *names = NULL, *capsule = NULL;
    Py_ssize_t n = 0;
    if (max_version && stream == NULL && !copy_false) { /* the common call */
        args[1] = state->max_version;
        if (known->dlpack != NULL && Py_TYPE(x) == known->type &&
            known->type->tp_version_tag == known->tag) { /* it has been asked things */
            return PyObject_Vectorcall(known->dlpack, args, 1, state->kw_max_version);
        }
        return PyObject_VectorcallMethod(state->names.__dlpack__, args,
                                         1 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                         state->kw_max_version);
    }
    names = PyTuple_New(max_version + (stream != NULL) + copy_false);
    if (names == NULL) {
        return NULL;
    }
    if (max_version) {
        args[1 + n] = state->max_version;
        PyTuple_SET_ITEM(names, n++, Py_NewRef(state->names.max_version));
    }
    if (stream != NULL) {
        args[1 + n] = stream;
        PyTuple_SET_ITEM(names, n++, Py_NewRef(state->names.stream));
    }
    if (copy_false) {
        args[1 + n] = Py_False;
        PyTuple_SET_ITEM(names, n++, Py_NewRef(state->names.copy));
    }
    capsule = PyObject_VectorcallMethod(state->names.__dlpack__, args,
                                        1 | PY_VECTORCALL_ARGUMENTS_OFFSET, names);
    Py_DECREF(names);
    return capsule;
}

/* Call the producer with the keywords it knows. copy=False is a promise we ask for:
 * where the producer does not know the word it cannot be had. */
static DLX_GIVE PyObject *
call_dlpack(dlx_state *state, const dlx_entry *known, PyObject *x, PyObject *stream,
            const dlx_request *request)
{
    bool copy_false = request->copy == 0;
    bool max_version = !known->no_max_version;
    PyObject *capsule =
        call_dlpack_with(state, known, x, max_version, stream, copy_false);
    while (capsule == NULL && give_up_unknown_keywords(&max_version, &copy_false)) {
        capsule = call_dlpack_with(state, known, x, max_version, stream, copy_false);
    }
    if (capsule != NULL && !max_version) {
        dlx_entry *entry = &state->cache[dlx_entry_slot(known->type)];
        if (entry->type == known->type && entry->tag == known->tag) {
            entry->no_max_version = true; /* not asked again while the type stands */
        }
    }
    if (capsule != NULL && !PyCapsule_CheckExact(capsule)) {
        dlx_raise(state->ExchangeError, "%s.__dlpack__ returned %s, not a capsule",
                  Py_TYPE(x)->tp_name, Py_TYPE(capsule)->tp_name);
        Py_CLEAR(capsule);
    }
    return capsule;
}

/* Ask the producer for its device. 0, or -1 with an error set. Clauses: D01, R03. */
static int
ask_device(dlx_state *state, PyObject *x, DLDevice *device)
{
    int status = -1;
    long type, id;
    PyObject *pair = PyObject_CallMethodNoArgs(x, state->names.__dlpack_device__);
    if (pair == NULL) {
        goto fail;
    }
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        dlx_raise(state->ExchangeError,
                  "%s.__dlpack_device__ returned %R, not (device_type, device_id)",
                  Py_TYPE(x)->tp_name, pair);
        goto fail;
    }
    type = PyLong_AsLong(PyTuple_GET_ITEM(pair, 0));
    id = PyLong_AsLong(PyTuple_GET_ITEM(pair, 1));
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError) &&
        !PyErr_ExceptionMatches(PyExc_OverflowError)) {
        goto fail; /* not about the numbers: an interrupt, a bug */
    }
    if (PyErr_Occurred() || type != (int32_t)type || id != (int32_t)id) {
        dlx_raise(state->ExchangeError,
                  "%s.__dlpack_device__ returned %R, not two integers of 32 bits",
                  Py_TYPE(x)->tp_name, pair);
        goto fail;
    }
    device->device_type = (DLDeviceType)type;
    device->device_id = (int32_t)id;
    status = 0;
fail:
    Py_XDECREF(pair);
    return status;
}

int
dlx_dlpack_open(dlx_state *state, dlx_entry known, PyObject *x,
                const dlx_request *request, dlx_source *source)
{
    PyObject *stream = NULL, *capsule = NULL, *resolved = NULL;
    DLDevice device = {kDLCPU, 0};
    int status = -1;

    if (known.torch_guards) {
        int readable = dlx_torch_may_read_by_methods(state, x);
        if (readable == 0) {
            x = resolved = dlx_torch_resolve(state, x, request);
        }
        if (readable < 0 || x == NULL) {
            goto fail;
        }
    }
    if (dlx_adapt_ask(known.prepare, x) < 0) {
        goto fail;
    }
    if (!known.ignores_stream && ask_device(state, x, &device) < 0) {
        goto fail;
    }
    if (known.torch_guards && dlx_device_is_host(device.device_type)) {
        device.device_type = kDLCPU; /* pinned; its capsules are of plain memory */
    }
    if (device.device_type != kDLCPU &&
        dlx_order_before_dlpack(state, &known, x, device, request, source, &stream) <
            0) {
        goto fail;
    }
    capsule = call_dlpack(state, &known, x, stream, request);
    if (capsule == NULL) {
        goto fail;
    }
    source->framework = known.framework;
    if (dlx_capsule_claim(state, capsule, source) < 0) {
        goto fail;
    }
    if (known.immutable) {
        source->flags |= DLPACK_FLAG_BITMASK_READ_ONLY;
    }
    if (resolved != NULL) {
        source->flags |= DLPACK_FLAG_BITMASK_IS_COPIED;
    }
    if (known.torch_guards && dlx_torch_note_pinned(x, request, source) < 0) {
        dlx_source_close(source);
        goto fail;
    }
    status = 0;
fail:
    Py_XDECREF(resolved);
    Py_XDECREF(stream);
    Py_XDECREF(capsule);
    return status == 0 ? 0 : dlx_producer_refused(state, known.framework);
}
