/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of hand_off.h.
 */
#include "hand_off.h"

#include "arguments.h"
#include "cupy.h"
#include "fit.h"
#include "numpy.h"
#include "produce.h"
#include "torch.h"

static inline void
drain_if_needed(dlx_state *state)
{
    if (dlx_deferred_waiting()) {
        dlx_deferred_drain(state);
    }
}

/* The rare keywords of a hand-off; `device` may be NULL where it is not one of them. */
static int
read_request(dlx_state *state, const char *function, PyObject *const *values,
             PyObject *kwnames, dlx_request *request, PyObject **device)
{
    PyObject *copy = NULL;
    const dlx_keyword known[] = {
        {state->names.stream, &request->stream},
        {state->names.copy, &copy},
        {state->names.device, device},
    };
    if (dlx_keywords_read(function, values, kwnames, known, device != NULL ? 3 : 2) <
            0 ||
        dlx_copy_read(copy, &request->copy) < 0) {
        return -1;
    }
    if (request->stream == Py_None) {
        request->stream = NULL;
    }
    if (device != NULL && *device == Py_None) {
        *device = NULL;
    }
    return 0;
}

static int
require_one(const char *function, Py_ssize_t nargs)
{
    if (nargs != 1) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes 1 positional argument but %zd were given", function,
                     nargs);
        return -1;
    }
    return 0;
}

static inline PyObject *
hand_off(PyObject *module, const char *function, dlx_consumer consumer,
         PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    dlx_state *state = PyModule_GetState(module);
    dlx_request request = {
        .copy = -1, .managed = consumer == DLX_TO_TORCH, .consumer = consumer};
    drain_if_needed(state);
    if (nargs != 1 && require_one(function, nargs) < 0) {
        return NULL;
    }
    if (kwnames != NULL &&
        read_request(state, function, args + 1, kwnames, &request, NULL) < 0) {
        return NULL;
    }
    return dlx_hand_off(state, args[0], &request);
}

/* A numpy array and nothing else said: short ways are tried first. */
static inline bool
is_plain_numpy(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs != 1 || kwnames != NULL || dlx_deferred_waiting()) {
        return false;
    }
    const dlx_entry *entry = dlx_entry_if_known(dlx_the_state, args[0]);
    return entry != NULL && entry->route == DLX_ROUTE_NUMPY;
}

PyObject *
dlx_py_to_numpy(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    return hand_off(module, "to_numpy", DLX_TO_NUMPY, args, nargs, kwnames);
}

PyObject *
dlx_py_to_torch(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    if (is_plain_numpy(args, nargs, kwnames)) {
        PyObject *tensor = dlx_torch_of_numpy(dlx_the_state, args[0]);
        if (tensor != NULL || PyErr_Occurred()) {
            return tensor;
        }
    }
    return hand_off(module, "to_torch", DLX_TO_TORCH, args, nargs, kwnames);
}

PyObject *
dlx_py_to_jax(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames)
{
    return hand_off(module, "to_jax", DLX_TO_JAX, args, nargs, kwnames);
}

PyObject *
dlx_py_for_adapter(PyObject *module, PyObject *args)
{
    dlx_request request = {.consumer = DLX_TO_ADAPTER};
    PyObject *x, *copy;
    int is_current;
    if (!PyArg_ParseTuple(args, "OOpO", &x, &request.stream, &is_current, &copy) ||
        dlx_copy_read(copy, &request.copy) < 0) {
        return NULL;
    }
    request.is_current = is_current;
    return dlx_hand_off(PyModule_GetState(module), x, &request);
}

/* Move x to a device first, in Python: a copy, hence never the fast path. `stream` is
 * the one that wrote x, or NULL. */
static DLX_GIVE PyObject *
place(dlx_state *state, PyObject *x, PyObject *device, PyObject *stream, int copy)
{
    return PyObject_CallMethod(state->adapters, "place", "OOOO", x, device,
                               stream != NULL ? stream : Py_None,
                               dlx_copy_object(copy));
}

/* The same for a consumer, which copies itself what must be one, and whose stream tells
 * nothing of x: but for -1, by which the caller vouches. */
static DLX_GIVE PyObject *
place_for(dlx_state *state, PyObject *x, PyObject *device, const dlx_request *request)
{
    int overflow;
    PyObject *stream = request->stream;
    bool vouched = stream != NULL && PyLong_Check(stream) &&
                   PyLong_AsLongAndOverflow(stream, &overflow) == -1 && overflow == 0;
    return place(state, x, device, vouched ? stream : NULL,
                 request->copy == 1 ? -1 : request->copy);
}

