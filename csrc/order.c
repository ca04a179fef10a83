/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of order.h.
 */
#include "order.h"

#include <string.h>

#include "alloc.h"
#include "backend.h"
#include "cupy.h"
#include "mutant.h"
#include "raise.h"
#include "stream_type.h"
#include "tensor.h"

DLDevice
dlx_order_device(DLDevice device)
{
    switch (device.device_type) {
        case kDLCUDA:
        case kDLCUDAHost:
        case kDLCUDAManaged:
            return (DLDevice){kDLCUDA, device.device_id};
        case kDLROCM:
        case kDLROCMHost:
            return (DLDevice){kDLROCM, device.device_id};
        default:
            return dlx_backend_drives(dlx_the_state, (int32_t)device.device_type)
                       ? device
                       : (DLDevice){0, 0};
    }
}

/* ---- P and C ---- */

static int
refuse_device(dlx_state *state, DLDevice device)
{
    dlx_raise(
        state->StreamError,
        "no stream backend for memory of device (%d, %d): its work cannot be ordered",
        (int)device.device_type, (int)device.device_id);
    return -1;
}

/* A framework's current stream out of its exchange API: the native handle, where NULL
 * means the default stream. Clauses: X15, X16. */
static int
work_stream(dlx_state *state, const DLPackExchangeAPI *api, DLDevice on,
            dlx_stream_ref *out)
{
    void *handle = NULL;
    if (api->current_work_stream(on.device_type, on.device_id, &handle) != 0) {
        return -1;
    }
    return dlx_stream_of_handle(state, on, (uintptr_t)handle, out);
}

static bool
is_outside(const dlx_order *order)
{
    return dlx_backend_is_installed((int32_t)order->streams_on.device_type);
}

/* jax shows no stream of its own: it gets a Tensor, and orders itself behind that. So
 * is what CuPy does not take, for Python to look at. */
static bool
wants_tensor(const dlx_request *request, DLDevice device)
{
    return request->consumer == DLX_TO_TENSOR || request->consumer == DLX_TO_JAX ||
           (request->consumer == DLX_TO_CUPY && !dlx_cupy_takes(device));
}

/* torch takes pinned and managed memory as host memory only, unless a stream is named;
 * and of a device type from outside it has no streams that we could tell. */
static bool
consumes_on_host(const dlx_request *request, const dlx_order *order, DLDevice device)
{
    bool is_named = request->stream != NULL && !order->vouched;
    return request->consumer == DLX_TO_NUMPY ||
           (request->consumer == DLX_TO_TENSOR && request->copy == 1 &&
            dlx_device_is_host(device.device_type)) ||
           (request->consumer == DLX_TO_TORCH &&
            (is_outside(order) ||
             (dlx_device_is_host(device.device_type) && !is_named)));
}

int
dlx_order_begin(dlx_state *state, DLDevice device, const dlx_request *request,
                dlx_source *source)
{
    dlx_order *order = &source->order;
    *order = (dlx_order){.is_active = true, .streams_on = dlx_order_device(device)};
    if (order->streams_on.device_type == 0) {
        return refuse_device(state, device);
    }
    dlx_stream_ref *named =
        request->consumer == DLX_TO_TENSOR ? &order->producer : &order->consumer;
    if (request->stream != NULL && request->consumer == DLX_TO_JAX) {
        dlx_raise(state->StreamError,
                  "jax chooses its streams itself: leave stream out for device memory");
        return -1;
    }
    if (request->stream != NULL) {
        return dlx_stream_read(state, request->stream, order->streams_on,
                               &order->vouched, named);
    }
    if ((request->consumer == DLX_TO_TORCH &&
         !consumes_on_host(request, order, device)) ||
        request->consumer == DLX_TO_EXCHANGE) {
        const DLPackExchangeAPI *api =
            request->consumer == DLX_TO_TORCH ? state->torch_api : request->api;
        if (work_stream(state, api, order->streams_on, &order->consumer) < 0) {
            return -1;
        }
        order->consumer.is_owned = true; /* the adapter vouches that they live on */
    }
    if (request->consumer == DLX_TO_CUPY && dlx_cupy_takes(device)) {
        return dlx_cupy_stream(state, request->current_stream, order->streams_on,
                               &order->consumer);
    }
    return 0;
}

