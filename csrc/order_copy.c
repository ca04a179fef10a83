/* SPDX-License-Identifier: Apache-2.0
 *
 * Device memory to the host, waited for (order.h). GIL: held; released for the wait.
 */
#include "backend.h"
#include "order.h"
#include "raise.h"

typedef struct pinned_copy {
    void *pinned;
    dlx_event *after, *done;
} pinned_copy;

/* What the copy waits for: the producer's work and, where the caller named a stream,
 * that stream's, which waits for the producer's. NULL: nothing. */
static dlx_status
pending(const dlx_order *order, DLX_GIVE dlx_event **after, dlx_error *error)
{
    dlx_stream producer = order->producer.stream, consumer = order->consumer.stream;
    dlx_status status = DLX_OK;
    if (consumer.device_type != 0) {
        if (order->ready != NULL) {
            status = dlx_event_wait(order->ready, consumer, error);
        } else if (producer.device_type != 0) {
            status = dlx_push(producer, consumer, 0, error);
        }
        if (status == DLX_OK) {
            status = dlx_event_record(consumer, after, error);
        }
    } else if (order->ready != NULL) {
        *after = dlx_event_keep(order->ready);
    } else if (producer.device_type != 0) {
        status = dlx_event_record(producer, after, error);
    }
    return status;
}

static dlx_status
copy_span(const dlx_order *order, uintptr_t from, size_t nbytes, pinned_copy *copy,
          dlx_error *error)
{
    int32_t type = (int32_t)order->streams_on.device_type,
            id = order->streams_on.device_id;
    dlx_status status = pending(order, &copy->after, error);
    if (status == DLX_OK) {
        status = dlx_pinned_alloc(type, id, nbytes, &copy->pinned, error);
    }
    if (status == DLX_OK) {
        status = dlx_copy_to_host(copy->pinned, type, id, from, nbytes, copy->after,
                                  &copy->done, error);
    }
    if (status == DLX_OK) {
        status = dlx_event_synchronize(copy->done, error);
    }
    return status;
}

int
dlx_order_copy_to_host(dlx_state *state, dlx_source *source)
{
    dlx_order *order = &source->order;
    size_t first = 0, span;
    pinned_copy copy = {NULL, NULL, NULL};
    dlx_status status = DLX_OK;
    dlx_error error;
    int result = -1;
    bool padded = dlx_source_is_padded(source);
    dlx_source_own_dims(source);
    span = dlx_layout_span(&source->view, padded, &first);
    if (span > 0) {
        uintptr_t from = (uintptr_t)dlx_layout_first(&source->view) - first;
        Py_BEGIN_ALLOW_THREADS
        status = copy_span(order, from, span, &copy, &error);
        Py_END_ALLOW_THREADS
    }
    if (status != DLX_OK) {
        dlx_raise_driver(state, &error);
        goto fail;
    }
    /* Read the pinned span as if it were the source's own memory. */
    source->view.data = (char *)copy.pinned + first;
    source->view.byte_offset = 0;
    source->view.device = (DLDevice){kDLCPU, 0};
    result = dlx_source_copy(state, source);
fail:
    dlx_pinned_free(copy.pinned);
    dlx_event_release(copy.after);
    dlx_event_release(copy.done);
    dlx_order_clear(order);
    return result;
}

int
dlx_order_require_readable(dlx_state *state, const dlx_source *source)
{
    DLDevice device = source->view.device;
    int readable = dlx_device_is_host(device.device_type);
    if (!readable && dlx_backend_is_installed((int32_t)device.device_type)) {
        readable =
            dlx_backend_is_host(device, (uintptr_t)dlx_layout_first(&source->view));
    }
    if (readable == 0) {
        dlx_raise(
            state->CopyError,
            "this memory is on a device: pass copy=True to copy it to the host (and "
            "wait for it), or await dx.host(x)");
    }
    return readable == 1 ? 0 : -1;
}
