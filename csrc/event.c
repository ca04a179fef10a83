/* SPDX-License-Identifier: Apache-2.0
 *
 * Ready events: marks in a stream that outlive the call, shared by reference count.
 * No GIL. Threads: any. Locks: none.
 */
#include "gpu.h"

dlx_status
dlx_event_mark(dlx_side *side, uint64_t capture_id, dlx_event **out, dlx_error *err)
{
    dlx_event *event;
    dlx_status status = DLX_MUTATED(ready_record)
                            ? dlx_pool_pop(side->context, &event, err)
                            : dlx_side_record(side, &event, err);
    if (status != DLX_OK) {
        return status;
    }
    event->stream = side->stream;
    event->side = (dlx_stream){0};
    event->thread = dlx_thread_id();
    event->capture_id = capture_id;
    atomic_store_explicit(&event->is_done, false, memory_order_relaxed);
    atomic_store_explicit(&event->references, 1, memory_order_relaxed);
    DLX_COUNT(events_in_use);
    *out = event;
    return DLX_OK;
}

/* What a stream's capture means for an event recorded on it. */
static dlx_status
check_record(dlx_side *side, uint64_t *capture_id, dlx_error *err)
{
    dlx_capture capture;
    dlx_status status = dlx_side_capture(side, &capture, err);
    if (status != DLX_OK) {
        return status;
    }
    dlx_capture_cause cause = dlx_capture_judge_push(capture, capture, false);
    *capture_id = capture.id;
    return cause == DLX_CAPTURE_NONE
               ? DLX_OK
               : dlx_capture_refuse(cause, "dlx_event_record", side->stream,
                                    (dlx_stream){0}, err);
}

dlx_status
dlx_event_record(dlx_stream stream, dlx_event **out, dlx_error *err)
{
    dlx_side side;
    dlx_gpu *gpu;
    uint64_t capture_id = 0;
    dlx_status status = dlx_gpu_get(stream.device_type, &gpu, err);
    if (status == DLX_OK) {
        status = dlx_side_init(&side, gpu, stream, NULL, err);
    }
    if (status == DLX_OK && !DLX_MUTATED(check_record)) {
        status = check_record(&side, &capture_id, err);
    }
    return status == DLX_OK ? dlx_event_mark(&side, capture_id, out, err) : status;
}

dlx_event *
dlx_event_keep(dlx_event *event)
{
    atomic_fetch_add_explicit(&event->references, 1, memory_order_relaxed);
    return event;
}

