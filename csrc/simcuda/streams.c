/* Streams: created ones, and the legacy and per-thread default streams of each context.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "capture.h"
#include "entry.h"

struct sim_stream *
sim_stream_new(struct sim_context *context, unsigned flags)
{
    struct sim_stream *stream = sim_alloc(sizeof(*stream));
    stream->refs = 1;
    stream->id = ++sim.next_stream;
    stream->context = context;
    stream->flags = flags;
    stream->name = (struct sim_stream_name){SIM_CREATED, context->device, stream->id};
    stream->node = sim_node_take();
    stream->next = context->streams;
    if (stream->next != NULL) {
        stream->next->previous = stream;
    }
    context->streams = stream;
    return stream;
}

void
sim_stream_release(struct sim_stream *stream)
{
    if (--stream->refs > 0) {
        return;
    }
    *(stream->previous == NULL ? &stream->context->streams : &stream->previous->next) =
        stream->next;
    if (stream->next != NULL) {
        stream->next->previous = stream->previous;
    }
    sim_node_give(stream->node, sim_clock_at(&stream->tail.clock, stream->node));
    sim_clock_clear(&stream->tail.clock);
    free(stream);
}

/* The handle dies now. What the stream holds still runs, and its context still waits
 * for it. */
void
sim_stream_kill(struct sim_stream *stream)
{
    sim_capture_abandon(stream);
    if (stream->handle != 0) {
        sim_handle_drop(SIM_KIND_STREAM, stream->handle);
        stream->handle = 0;
    }
    sim_stream_release(stream);
}

bool
sim_stream_is_blocking(const struct sim_stream *stream)
{
    return (stream->flags & CU_STREAM_NON_BLOCKING) == 0;
}

static struct sim_stream *
per_thread_stream(struct sim_context *context, uint64_t thread)
{
    for (struct sim_stream *s = context->streams; s != NULL; s = s->next) {
        if (s->thread == thread) {
            return s;
        }
    }
    struct sim_stream *stream = sim_stream_new(context, CU_STREAM_DEFAULT);
    stream->thread = thread;
    stream->name = (struct sim_stream_name){SIM_PER_THREAD, context->device, thread};
    return stream;
}

void
sim_streams_of_thread_kill(uint64_t thread)
{
    for (struct sim_context *context = sim.contexts; context != NULL;
         context = context->next) {
        for (struct sim_stream *s = context->streams, *next; s != NULL; s = next) {
            next = s->next;
            if (s->thread == thread) {
                s->thread = UINT64_MAX; /* no thread's any more */
                sim_stream_kill(s);
            }
        }
    }
}

CUresult
sim_stream_get(const struct sim_caller *by, CUstream handle, struct sim_stream **out)
{
    struct sim_stream *stream;
    if (handle == NULL) {
        handle = by->per_thread ? CU_STREAM_PER_THREAD : CU_STREAM_LEGACY;
    }
    if (handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD) {
        if (by->context == NULL) {
            return CUDA_ERROR_INVALID_CONTEXT;
        }
        stream = handle == CU_STREAM_LEGACY
                     ? by->context->legacy
                     : per_thread_stream(by->context, by->thread->id);
    } else {
        stream = sim_handle_get(SIM_KIND_STREAM, handle);
        if (stream == NULL) {
            return CUDA_ERROR_INVALID_HANDLE;
        }
    }
    *out = stream;
    return stream->context->error;
}

CUresult
sim_stream_await(struct sim_stream *stream)
{
    struct sim_op *tail = stream->tail.op;
    struct sim_context *context = stream->context;
    uint64_t handle = context->handle;
    struct sim_clock known = {0};
    sim_clock_join(&known, &stream->tail.clock);
    CUresult status = CUDA_SUCCESS;
    if (tail != NULL) {
        sim_op_keep(tail);
        status = sim_await(&tail, 1);
        sim_op_release(tail);
    }
    if (status == CUDA_SUCCESS) {
        sim_clock_join(&sim.host, &known);
    } else if (sim_handle_get(SIM_KIND_CONTEXT, SIM_HANDLE(void *, handle)) == NULL) {
        status = CUDA_ERROR_CONTEXT_IS_DESTROYED;
    } else if (context->error != CUDA_SUCCESS) {
        status = context->error;
    }
    sim_clock_clear(&known);
    return status;
}

