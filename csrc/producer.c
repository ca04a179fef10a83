/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of producer.h.
 */
#include "producer.h"

#include <string.h>

#include "arguments.h"
#include "capsule.h"
#include "mutant.h"
#include "order.h"
#include "raise.h"
#include "tensor.h"

/* ---- the description ---- */

/* The describer of a class whose memory is not fixed, where that is a plain method:
 * borrowed, it lives as long as the class has this tag. */
typedef struct describer {
    PyTypeObject *type;
    unsigned int tag;
    PyObject *function;
} describer;

#define N_DESCRIBERS 16
static describer describers[N_DESCRIBERS];

static describer *
slot_of(const PyTypeObject *type)
{
    return &describers[dlx_entry_slot(type) % N_DESCRIBERS];
}

static void
learn_describer(dlx_state *state, PyTypeObject *type)
{
    PyObject *fixed =
        PyObject_GetAttr((PyObject *)type, state->names._dlexchange_fixed);
    unsigned int tag = type->tp_version_tag; /* it has one now, if it can have one */
    PyObject *function = _PyType_Lookup(type, state->names.__dlexchange__);
    if (fixed == Py_None && function != NULL &&
        PyType_HasFeature(Py_TYPE(function), Py_TPFLAGS_METHOD_DESCRIPTOR) &&
        tag == type->tp_version_tag) {
        *slot_of(type) = (describer){type, tag, function};
    }
    Py_XDECREF(fixed);
    PyErr_Clear();
}

/* Call the describer, or give what a class with fixed memory has said before. */
static DLX_GIVE PyObject *
ask(dlx_state *state, PyObject *x, bool *keep)
{
    PyTypeObject *type = Py_TYPE(x);
    describer known = *slot_of(type);
    *keep = false;
    if (known.type == type && known.tag == type->tp_version_tag && known.tag != 0) {
        Py_INCREF(known.function);
        PyObject *said = PyObject_Vectorcall(known.function, &x, 1, NULL);
        Py_DECREF(known.function);
        return said;
    }
    PyObject *fixed = PyObject_GetAttr(x, state->names._dlexchange_fixed);
    if (fixed == NULL || Py_TYPE(fixed) == state->description_type) {
        return fixed;
    }
    *keep = fixed == Py_True;
    Py_DECREF(fixed);
    if (!*keep) {
        learn_describer(state, type);
    }
    return PyObject_CallMethodNoArgs(x, state->names.__dlexchange__);
}

dlx_description *
dlx_producer_describe(dlx_state *state, PyObject *x)
{
    bool keep;
    PyObject *said = ask(state, x, &keep);
    if (said == NULL) {
        return NULL;
    }
    if (Py_TYPE(said) != state->description_type) {
        PyErr_Format(PyExc_TypeError,
                     "%s.__dlexchange__ must return a dlexchange.Description, not %s",
                     Py_TYPE(x)->tp_name, Py_TYPE(said)->tp_name);
        Py_CLEAR(said);
    } else if (keep && PyObject_SetAttr(x, state->names._dlexchange_fixed, said) < 0) {
        Py_CLEAR(said);
    }
    return (dlx_description *)said;
}

void
dlx_producer_source(const dlx_description *said, PyObject *x, dlx_source *source)
{
    source->view = said->view;
    source->flags = said->flags;
    source->framework = "dlexchange";
    source->order.is_active = false;
    dlx_hold_set_object(&source->hold, said->owner != NULL ? said->owner : x);
}

/* ---- order ---- */

/* Make `to` wait for every stream with pending work. GIL: not held. */
static dlx_status
push_all(const dlx_description *said, dlx_stream to, dlx_error *error)
{
    dlx_status status = DLX_OK;
    for (size_t i = 0; status == DLX_OK && i < said->n_streams; i++) {
        status = dlx_push(DLX_MUTATED(described_push) ? to : said->streams[i].stream,
                          to, DLX_PUSH_CONSUMER_NAMED, error);
    }
    return status;
}

int
dlx_producer_push(dlx_state *state, const dlx_description *said, dlx_stream to)
{
    dlx_error error;
    dlx_status status;
    Py_BEGIN_ALLOW_THREADS
    status = push_all(said, to, &error);
    Py_END_ALLOW_THREADS
    if (status != DLX_OK) {
        dlx_raise_driver(state, &error);
        return -1;
    }
    return 0;
}

/* One stream that carries all pending work: the only one named, or one of ours behind
 * them all. 0, or -1 with an error set. */
