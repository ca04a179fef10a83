/* SPDX-License-Identifier: Apache-2.0
 *
 * The body that CUDA and HIP share: what a driver status means, calls on one stream,
 * and the push. A context is entered only where a call's meaning depends on it. No GIL.
 * Threads: any. Locks: none on the way of a push.
 */
#include <stdio.h>

#include "gpu.h"

/* ---- What a driver says ---- */

/* The ones after which a context answers nothing else any more. */
static bool
is_sticky(int code)
{
    switch (code) {
        case 214: /* uncorrectable ECC error */
        case 220: /* uncorrectable NVLink error */
        case 700: /* illegal address */
        case 702: /* launch timeout */
        case DLX_GPU_CONTEXT_DESTROYED:
        case 710: /* assert */
        case 714: /* hardware stack error */
        case 715: /* illegal instruction */
        case 716: /* misaligned address */
        case 717: /* invalid address space */
        case 718: /* invalid program counter */
        case 719: /* launch failure */
        case 721: /* tensor memory leak */
            return true;
        default:
            return false;
    }
}

dlx_status
dlx_gpu_status(int code)
{
    code &= (1 << DLX_BLAME_SHIFT) - 1;
    if (is_sticky(code)) {
        return DLX_DEVICE_LOST;
    }
    if (code >= DLX_GPU_CAPTURE_UNSUPPORTED && code <= DLX_GPU_CAPTURE_WRONG_THREAD) {
        return DLX_CAPTURE_REFUSED;
    }
    switch (code) {
        case DLX_GPU_SUCCESS:
            return DLX_OK;
        case DLX_GPU_OUT_OF_MEMORY:
            return DLX_NO_MEMORY;
        case DLX_GPU_DEINITIALIZED:
            return DLX_STOPPED;
        case DLX_GPU_NO_DEVICE:
        case DLX_GPU_INVALID_DEVICE:
            return DLX_NO_DRIVER;
        case DLX_GPU_INVALID_HANDLE:
            return DLX_BAD_STREAM;
        case DLX_GPU_NOT_READY:
            return DLX_NOT_READY;
        case DLX_GPU_NOT_PERMITTED:
            return DLX_NOT_PERMITTED;
        case DLX_GPU_NOT_SUPPORTED:
            return DLX_UNSUPPORTED;
        default:
            return DLX_DRIVER_ERROR;
    }
}

static const char *
advise(dlx_status status)
{
    switch (status) {
        case DLX_DEVICE_LOST:
            return "; the device's context is lost, and this process cannot use it "
                   "again";
        case DLX_BAD_STREAM:
            return "; the stream or event is not, or no longer, one of this device";
        case DLX_NOT_PERMITTED:
            return "; no driver call may be made inside a driver's callback";
        default:
            return "";
    }
}

dlx_status
dlx_gpu_fail(const dlx_gpu *gpu, dlx_gpu_call call, int code, dlx_error *err)
{
    dlx_status status = dlx_gpu_status(code);
    const char *name = NULL, *text = NULL;
    if (err == NULL) {
        return status;
    }
    if (code >> DLX_BLAME_SHIFT != 0) {
        call = (dlx_gpu_call)((code >> DLX_BLAME_SHIFT) - 1);
        code &= (1 << DLX_BLAME_SHIFT) - 1;
    }
    if (gpu->missing >> call & 1) {
        dlx_fail(err, status, gpu->names[call],
                 "%s (version %d) has no %s: a newer driver is needed", gpu->library,
                 gpu->version, gpu->names[call]);
    } else if (gpu->contexts == &dlx_backend_contexts) {
        gpu->call.get_error_string(code, &text); /* an exception's */
        dlx_fail(err, status, gpu->names[call], "%s: %s", gpu->names[call], text);
    } else {
        gpu->call.get_error_name(code, &name);
        gpu->call.get_error_string(code, &text);
        dlx_fail(err, status, gpu->names[call], "%s failed with %s (%d): %s%s",
                 gpu->names[call], name != NULL ? name : "status", code,
                 text != NULL ? text : "no description", advise(status));
    }
    err->driver_status = code;
    return status;
}

/* ---- Capture mode of the calling thread ---- */

/* Our own calls must not break the capture of a thread that knows nothing of them. */
void
dlx_relaxed_enter(dlx_gpu *gpu, int *saved)
{
    *saved = DLX_CAPTURE_MODE_RELAXED;
    if (!DLX_MUTATED(capture_mode) &&
        gpu->call.exchange_capture_mode(saved) != DLX_GPU_SUCCESS) {
        *saved = -1;
    }
}