CUresult
sim_await_context(struct sim_context *context)
{
    size_t count = 0;
    for (struct sim_stream *s = context->streams; s != NULL; s = s->next) {
        count++;
    }
    struct sim_op **tails = sim_alloc((count + 1) * sizeof(struct sim_op *));
    uint64_t handle = context->handle;
    struct sim_clock known = {0};
    count = 0;
    for (struct sim_stream *s = context->streams; s != NULL; s = s->next) {
        sim_clock_join(&known, &s->tail.clock);
        if (s->tail.op != NULL) {
            tails[count++] = sim_op_keep(s->tail.op);
        }
    }
    CUresult status = sim_await(tails, count);
    if (status == CUDA_SUCCESS) {
        sim_clock_join(&sim.host, &known);
    } else if (sim_handle_get(SIM_KIND_CONTEXT, SIM_HANDLE(void *, handle)) == NULL) {
        status = CUDA_ERROR_CONTEXT_IS_DESTROYED;
    } else if (context->error != CUDA_SUCCESS) {
        status = context->error;
    }
    for (size_t i = 0; i < count; i++) {
        sim_op_release(tails[i]);
    }
    free(tails);
    sim_clock_clear(&known);
    return status;
}

CUresult
sim_submit(struct sim_stream *stream, struct sim_work *work)
{
    CUresult status = sim_capture_check_legacy(stream, true);
    if (status != CUDA_SUCCESS) {
        return status;
    }
    if (stream->capture != NULL) {
        return sim_capture_add(stream, work);
    }
    sim_enqueue(stream, work, NULL, 0);
    return CUDA_SUCCESS;
}

/* --- entry points --- */

static CUresult
create(struct sim_caller *by, CUstream *out, unsigned flags, int priority)
{
    if (out == NULL || (flags & ~(unsigned)CU_STREAM_NON_BLOCKING) != 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    struct sim_stream *stream = sim_stream_new(by->context, flags);
    stream->priority = priority > 0 ? 0 : priority < -5 ? -5 : priority;
    stream->handle = sim_handle_new(SIM_KIND_STREAM, stream);
    *out = SIM_HANDLE(CUstream, stream->handle);
    return CUDA_SUCCESS;
}

SIM_API(cuStreamCreate, , SIM_CONTEXT, (CUstream * out, unsigned int flags),
        (out, flags))
{
    return create(by, out, flags, 0);
}

SIM_API(cuStreamCreateWithPriority, , SIM_CONTEXT,
        (CUstream * out, unsigned int flags, int priority), (out, flags, priority))
{
    return create(by, out, flags, priority);
}

SIM_API(cuStreamDestroy, _v2, SIM_CONTEXT, (CUstream handle), (handle))
{
    struct sim_stream *stream = sim_handle_get(SIM_KIND_STREAM, handle);
    if (stream == NULL) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    sim_stream_kill(stream);
    return CUDA_SUCCESS;
}

SIM_API_PT(cuStreamSynchronize, , _ptsz, SIM_CONTEXT | SIM_BLOCKS | SIM_UNSAFE,
           (CUstream handle), (handle))
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status == CUDA_SUCCESS) {
        status = sim_capture_check_stream(stream);
    }
    return status == CUDA_SUCCESS ? sim_stream_await(stream) : status;
}

SIM_API_PT(cuStreamQuery, , _ptsz, SIM_CONTEXT | SIM_UNSAFE, (CUstream handle),
           (handle))
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status == CUDA_SUCCESS) {
        status = sim_capture_check_stream(stream);
    }
    if (status == CUDA_SUCCESS) {
        status = sim_poll(stream->tail.op);
    }
    if (status == CUDA_SUCCESS) {
        sim_clock_join(&sim.host, &stream->tail.clock);
    }
    return status;
}