static int
join(dlx_state *state, const dlx_description *said, dlx_order *order)
{
    dlx_error error;
    dlx_status status;
    if (said->n_streams == 1) {
        order->producer = said->streams[0];
        order->producer.is_pooled = false; /* if it is, its object puts it back */
        Py_XINCREF(order->producer.owner);
        return 0;
    }
    Py_BEGIN_ALLOW_THREADS
    status = dlx_stream_acquire((int32_t)order->streams_on.device_type,
                                order->streams_on.device_id, &order->producer.stream,
                                &error);
    Py_END_ALLOW_THREADS
    if (status != DLX_OK) {
        dlx_raise_driver(state, &error);
        return -1;
    }
    order->producer.is_pooled = order->producer_is_borrowed = true;
    return dlx_producer_push(state, said, order->producer.stream);
}

/* An edge may order the release where P is the stream that the allocator keeps to. */
static void
find_edge(const dlx_description *said, dlx_order *order)
{
    const dlx_stream_ref *allocation = &said->allocation;
    bool nobody = order->producer.stream.device_type == 0;
    if (allocation->stream.device_type == 0 ||
        dlx_stream_is_per_thread(allocation->stream) ||
        !(nobody ||
          dlx_stream_same(allocation->stream, order->producer.stream, true))) {
        return;
    }
    dlx_stream_ref_clear(&order->producer);
    order->producer = *allocation;
    order->producer.is_pooled = false;
    Py_XINCREF(order->producer.owner);
    order->edge = allocation->is_owned;
}

/* Fill in the order of a hand-off; dlx_order_source does the rest. */
static int
order_hand_off(dlx_state *state, const dlx_description *said,
               const dlx_request *request, dlx_source *source)
{
    dlx_order *order = &source->order;
    if (dlx_order_begin(state, said->view.device, request, source) < 0) {
        return -1;
    }
    if (order->vouched || order->producer.stream.device_type != 0) {
        return 0; /* the caller knows better */
    }
    if (said->complete) {
        order->nothing_pending = true;
    } else if (said->n_streams > 1 && request->consumer == DLX_TO_TORCH &&
               request->copy != 1) {
        order->producer_ordered = true;
        if (dlx_producer_push(state, said, order->consumer.stream) < 0) {
            return -1;
        }
    } else if (join(state, said, order) < 0) {
        return -1;
    }
    find_edge(said, order);
    return 0;
}

bool
dlx_producer_has_type(dlx_state *state, PyTypeObject *type)
{
    if (state->producer_type == NULL || !PyType_IsSubtype(type, state->producer_type)) {
        return false;
    }
    PyObject *own = PyObject_GetAttr((PyObject *)type, state->names.__dlpack__);
    PyObject *ours =
        PyObject_GetAttr((PyObject *)state->producer_type, state->names.__dlpack__);
    bool same = own != NULL && own == ours;
    Py_XDECREF(own);
    Py_XDECREF(ours);
    PyErr_Clear();
    return same;
}

int
dlx_producer_open(dlx_state *state, PyObject *x, const dlx_request *request,
                  dlx_source *source)
{
    dlx_description *said = dlx_producer_describe(state, x);
    int status = 0;
    if (said == NULL) {
        return -1;
    }
    dlx_producer_source(said, x, source);
    size_t nbytes = (size_t)said->view.ndim * sizeof(int64_t);
    memcpy(source->shape, said->view.shape, nbytes); /* the description may go */
    memcpy(source->strides, said->view.strides, nbytes);
    source->view.shape = source->shape;
    source->view.strides = source->strides;
    if (said->view.device.device_type != kDLCPU) {
        status = order_hand_off(state, said, request, source);
    }
    if (status < 0) {
        dlx_order_clear(&source->order);
        dlx_source_close(source);
    }
    Py_DECREF(said);
    return status;
}

/* ---- __dlpack__ ---- */

/* Order the memory into the stream of __dlpack__. The stream is used in this call only.
 * Host-accessible memory without a stream is waited for: the consumer may read it at
 * once. Clauses: S01-S13, S17, S24, S36. */