/* What a callable of an adapter says of x: a stream, or nothing. */
static int
ask_stream(dlx_state *state, PyObject *callable, PyObject *x, DLDevice on,
           dlx_stream_ref *out)
{
    bool vouched;
    int status = 0;
    PyObject *stream = PyObject_CallOneArg(callable, x);
    if (stream == NULL) {
        return -1;
    }
    if (stream != Py_None) {
        status = dlx_stream_read(state, stream, on, &vouched, out);
    }
    Py_DECREF(stream);
    return status;
}

/* An edge orders the release only where P is the very stream the allocator knows. */
static int
find_edge(dlx_state *state, const dlx_entry *entry, PyObject *x, dlx_order *order)
{
    dlx_stream_ref allocation = {.is_owned = false};
    if (entry->allocation_stream == NULL || order->producer.stream.device_type == 0) {
        return 0;
    }
    if (ask_stream(state, entry->allocation_stream, x, order->streams_on, &allocation) <
        0) {
        return -1;
    }
    bool same = dlx_stream_same(allocation.stream, order->producer.stream, true);
    if ((same || DLX_MUTATED(find_edge)) &&
        !dlx_stream_is_per_thread(allocation.stream)) {
        dlx_stream_ref_clear(&order->producer);
        order->producer = allocation; /* the same stream, with its owner */
        order->edge = allocation.is_owned;
    } else {
        dlx_stream_ref_clear(&allocation);
    }
    return 0;
}

static int
find_producer(dlx_state *state, const dlx_entry *entry, PyObject *x, dlx_order *order)
{
    int status = 0;
    if (order->producer.stream.device_type != 0) {
        /* the caller named it */
    } else if (entry->api != NULL) {
        status = work_stream(state, entry->api, order->streams_on, &order->producer);
    } else if (entry->work_stream != NULL) {
        status = ask_stream(state, entry->work_stream, x, order->streams_on,
                            &order->producer);
    }
    return status == 0 ? find_edge(state, entry, x, order) : -1;
}

/* ---- __dlpack__(stream=...) ---- */

int
dlx_refuse_silent_producer(dlx_state *state, const char *framework)
{
    dlx_raise(state->StreamError,
              "%s ignores the stream argument of __dlpack__, so its pending work is "
              "unknown: name the stream that wrote the data with "
              "dx.from_dlpack(x, stream=...), or pass stream=-1 if it is complete",
              framework);
    return -1;
}

int
dlx_order_before_dlpack(dlx_state *state, const dlx_entry *entry, PyObject *x,
                        DLDevice device, const dlx_request *request, dlx_source *source,
                        PyObject **stream)
{
    static const dlx_stream nobody = {0};
    dlx_order *order = &source->order;
    dlx_error error;
    *stream = NULL;
    if (dlx_order_begin(state, device, request, source) < 0) {
        return -1;
    }
    if (entry->ignores_stream || order->vouched) {
        if (!order->vouched && order->producer.stream.device_type == 0) {
            return dlx_refuse_silent_producer(state, entry->framework);
        }
        if (!entry->minus_one_is_handle) {
            return dlx_stream_argument(order->streams_on, nobody, stream);
        }
    }
    if (find_producer(state, entry, x, order) < 0) {
        return -1;
    }
    const dlx_stream_ref *passed = &order->consumer;
    if (order->producer.stream.device_type != 0) {
        if ((entry->api != NULL || entry->work_stream != NULL) &&
            !entry->minus_one_is_handle) {
            return dlx_stream_argument(order->streams_on, nobody,
                                       stream); /* the push is ours */
        }
        passed = &order->producer; /* whatever the producer has pending joins P */
    } else if (order->consumer.stream.device_type == 0) {
        /* Nobody known: a stream of ours, whose event is recorded at once. */
        if (dlx_stream_acquire((int32_t)order->streams_on.device_type,
                               order->streams_on.device_id, &order->producer.stream,
                               &error) != DLX_OK) {
            dlx_raise_driver(state, &error);
            return -1;
        }
        order->producer.is_pooled = true;
        order->producer_is_borrowed = true;
        passed = &order->producer;
    } else {
        order->producer_ordered = true;
    }
    return dlx_stream_argument(order->streams_on, passed->stream, stream);
}