void
dlx_relaxed_leave(dlx_gpu *gpu, int saved)
{
    if (saved >= 0 && !DLX_MUTATED(capture_mode)) {
        gpu->call.exchange_capture_mode(&saved);
    }
}

/* ---- Calls on one stream ---- */

/* Set once a call in this thread has missed a context; asked again while it is set. */
static _Thread_local bool lacks_context;

static bool
misses_context(dlx_gpu *gpu)
{
    if (lacks_context) {
        lacks_context = !gpu->contexts->has_current(gpu);
    }
    return lacks_context;
}

void
dlx_side_of_context(dlx_side *side, dlx_context *context)
{
    side->stream = (dlx_stream){0};
    side->context = context;
    side->enters = misses_context(context->gpu);
}

dlx_status
dlx_side_init(dlx_side *side, dlx_gpu *gpu, dlx_stream stream, dlx_context *fallback,
              dlx_error *err)
{
    side->stream = stream;
    side->enters = dlx_stream_is_default(stream) || misses_context(gpu);
    if (fallback != NULL && !dlx_stream_is_default(stream)) {
        side->context = fallback;
        return DLX_OK;
    }
    return dlx_context_of(gpu, stream, &side->context, err);
}

/* Some calls want a current context although their handles have one; and a lost context
 * that happens to be current fails the calls of others. */
bool
dlx_side_must_enter(dlx_side *side, int code)
{
    lacks_context |= code == DLX_GPU_INVALID_CONTEXT;
    side->enters = code == DLX_GPU_INVALID_CONTEXT || is_sticky(code);
    return side->enters;
}

dlx_status
dlx_side_capture(dlx_side *side, dlx_capture *out, dlx_error *err)
{
    dlx_gpu *gpu = side->context->gpu;
    void *stream = (void *)side->stream.handle;
    int code = DLX_GPU_SUCCESS;
    *out = (dlx_capture){false, DLX_CAPTURE_STATUS_NONE, 0};
    DLX_COUNT(capture_queries);
    DLX_CALL_ON_SIDE(side, code,
                     gpu->call.stream_get_capture_info(stream, &out->status, &out->id,
                                                       NULL, NULL, NULL));
    if (code == DLX_GPU_CAPTURE_IMPLICIT) {
        out->is_implicit = true;
        code = DLX_GPU_SUCCESS;
    }
    if (out->status == DLX_CAPTURE_STATUS_NONE) {
        out->id = 0;
    }
    return code == DLX_GPU_SUCCESS
               ? DLX_OK
               : dlx_gpu_fail(gpu, DLX_CALL_stream_get_capture_info, code, err);
}

dlx_status
dlx_side_record(dlx_side *side, dlx_event **out, dlx_error *err)
{
    void *stream = (void *)side->stream.handle;
    dlx_event *event = NULL;
    int code = DLX_GPU_SUCCESS;
    for (bool again = true;; again = false) {
        dlx_gpu *gpu = side->context->gpu;
        dlx_status status = dlx_pool_pop(side->context, &event, err);
        if (status != DLX_OK) {
            return status;
        }
        DLX_CALL_ON_SIDE(side, code, gpu->call.event_record(event->native, stream));
        if (code == DLX_GPU_SUCCESS) {
            *out = event;
            return DLX_OK;
        }
        bool is_elsewhere =
            again &&
            (code == DLX_GPU_INVALID_HANDLE || code == DLX_GPU_INVALID_CONTEXT) &&
            dlx_context_relocate(gpu, side->stream, &side->context);
        if (!is_elsewhere) {
            dlx_pool_quarantine(event);
            return dlx_gpu_fail(gpu, DLX_CALL_event_record, code, err);
        }
        dlx_pool_push(event); /* refused as a stranger: nothing has happened to it */
    }
}

dlx_status
dlx_side_wait(dlx_side *side, const dlx_event *event, dlx_error *err)
{
    dlx_gpu *gpu = side->context->gpu;
    void *stream = (void *)side->stream.handle;
    int code = DLX_GPU_SUCCESS;
    DLX_CALL_ON_SIDE(side, code, gpu->call.stream_wait_event(stream, event->native, 0));
    return code == DLX_GPU_SUCCESS
               ? DLX_OK
               : dlx_gpu_fail(gpu, DLX_CALL_stream_wait_event, code, err);
}