void
dlx_event_release(dlx_event *event)
{
    if (event == NULL ||
        atomic_fetch_sub_explicit(&event->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    dlx_stream side = event->side;
    bool is_retired = atomic_load(&event->context->gpu->is_retired);
    DLX_UNCOUNT(events_in_use);
    dlx_pool_push(event);
    if (side.device_type != 0 && !is_retired) {
        dlx_stream_release(side);
    }
}

bool
dlx_event_is_done(const dlx_event *event)
{
    return atomic_load_explicit(&event->is_done, memory_order_acquire);
}

dlx_stream
dlx_event_stream(const dlx_event *event)
{
    return event->stream;
}

uintptr_t
dlx_event_handle(const dlx_event *event)
{
    return (uintptr_t)event->native;
}

dlx_status
dlx_event_check(const dlx_event *event, dlx_error *err)
{
    if (!dlx_is_stopped() && !atomic_load(&event->context->gpu->is_retired)) {
        return DLX_OK;
    }
    return dlx_fail(err, DLX_STOPPED, "dlx_event_wait",
                    "the driver of this event is gone (fork, exit or reset)");
}

dlx_status
dlx_event_check_fires(const dlx_event *event, const char *call, dlx_error *err)
{
    return event->capture_id == 0 || DLX_MUTATED(check_fires)
               ? DLX_OK
               : dlx_capture_refuse(DLX_CAPTURE_PRODUCER, call, event->stream,
                                    (dlx_stream){0}, err);
}

dlx_status
dlx_event_query(dlx_event *event, dlx_error *err)
{
    dlx_gpu *gpu = event->context->gpu;
    dlx_side side;
    int code, mode;
    dlx_status status = dlx_event_check(event, err);
    if (status != DLX_OK || dlx_event_is_done(event)) {
        return status;
    }
    status = dlx_event_check_fires(event, "dlx_event_query", err);
    if (status != DLX_OK) {
        return status;
    }
    dlx_side_of_context(&side, event->context);
    dlx_relaxed_enter(gpu, &mode);
    DLX_CALL_ON_SIDE(&side, code, gpu->call.event_query(event->native));
    dlx_relaxed_leave(gpu, mode);
    if (code == DLX_GPU_SUCCESS) {
        atomic_store_explicit(&event->is_done, true, memory_order_release);
        return DLX_OK;
    }
    return code == DLX_GPU_NOT_READY
               ? DLX_NOT_READY
               : dlx_gpu_fail(gpu, DLX_CALL_event_query, code, err);
}

dlx_status
dlx_event_synchronize(dlx_event *event, dlx_error *err)
{
    dlx_gpu *gpu = event->context->gpu;
    dlx_side side;
    int code, mode;
    dlx_status status = dlx_event_check(event, err);
    if (status != DLX_OK || dlx_event_is_done(event)) {
        return status;
    }
    status = dlx_event_check_fires(event, "dlx_event_synchronize", err);
    if (status != DLX_OK) {
        return status;
    }
    dlx_host_wait_count();
    dlx_side_of_context(&side, event->context);
    dlx_relaxed_enter(gpu, &mode);
    DLX_CALL_ON_SIDE(&side, code, gpu->call.event_synchronize(event->native));
    dlx_relaxed_leave(gpu, mode);
    if (code != DLX_GPU_SUCCESS) {
        return dlx_gpu_fail(gpu, DLX_CALL_event_synchronize, code, err);
    }
    atomic_store_explicit(&event->is_done, true, memory_order_release);
    return DLX_OK;
}

/* Work that is done needs no wait: so static inputs enter a capture. */
static bool
is_harmless(dlx_capture_cause cause, dlx_event *event)
{
    return cause == DLX_CAPTURE_CONSUMER && dlx_event_query(event, NULL) == DLX_OK;
}

static dlx_status
wait_on(dlx_side *side, dlx_event *event, dlx_error *err)
{
    dlx_capture capture;
    if (!DLX_MUTATED(check_wait)) {
        dlx_status status = dlx_side_capture(side, &capture, err);
        if (status != DLX_OK) {
            return status;
        }
        dlx_capture_cause cause = dlx_capture_judge_wait(event->capture_id, capture);
        if (is_harmless(cause, event)) {
            DLX_COUNT(elided);
            return DLX_OK;
        }
        if (cause != DLX_CAPTURE_NONE) {
            return dlx_capture_refuse(cause, "dlx_event_wait", event->stream,
                                      side->stream, err);
        }
    }
    if (DLX_MUTATED(ready_wait)) {
        return DLX_OK;
    }
    dlx_status status = dlx_side_wait(side, event, err);
    if (status == DLX_OK) {
        DLX_COUNT(waits);
    }
    return status;
}

dlx_status
dlx_event_wait(dlx_event *event, dlx_stream stream, dlx_error *err)
{
    dlx_side side;
    bool is_own_thread =
        event->thread == dlx_thread_id() || DLX_MUTATED(per_thread_same);
    dlx_status status = dlx_event_check(event, err);
    if (status != DLX_OK) {
        return status;
    }
    if (dlx_stream_same(event->stream, stream, is_own_thread) ||
        dlx_event_is_done(event)) {
        DLX_COUNT(elided);
        return DLX_OK;
    }
    if (event->stream.device_type != stream.device_type) {
        return dlx_fail(
            err, DLX_UNSUPPORTED, "dlx_event_wait",
            "a stream of device type %d cannot wait for one of %d: bring the "
            "data to the host first",
            stream.device_type, event->stream.device_type);
    }
    status = dlx_side_init(&side, event->context->gpu, stream, event->context, err);
    return status == DLX_OK ? wait_on(&side, event, err) : status;
}