/* ---- the hand-off ---- */

static dlx_status
drive(dlx_order *order, bool to_tensor, bool host, bool named, dlx_event **ready,
      dlx_error *error)
{
    dlx_status status = DLX_OK;
    dlx_stream P = order->producer.stream, C = order->consumer.stream;
    if (to_tensor) { /* of a Tensor, where the caller has named what wrote it since */
        status = order->ready != NULL ? dlx_event_wait(order->ready, P, error) : DLX_OK;
        return status == DLX_OK && !DLX_MUTATED(tensor_event)
                   ? dlx_event_record(P, ready, error)
                   : status;
    }
    if (host) { /* pinned or managed memory: exactly the producer's event, no more */
        dlx_event *event = order->ready != NULL ? dlx_event_keep(order->ready) : NULL;
        if (event == NULL) {
            status = dlx_event_record(P, &event, error);
        }
        if (status == DLX_OK) {
            status = dlx_event_synchronize(event, error);
        }
        dlx_event_release(event);
        return status;
    }
    if (order->ready != NULL) {
        return dlx_event_wait(order->ready, C, error);
    }
    if (DLX_MUTATED(hand_off)) {
        return DLX_OK;
    }
    return dlx_push(P, C, named ? DLX_PUSH_CONSUMER_NAMED : 0, error);
}

static int
refuse_unknown(dlx_state *state, const dlx_source *source)
{
    dlx_raise(
        state->StreamError,
        "nobody knows which stream wrote this %s memory: make a Tensor with "
        "dx.from_dlpack(x, stream=...) first, or pass stream=-1 if it is complete",
        source->framework);
    return -1;
}

/* What the hand-off needs of the driver: nothing, or one release of the GIL. */
static int
synchronise(dlx_state *state, const dlx_request *request, dlx_source *source,
            dlx_event **ready)
{
    dlx_order *order = &source->order;
    bool to_tensor = wants_tensor(request, source->view.device);
    bool host = consumes_on_host(request, order, source->view.device);
    dlx_error error;
    dlx_status status;
    *ready = NULL;
    if (order->vouched || order->producer_ordered || order->nothing_pending) {
        return 0;
    }
    bool named = order->producer.stream.device_type != 0;
    if (to_tensor && order->lease != NULL &&
        !named) { /* a Tensor of a Tensor: the same event */
        *ready = order->ready != NULL ? dlx_event_keep(order->ready) : NULL;
        return 0;
    }
    if (order->ready == NULL && order->lease != NULL && !named) {
        return 0; /* a Tensor whose maker vouched for it */
    }
    if (!named && order->ready == NULL) {
        return refuse_unknown(state, source);
    }
    if (!to_tensor && !host && order->ready == NULL &&
        dlx_stream_same(order->producer.stream, order->consumer.stream, true)) {
        return 0;
    }
    bool is_named = request->stream != NULL && !request->is_current;
    dlx_source_own_dims(source);
    Py_BEGIN_ALLOW_THREADS
    status = drive(order, to_tensor, host, is_named, ready, &error);
    if (status == DLX_OK &&
        !DLX_MUTATED(reap)) { /* memory that is parked comes back while it is wanted */
        (void)dlx_reap(DLX_REAP_A_FEW);
    }
    Py_END_ALLOW_THREADS
    if (status != DLX_OK) {
        dlx_raise_driver(state, &error);
        return -1;
    }
    return 0;
}