dlx_status
dlx_side_query(dlx_side *side, dlx_error *err)
{
    dlx_gpu *gpu = side->context->gpu;
    void *stream = (void *)side->stream.handle;
    int code = DLX_GPU_SUCCESS, mode;
    dlx_relaxed_enter(gpu, &mode);
    DLX_CALL_ON_SIDE(side, code, gpu->call.stream_query(stream));
    dlx_relaxed_leave(gpu, mode);
    return code == DLX_GPU_SUCCESS || code == DLX_GPU_NOT_READY
               ? dlx_gpu_status(code)
               : dlx_gpu_fail(gpu, DLX_CALL_stream_query, code, err);
}

static _Thread_local uint64_t waits_here;

void
dlx_host_wait_count(void)
{
    DLX_COUNT(host_waits);
    waits_here++;
}

uint64_t
dlx_host_waits_here(void)
{
    return waits_here;
}

dlx_status
dlx_side_synchronize(dlx_side *side, dlx_error *err)
{
    dlx_gpu *gpu = side->context->gpu;
    void *stream = (void *)side->stream.handle;
    int code = DLX_GPU_SUCCESS, mode;
    dlx_host_wait_count();
    dlx_relaxed_enter(gpu, &mode);
    DLX_CALL_ON_SIDE(side, code, gpu->call.stream_synchronize(stream));
    dlx_relaxed_leave(gpu, mode);
    return code == DLX_GPU_SUCCESS
               ? DLX_OK
               : dlx_gpu_fail(gpu, DLX_CALL_stream_synchronize, code, err);
}

/* ---- From one stream to another ---- */

dlx_status
dlx_side_order(dlx_side *from, dlx_side *to, bool is_waited, dlx_error *err)
{
    dlx_event *event = NULL;
    dlx_status status = dlx_side_record(from, &event, err);
    if (status != DLX_OK) {
        return status;
    }
    if (is_waited) {
        status = dlx_side_wait(to, event, err);
    }
    if (status == DLX_OK) {
        dlx_pool_push(event);
    } else {
        dlx_pool_quarantine(event);
    }
    return status;
}

/* Both sides' contexts are entered once, not for each call, where they are one. */
static dlx_status
push_inside(dlx_side *from, dlx_side *to, unsigned options, dlx_error *err)
{
    dlx_capture producer, consumer;
    bool may_fork =
        (options & DLX_PUSH_CONSUMER_NAMED) != 0 && !dlx_stream_is_legacy(to->stream);
    if (!DLX_MUTATED(check_push)) {
        dlx_status status = dlx_side_capture(from, &producer, err);
        if (status == DLX_OK) {
            status = dlx_side_capture(to, &consumer, err);
        }
        if (status != DLX_OK) {
            return status;
        }
        dlx_capture_cause cause = dlx_capture_judge_push(producer, consumer, may_fork);
        if (cause != DLX_CAPTURE_NONE) {
            return dlx_capture_refuse(cause, "dlx_push", from->stream, to->stream, err);
        }
    }
    if (DLX_MUTATED(push)) {
        return DLX_OK;
    }
    return dlx_side_order(from, to, !DLX_MUTATED(push_wait), err);
}

dlx_status
dlx_push(dlx_stream producer, dlx_stream consumer, unsigned options, dlx_error *err)
{
    dlx_side from, to;
    int saved;
    if (dlx_stream_same(producer, consumer, true)) {
        DLX_COUNT(elided);
        return DLX_OK;
    }
    if (producer.device_type != consumer.device_type) {
        return dlx_fail(
            err, DLX_UNSUPPORTED, "dlx_push",
            "a stream of device type %d cannot wait for one of %d: bring the "
            "data to the host first",
            consumer.device_type, producer.device_type);
    }
    dlx_gpu *gpu;
    dlx_status status = dlx_gpu_get(producer.device_type, &gpu, err);
    if (status == DLX_OK) {
        status = dlx_side_init(&from, gpu, producer, NULL, err);
    }
    if (status == DLX_OK) {
        status = dlx_side_init(&to, gpu, consumer, from.context, err);
    }
    if (status != DLX_OK) {
        return status;
    }
    bool is_outer = from.enters || (to.enters && to.context == from.context);
    if (is_outer) {
        int code = gpu->contexts->enter(from.context, &saved);
        if (code != DLX_GPU_SUCCESS) {
            return dlx_gpu_fail(gpu, DLX_CALL_context_push, code, err);
        }
        from.enters = false;
        to.enters = to.enters && to.context != from.context;
    }
    const dlx_context *entered = from.context;
    status = push_inside(&from, &to, options, err);
    if (is_outer) {
        gpu->contexts->leave(entered, saved);
    }
    if (status == DLX_OK) {
        DLX_COUNT(pushes);
    }
    return status;
}
