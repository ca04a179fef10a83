/* SPDX-License-Identifier: Apache-2.0
 *
 * _core._copy_to_host: an asynchronous copy of a Tensor's memory to pinned memory,
 * behind dlexchange.host(). The copy in flight owns its source and its destination.
 * GIL: held; released around driver calls.
 */
#include "module_driver.h"

#include "alloc.h"
#include "driver.h"
#include "mutant.h"
#include "order.h"
#include "raise.h"
#include "stream_type.h"
#include "tensor.h"

/* Both sides of a copy, until its event has fired. */
typedef struct in_flight {
    PyObject *from, *to;
} in_flight;

/* On the reaper's thread, GIL held. */
static void
landed(void *arg)
{
    in_flight *both = arg;
    Py_DECREF(both->from);
    Py_DECREF(both->to);
    free(both);
}

/* A Tensor over `span` bytes of pinned memory, `first` before its first element, with
 * the shape and strides of its source. */
static DLX_GIVE PyObject *
destination_new(dlx_state *state, const dlx_tensor *from, DLDevice on, size_t span,
                size_t first)
{
    void *pinned = NULL;
    dlx_error error;
    dlx_status status;
    Py_BEGIN_ALLOW_THREADS
    status = dlx_pinned_alloc((int32_t)on.device_type, on.device_id,
                              span > 0 ? span : 1, &pinned, &error);
    Py_END_ALLOW_THREADS
    if (status != DLX_OK) {
        dlx_raise_driver(state, &error);
        return NULL;
    }
    dlx_source source = {.view = from->view, .flags = DLPACK_FLAG_BITMASK_IS_COPIED};
    source.view.data = (char *)pinned + first;
    source.view.device = (DLDevice){kDLCPU, 0};
    source.flags |= from->flags & DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED;
    dlx_hold_set(&source.hold, DLX_HOLD_PINNED, pinned);
    PyObject *to = dlx_tensor_new(state, &source);
    if (to == NULL) {
        dlx_pinned_free(pinned);
    }
    return to;
}

PyObject *
dlx_py_copy_to_host(PyObject *module, PyObject *x)
{
    dlx_state *state = PyModule_GetState(module);
    const dlx_tensor *from = (const dlx_tensor *)x;
    PyObject *to = NULL, *event = NULL;
    in_flight *both = NULL;
    dlx_event *done = NULL, *after = NULL;
    size_t first = 0, span;
    dlx_error error;
    dlx_status status;

    if (Py_TYPE(x) != state->tensor_type) {
        return PyErr_Format(PyExc_TypeError, "expected Tensor, not %s",
                            Py_TYPE(x)->tp_name);
    }
    if (from->closed) {
        PyErr_SetString(PyExc_ValueError, "this Tensor has been closed");
        return NULL;
    }
    DLDevice on = dlx_order_device(from->view.device);
    bool padded = (from->flags & DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED) != 0;
    span = dlx_layout_span(&from->view, padded, &first);
    uintptr_t source = (uintptr_t)dlx_layout_first(&from->view) - first;
    after = from->hold.lease != NULL ? from->hold.lease->ready : NULL;
    to = destination_new(state, from, on, span, first);
    if (to == NULL) {
        goto fail;
    }
    both = dlx_alloc(sizeof *both);
    if (both == NULL) {
        PyErr_NoMemory();
        goto fail;
    }
    *both = (in_flight){Py_NewRef(DLX_MUTATED(in_flight) ? to : x), Py_NewRef(to)};
    void *target = ((dlx_tensor *)to)->hold.what;
    Py_BEGIN_ALLOW_THREADS
    status = dlx_copy_to_host(target, (int32_t)on.device_type, on.device_id, source,
                              span, after, &done, &error);
    if (status == DLX_OK) {
        status = dlx_event_park(done, landed, both, &error);
        if (status != DLX_OK) { /* nobody would keep both sides: wait for it here */
            (void)dlx_event_synchronize(done, NULL);
        }
    }
    Py_END_ALLOW_THREADS
    if (status != DLX_OK) {
        dlx_raise_driver(state, &error);
        landed(both);
        goto fail;
    }
    event = dlx_event_object_new(state, done);
    if (event == NULL) {
        goto fail;
    }
    return Py_BuildValue("(NN)", to, event);

fail:
    dlx_event_release(done);
    Py_XDECREF(to);
    return NULL;
}