/* Nothing is pending, or we know behind what. */
static bool
is_ordered(const dlx_order *order)
{
    return order->vouched || order->nothing_pending || order->lease != NULL ||
           order->producer.stream.device_type != 0;
}

/* Note C in the Tensor's lease, or make a lease for the way back. */
static int
arrange_release(dlx_state *state, const dlx_request *request, dlx_source *source,
                dlx_event *ready)
{
    dlx_order *order = &source->order;
    dlx_lease *lease = NULL;
    bool to_tensor = wants_tensor(request, source->view.device);
    bool has_consumer = order->consumer.stream.device_type != 0;
    if (order->lease != NULL && !to_tensor) {
        const dlx_stream_ref *producer = &order->lease->producer;
        bool same = producer->stream.device_type != 0 &&
                    dlx_stream_same(producer->stream, order->consumer.stream, false);
        return has_consumer && !same && !order->vouched
                   ? dlx_lease_add_consumer(state, order->lease, &order->consumer)
                   : 0;
    }
    if (!to_tensor &&
        (!has_consumer || order->vouched ||
         dlx_stream_same(order->producer.stream, order->consumer.stream, true))) {
        return 0; /* used on the producer's own stream: its order is the release's */
    }
    lease = dlx_lease_new();
    if (lease == NULL) {
        return -1;
    }
    if (has_consumer && dlx_lease_add_consumer(state, lease, &order->consumer) < 0) {
        dlx_lease_free(lease);
        return -1;
    }
    lease->ready = ready;
    lease->edge = order->edge;
    if (!order->producer_is_borrowed) {
        lease->producer = order->producer;
        order->producer = (dlx_stream_ref){.is_owned = false};
    }
    source->hold.lease = lease;
    if (source->view.data != NULL) {
        dlx_lease_register(lease, (uintptr_t)dlx_layout_first(&source->view));
    }
    return 0;
}

int
dlx_order_source(dlx_state *state, const dlx_entry *entry, PyObject *x,
                 const dlx_request *request, dlx_source *source)
{
    dlx_order *order = &source->order;
    DLDevice device = source->view.device;
    dlx_event *ready = NULL;
    if (device.device_type == kDLCPU) {
        if (PyLong_Check(request->stream) && PyLong_AsLong(request->stream) == -1) {
            return 0;
        }
        PyErr_Clear();
        dlx_raise(state->StreamError,
                  "host memory has no stream: leave stream out (got %R)",
                  request->stream);
        return -1;
    }
    if (!order->is_active) {
        if (dlx_order_begin(state, device, request, source) < 0) {
            goto fail;
        }
        if (source->route == DLX_ROUTE_TENSOR) {
            order->lease = ((dlx_tensor *)x)->hold.lease;
            order->ready = order->lease != NULL ? order->lease->ready : NULL;
        } else if (!order->vouched && find_producer(state, entry, x, order) < 0) {
            goto fail;
        }
    }
    bool host = consumes_on_host(request, order, device);
    if (host && request->copy != 1 && dlx_order_require_readable(state, source) < 0) {
        goto fail;
    }
    if (host && request->copy == 1) {
        if (!is_ordered(order)) {
            refuse_unknown(state, source);
            goto fail;
        }
        return dlx_order_copy_to_host(state, source);
    }
    if (synchronise(state, request, source, &ready) < 0 ||
        arrange_release(state, request, source, ready) < 0) {
        dlx_event_release(ready);
        goto fail;
    }
    if (host) { /* complete, so it is host memory like any other */
        source->view.device = (DLDevice){kDLCPU, 0};
    }
    dlx_order_clear(order);
    return 0;

fail:
    dlx_order_clear(order);
    return -1;
}

void
dlx_order_clear(dlx_order *order)
{
    if (order->is_active) {
        dlx_stream_ref_clear(&order->producer);
        dlx_stream_ref_clear(&order->consumer);
        order->is_active = false;
    }
}