SIM_API_PT(cuStreamGetCtx, , _ptsz, SIM_CONTEXT, (CUstream handle, CUcontext *out),
           (handle, out))
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status == CUDA_SUCCESS) {
        *out = SIM_HANDLE(CUcontext, stream->context->handle);
    }
    return status;
}

SIM_API_PT(cuStreamGetCtx, _v2, _ptsz, SIM_CONTEXT,
           (CUstream handle, CUcontext *out, void **green), (handle, out, green))
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status == CUDA_SUCCESS) {
        *out = SIM_HANDLE(CUcontext, stream->context->handle);
        if (green != NULL) {
            *green = NULL;
        }
    }
    return status;
}

SIM_API_PT(cuStreamGetDevice, , _ptsz, SIM_CONTEXT, (CUstream handle, CUdevice *out),
           (handle, out))
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status == CUDA_SUCCESS) {
        *out = stream->context->device;
    }
    return status;
}

SIM_API_PT(cuStreamGetId, , _ptsz, SIM_CONTEXT,
           (CUstream handle, unsigned long long *out), (handle, out))
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status == CUDA_SUCCESS) {
        *out = stream->id;
    }
    return status;
}

SIM_API_PT(cuStreamGetFlags, , _ptsz, SIM_CONTEXT, (CUstream handle, unsigned int *out),
           (handle, out))
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status == CUDA_SUCCESS) {
        *out = stream->flags;
    }
    return status;
}

SIM_API_PT(cuStreamGetPriority, , _ptsz, SIM_CONTEXT, (CUstream handle, int *out),
           (handle, out))
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status == CUDA_SUCCESS) {
        *out = stream->priority;
    }
    return status;
}

/* --- host functions --- */

static CUresult
launch_host_function(struct sim_caller *by, CUstream handle, CUhostFn function,
                     void *user)
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status != CUDA_SUCCESS || function == NULL) {
        return status != CUDA_SUCCESS ? status : CUDA_ERROR_INVALID_VALUE;
    }
    struct sim_work *work = sim_work_new(by, SIM_HOST_FUNCTION);
    work->u.host.function = function;
    work->u.host.user = user;
    status = sim_submit(stream, work);
    sim_work_release(work);
    return status;
}

SIM_API_PT(cuLaunchHostFunc, , _ptsz, SIM_CONTEXT,
           (CUstream stream, CUhostFn function, void *user), (stream, function, user))
{
    return launch_host_function(by, stream, function, user);
}

/* The mode says how the driver should wait: not what happens. */
SIM_API_PT(cuLaunchHostFunc, _v2, _ptsz, SIM_CONTEXT,
           (CUstream stream, CUhostFn function, void *user, unsigned int mode),
           (stream, function, user, mode))
{
    return launch_host_function(by, stream, function, user);
}

SIM_API_PT(cuStreamAddCallback, , _ptsz, SIM_CONTEXT,
           (CUstream handle, CUstreamCallback function, void *user, unsigned int flags),
           (handle, function, user, flags))
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status == CUDA_SUCCESS) {
        status = sim_capture_check_stream(stream);
    }
    if (status != CUDA_SUCCESS || function == NULL || flags != 0) {
        return status != CUDA_SUCCESS ? status : CUDA_ERROR_INVALID_VALUE;
    }
    struct sim_work *work = sim_work_new(by, SIM_CALLBACK);
    work->u.callback.function = function;
    work->u.callback.stream = handle;
    work->u.callback.user = user;
    status = sim_submit(stream, work);
    sim_work_release(work);
    return status;
}

uint64_t
simcuda_submitted(int device, const void *handle)
{
    pthread_mutex_lock(&sim.lock);
    struct sim_caller by = {.thread = sim_thread_self()};
    by.context =
        device < 0 || device >= SIM_MAX_DEVICES ? NULL : sim.devices[device].primary;
    struct sim_stream *stream = NULL;
    sim_stream_get(&by, (CUstream)(uintptr_t)handle, &stream);
    uint64_t submitted = stream == NULL ? 0 : stream->submitted;
    pthread_mutex_unlock(&sim.lock);
    return submitted;
}