static int
order_export(dlx_state *state, const dlx_description *said, PyObject *value)
{
    DLDevice on = dlx_order_device(said->view.device);
    dlx_stream_ref consumer = {.is_owned = false};
    dlx_error error;
    dlx_status status = DLX_OK;
    bool vouched = false, none = value == NULL || value == Py_None;
    if (on.device_type == 0) {
        if (!none) {
            dlx_raise(
                state->StreamError,
                "memory of device (%d, %d) has no stream: pass stream=None, not %R",
                (int)said->view.device.device_type, (int)said->view.device.device_id,
                value);
        }
        return none ? 0 : -1;
    }
    if (!none && dlx_stream_read(state, value, on, &vouched, &consumer) < 0) {
        return -1;
    }
    if (vouched || said->complete) {
        dlx_stream_ref_clear(&consumer);
        return 0;
    }
    bool waits = none && dlx_device_is_host(said->view.device.device_type);
    if (none && dlx_stream_default(state, on, &consumer) < 0) {
        return -1;
    }
    Py_BEGIN_ALLOW_THREADS
    if (waits) {
        for (size_t i = 0; status == DLX_OK && i < said->n_streams; i++) {
            status = dlx_stream_synchronize(said->streams[i].stream, &error);
        }
    } else {
        status = push_all(said, consumer.stream, &error);
    }
    Py_END_ALLOW_THREADS
    dlx_stream_ref_clear(&consumer);
    if (status != DLX_OK) {
        dlx_raise_driver(state, &error);
        return -1;
    }
    return 0;
}

/* Copy to host memory of our own, behind all pending work. Blocks: until it is there.
 */
static int
copy_to_host(dlx_state *state, const dlx_description *said, dlx_source *source)
{
    dlx_order *order = &source->order;
    DLDevice on = dlx_order_device(said->view.device);
    if (dlx_device_is_host(said->view.device.device_type)) {
        return order_export(state, said, NULL) < 0 ? -1
                                                   : dlx_source_copy(state, source);
    }
    if (on.device_type == 0) {
        dlx_raise(
            state->ExchangeError,
            "memory of device (%d, %d) cannot be copied to the host by dlexchange",
            (int)said->view.device.device_type, (int)said->view.device.device_id);
        return -1;
    }
    *order = (dlx_order){.is_active = true, .streams_on = on};
    if (!said->complete && join(state, said, order) < 0) {
        dlx_order_clear(order);
        return -1;
    }
    return dlx_order_copy_to_host(state, source); /* clears the order */
}

/* Bring the memory to where the consumer wants it. Clauses: K02-K07. */
static int
settle(dlx_state *state, const dlx_description *said, const dlx_export_arguments *asked,
       dlx_source *source)
{
    DLDevice here = said->view.device, there = asked->has_device ? asked->device : here;
    bool moves =
        there.device_type != here.device_type || there.device_id != here.device_id;
    if (moves && there.device_type != kDLCPU) {
        dlx_raise(state->ExchangeError,
                  "this array is on device (%d, %d) and cannot be exported to (%d, %d)",
                  (int)here.device_type, (int)here.device_id, (int)there.device_type,
                  (int)there.device_id);
        return -1;
    }
    if (moves && asked->copy == 0) {
        dlx_raise(
            state->CopyError,
            "this array is on device (%d, %d): dl_device=(1, 0) needs a copy, and "
            "copy=False forbids it",
            (int)here.device_type, (int)here.device_id);
        return -1;
    }
    if (moves) {
        return copy_to_host(state, said, source);
    }
    if (asked->copy == 1 && here.device_type != kDLCPU) {
        dlx_raise(
            state->CopyError,
            "dlexchange allocates no device memory, so the producer cannot copy: let "
            "the consumer copy, or ask for dl_device=(1, 0)");
        return -1;
    }
    if (order_export(state, said, asked->stream) < 0) {
        return -1;
    }
    return asked->copy == 1 ? dlx_source_copy(state, source) : 0;
}

PyObject *
dlx_producer_dlpack(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    dlx_state *state = dlx_the_state;
    dlx_export_arguments asked;
    PyObject *capsule = NULL;
    dlx_source source;
    if (dlx_export_arguments_read(state, args, nargs, kwnames, &asked) < 0) {
        return NULL;
    }
    dlx_description *said = dlx_producer_describe(state, self);
    if (said == NULL) {
        return NULL;
    }
    dlx_producer_source(said, self, &source);
    if (kwnames != NULL || said->view.device.device_type != kDLCPU) {
        if (settle(state, said, &asked, &source) < 0) {
            goto fail;
        }
    }
    capsule = dlx_source_export(state, &source, asked.versioned);
fail:
    dlx_source_close(&source);
    Py_DECREF(said);
    return capsule;
}