static PyObject *
from_dlpack_in_full(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    dlx_state *state = PyModule_GetState(module);
    dlx_request request = {.copy = -1};
    PyObject *device = NULL;
    drain_if_needed(state);
    if (nargs != 1 && require_one("from_dlpack", nargs) < 0) {
        return NULL;
    }
    if (kwnames != NULL &&
        read_request(state, "from_dlpack", args + 1, kwnames, &request, &device) < 0) {
        return NULL;
    }
    if (device != NULL) {
        return place(state, args[0], device, request.stream, request.copy);
    }
    return dlx_hand_off(state, args[0], &request);
}

PyObject *
dlx_py_from_dlpack(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    if (is_plain_numpy(args, nargs, kwnames)) {
        PyObject *tensor = dlx_numpy_short_way(dlx_the_state, args[0]);
        if (tensor != NULL) {
            return tensor;
        }
    }
    return from_dlpack_in_full(module, args, nargs, kwnames);
}

/* What `to` means: a small integer (a route in C) or a callable. Asked once each. */
static DLX_GIVE PyObject *
consumer_for(dlx_state *state, PyObject *to)
{
    if (!PyUnicode_Check(to) && !PyType_Check(to) && !PyModule_Check(to)) {
        to = (PyObject *)Py_TYPE(to); /* an array: kept as a key it would never die */
    }
    PyObject *known = PyDict_GetItemWithError(state->consumers, to);
    if (known != NULL || PyErr_Occurred()) {
        return Py_XNewRef(known);
    }
    PyObject *found = PyObject_CallMethod(state->adapters, "consumer", "O", to);
    if (found != NULL && PyDict_SetItem(state->consumers, to, found) < 0) {
        Py_CLEAR(found);
    }
    return found;
}

/* Hand over to what consumer_for() found: a route in C, a callable, or a tuple that
 * ends in a callable: after a table for the consumer's current stream, or after what
 * fit.h or cupy.h need to serve the plain case themselves. */
static PyObject *
hand_to(dlx_state *state, PyObject *x, PyObject *consumer, dlx_request *request)
{
    if (PyLong_Check(consumer)) {
        request->consumer = (dlx_consumer)PyLong_AsLong(consumer);
        request->managed = request->consumer == DLX_TO_TORCH;
        return dlx_hand_off(state, x, request);
    }
    if (PyTuple_Check(consumer)) {
        PyObject *first = PyTuple_GET_ITEM(consumer, 0);
        bool is_plain = request->stream == NULL && request->copy != 1;
        if (is_plain && PyCapsule_CheckExact(first)) {
            request->consumer = DLX_TO_EXCHANGE;
            request->managed = true;
            request->api = PyCapsule_GetPointer(first, "dlpack_exchange_api");
            return request->api != NULL ? dlx_hand_off(state, x, request) : NULL;
        }
        if (is_plain && PyCallable_Check(first)) {
            return dlx_cupy_hand_off(state, x, consumer, request->copy);
        }
        if (is_plain && request->copy < 0 && PyLong_Check(first)) {
            return dlx_fit_hand_off(state, x, consumer);
        }
        consumer = PyTuple_GET_ITEM(consumer, PyTuple_GET_SIZE(consumer) - 1);
    }
    PyObject *copy = dlx_copy_object(request->copy);
    PyObject *stream = request->stream != NULL ? request->stream : Py_None;
    return PyObject_CallFunctionObjArgs(consumer, x, stream, copy, NULL);
}

PyObject *
dlx_py_convert(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    dlx_state *state = PyModule_GetState(module);
    dlx_request request = {.copy = -1};
    PyObject *device = NULL, *x = NULL, *consumer = NULL, *result = NULL;
    drain_if_needed(state);
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError,
                     "convert() takes 2 positional arguments but %zd were given",
                     nargs);
        goto fail;
    }
    if (read_request(state, "convert", args + 2, kwnames, &request, &device) < 0) {
        goto fail;
    }
    consumer = consumer_for(state, args[1]);
    if (consumer == NULL) {
        goto fail;
    }
    x = device != NULL ? place_for(state, args[0], device, &request)
                       : Py_NewRef(args[0]);
    if (x == NULL) {
        goto fail;
    }
    result = hand_to(state, x, consumer, &request);
fail:
    Py_XDECREF(consumer);
    Py_XDECREF(x);
    return result;
}
