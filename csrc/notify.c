/* SPDX-License-Identifier: Apache-2.0
 *
 * Completion without a waiting thread: a stream of ours waits for the event, and the
 * driver calls back behind it. The watch, at most once a second and only while
 * something is pending, notices a context that has died and whose callbacks may never
 * come. No GIL, and no Python in any callback: it would wait for a thread that holds
 * the GIL and waits for the driver.
 */
#include "alloc.h"
#include "reaper.h"

/* Held by the driver's callback and by the reaper: whoever lets go last frees it. The
 * reaper alone gives back stream and event. */
typedef struct notification {
    dlx_task task;
    dlx_notify_fn fn;
    dlx_event *event;
    dlx_stream side;
    _Atomic int references;
    _Atomic bool is_claimed; /* fn has been, or is being, called */
    _Atomic bool is_called;  /* the driver's callback has come */
} notification;

static void
let_go(notification *self)
{
    if (atomic_fetch_sub(&self->references, 1) == 1) {
        free(self);
    }
}

/* False where someone else has been quicker. */
static bool
tell(notification *self, dlx_status status)
{
    if (atomic_exchange(&self->is_claimed, true)) {
        return false;
    }
    self->fn(self->task.arg, status);
    return true;
}

/* In the driver's thread. */
static void
on_callback(void *stream, int code, void *arg)
{
    notification *self = arg;
    dlx_status status = dlx_gpu_status(code);
    (void)stream;
    if (status != DLX_OK && status != DLX_DEVICE_LOST) {
        status = DLX_DRIVER_ERROR;
    }
    tell(self, status);
    atomic_store(&self->is_called, true);
    let_go(self);
    dlx_reaper_kick(true);
}

static void
on_host_function(void *arg)
{
    on_callback(NULL, DLX_GPU_SUCCESS, arg);
}

/* In the reaper's thread, in place of a callback that will not come. True: told. */
static bool
watch(notification *self)
{
    dlx_side side;
    if (self->side.device_type == 0) {
        return false; /* the backend calls, or says that it never will */
    }
    dlx_side_of_context(&side, self->event->context);
    side.stream = self->side;
    dlx_status status = dlx_side_query(&side, NULL);
    if (status == DLX_OK || status == DLX_NOT_READY || DLX_MUTATED(notify_watch)) {
        return false;
    }
    return tell(self, status == DLX_DEVICE_LOST ? status : DLX_DRIVER_ERROR);
}

static dlx_task_verdict
examine_notification(dlx_task *task, dlx_sweep *sweep, bool is_orphan)
{
    notification *self = (notification *)task;
    if (is_orphan) {
        tell(self, DLX_STOPPED);
        return DLX_TASK_FREE;
    }
    if (atomic_load(&self->is_called) || (sweep->is_watch_due && watch(self))) {
        return DLX_TASK_FREE;
    }
    return DLX_TASK_KEEP;
}

/* A stream behind which a callback is still due is not given out again. */
static void
destroy_notification(dlx_task *task)
{
    notification *self = (notification *)task;
    if (atomic_load(&self->is_called) && self->side.device_type != 0) {
        dlx_stream_release(self->side);
    }
    dlx_event_release(self->event);
    let_go(self);
}

/* The backend of a device type from outside calls back for an event. */
static dlx_status
ask_backend(notification *self, dlx_error *err)
{
    dlx_gpu *gpu = self->event->context->gpu;
    int code = gpu->call.event_add_callback(self->event->native, on_callback, self);
    return code == DLX_GPU_SUCCESS
               ? DLX_OK
               : dlx_gpu_fail(gpu, DLX_CALL_event_add_callback, code, err);
}

/* Queue wait and callback on the stream of ours. */
static dlx_status
queue(notification *self, dlx_error *err)
{
    dlx_gpu *gpu = self->event->context->gpu;
    void *stream = (void *)self->side.handle;
    dlx_side side;
    int mode;
    dlx_status status = DLX_OK;
    dlx_side_of_context(&side, self->event->context);
    side.stream = self->side;
    dlx_relaxed_enter(gpu, &mode);
    if (!DLX_MUTATED(notify_wait)) {
        status = dlx_side_wait(&side, self->event, err);
    }
    if (status == DLX_OK) {
        dlx_gpu_call call = DLX_CALL_stream_add_callback;
        int code;
        DLX_CALL_ON_SIDE(&side, code,
                         gpu->call.stream_add_callback(stream, on_callback, self, 0));
        if (code == DLX_GPU_NOT_SUPPORTED) {
            /* Not called once the context has died: the watch sees to that. */
            call = DLX_CALL_launch_host_func;
            DLX_CALL_ON_SIDE(
                &side, code,
                gpu->call.launch_host_func(stream, on_host_function, self));
        }
        status = code == DLX_GPU_SUCCESS ? DLX_OK : dlx_gpu_fail(gpu, call, code, err);
    }
    dlx_relaxed_leave(gpu, mode);
    return status;
}

dlx_status
dlx_event_notify(dlx_event *event, dlx_notify_fn fn, void *arg, dlx_error *err)
{
    notification *self = NULL;
    dlx_status status = dlx_event_check(event, err);
    if (status == DLX_OK) {
        status = dlx_event_check_fires(event, "dlx_event_notify", err);
    }
    if (status != DLX_OK) {
        return status;
    }
    if (dlx_event_is_done(event)) {
        fn(arg, DLX_OK);
        return DLX_OK;
    }
    self = dlx_alloc_zeroed(sizeof(*self));
    if (self == NULL) {
        return dlx_fail(err, DLX_NO_MEMORY, "dlx_event_notify", "out of memory");
    }
    self->task.examine = examine_notification;
    self->task.destroy = destroy_notification;
    self->task.arg = arg;
    self->fn = fn;
    self->event = dlx_event_keep(event);
    atomic_init(&self->references, 2);
    if (dlx_backend_is_installed(event->stream.device_type)) {
        status = ask_backend(self, err);
    } else {
        status = dlx_stream_acquire(event->stream.device_type, event->stream.device_id,
                                    &self->side, err);
        if (status == DLX_OK) {
            status = queue(self, err);
        }
    }
    if (status != DLX_OK) {
        goto fail;
    }
    dlx_task_push(&self->task, DLX_GAUGE(notifications), false);
    return DLX_OK;
fail:
    if (self->side.device_type != 0) {
        dlx_stream_release(self->side);
    }
    dlx_event_release(self->event);
    free(self);
    return status;
}

dlx_status
dlx_stream_notify(dlx_stream stream, dlx_notify_fn fn, void *arg, dlx_error *err)
{
    dlx_event *event;
    dlx_status status = dlx_event_record(stream, &event, err);
    if (status == DLX_OK) {
        status = dlx_event_notify(event, fn, arg, err);
        dlx_event_release(event);
    }
    return status;
}
