/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies to the host: pinned memory, kept for the next copy, and the copy itself on a
 * stream of ours. Nothing here waits on the host.
 * No GIL. Threads: any. The pool's lock is never held over a driver call.
 */
#include <stdalign.h>

#include "gpu.h"

/* In front of the memory; as long as its alignment. */
typedef struct block {
    alignas(128) struct block *next;
    dlx_gpu *gpu;
    size_t nbytes; /* behind the header */
} block;

static const size_t CACHE_LIMIT = (size_t)256 << 20;
static const size_t ROUNDING = 4096;
static pthread_mutex_t pinned_mutex = PTHREAD_MUTEX_INITIALIZER;

/* The first cached block that fits without wasting more than half of itself. */
static block *
take_cached(dlx_gpu *gpu, size_t nbytes)
{
    block *found = NULL;
    pthread_mutex_lock(&pinned_mutex);
    for (block **place = (block **)&gpu->pinned_free; *place != NULL;
         place = &(*place)->next) {
        if ((*place)->nbytes >= nbytes && (*place)->nbytes / 2 <= nbytes) {
            found = *place;
            *place = found->next;
            DLX_COUNT_BY(pinned_cached, -(int64_t)found->nbytes);
            break;
        }
    }
    pthread_mutex_unlock(&pinned_mutex);
    return found;
}

/* What the cache holds beyond its limit, newest first. */
static block *
take_surplus(dlx_gpu *gpu)
{
    block *surplus = NULL;
    size_t kept = 0;
    pthread_mutex_lock(&pinned_mutex);
    block **place = (block **)&gpu->pinned_free;
    while (*place != NULL && kept + (*place)->nbytes <= CACHE_LIMIT) {
        kept += (*place)->nbytes;
        place = &(*place)->next;
    }
    surplus = *place;
    *place = NULL;
    for (block *b = surplus; b != NULL; b = b->next) {
        DLX_COUNT_BY(pinned_cached, -(int64_t)b->nbytes);
    }
    pthread_mutex_unlock(&pinned_mutex);
    return surplus;
}

/* Inside a context of the driver. */
static int
make_block(dlx_gpu *gpu, size_t nbytes, block **out)
{
    void *memory = NULL;
    for (block *b = take_surplus(gpu); b != NULL;) {
        block *next = b->next;
        gpu->call.host_free(b);
        b = next;
    }
    int code = gpu->call.host_alloc(&memory, sizeof(block) + nbytes, DLX_HOST_PORTABLE);
    if (code == DLX_GPU_SUCCESS) {
        *out = memory;
        **out = (block){NULL, gpu, nbytes};
    }
    return code;
}

dlx_status
dlx_pinned_alloc(int32_t device_type, int32_t device_id, size_t nbytes, void **out,
                 dlx_error *err)
{
    dlx_gpu *gpu;
    dlx_context *context;
    int mode, saved;
    if (nbytes > SIZE_MAX / 2) {
        return dlx_fail(err, DLX_NO_MEMORY, "dlx_pinned_alloc", "%zu bytes", nbytes);
    }
    size_t rounded = nbytes + sizeof(block) + ROUNDING - 1;
    rounded = rounded / ROUNDING * ROUNDING - sizeof(block);
    dlx_status status = dlx_gpu_get(device_type, &gpu, err);
    if (status == DLX_OK) {
        status = dlx_context_primary(gpu, device_id, &context, err);
    }
    if (status != DLX_OK) {
        return status;
    }
    block *found = take_cached(gpu, rounded);
    if (found == NULL) {
        dlx_relaxed_enter(gpu, &mode);
        int code = gpu->contexts->enter(context, &saved);
        if (code == DLX_GPU_SUCCESS) {
            code = make_block(gpu, rounded, &found);
            gpu->contexts->leave(context, saved);
        }
        dlx_relaxed_leave(gpu, mode);
        if (code != DLX_GPU_SUCCESS) {
            return dlx_gpu_fail(gpu, DLX_CALL_host_alloc, code, err);
        }
    }
    DLX_COUNT_BY(pinned_bytes, found->nbytes);
    *out = found + 1;
    return DLX_OK;
}

void
dlx_pinned_free(void *memory)
{
    if (memory == NULL || dlx_is_stopped()) {
        return;
    }
    block *self = (block *)memory - 1;
    if (self->gpu == NULL) {
        return; /* of a simulated driver that has ended: its memory reads as zeros */
    }
    DLX_COUNT_BY(pinned_bytes, -(int64_t)self->nbytes);
    if (atomic_load(&self->gpu->is_retired)) {
        return; /* its driver is gone, and the memory with it */
    }
    pthread_mutex_lock(&pinned_mutex);
    self->next = self->gpu->pinned_free;
    self->gpu->pinned_free = self;
    DLX_COUNT_BY(pinned_cached, self->nbytes);
    pthread_mutex_unlock(&pinned_mutex);
}

/* ---- The copy ---- */

/* Wait, copy, mark. Where the mark fails, the copy may be running: then the host waits,
 * because its end could not be told to anyone. */
static dlx_status
queue(dlx_side *side, void *dst, uintptr_t src, size_t nbytes, dlx_event *after,
      dlx_event **done, dlx_error *err)
{
    dlx_gpu *gpu = side->context->gpu;
    dlx_status status = DLX_OK;
    if (after != NULL && !dlx_event_is_done(after) && !DLX_MUTATED(copy_wait)) {
        status = dlx_side_wait(side, after, err);
    }
    if (status != DLX_OK) {
        return status;
    }
    int code = gpu->call.copy_to_host(dst, src, nbytes, (void *)side->stream.handle);
    if (code != DLX_GPU_SUCCESS) {
        return dlx_gpu_fail(gpu, DLX_CALL_copy_to_host, code, err);
    }
    status = dlx_event_mark(side, 0, done, err);
    if (status != DLX_OK) {
        dlx_side_synchronize(side, NULL);
    }
    return status;
}

dlx_status
dlx_copy_to_host(void *dst, int32_t device_type, int32_t device_id, uintptr_t src,
                 size_t nbytes, dlx_event *after, dlx_event **done, dlx_error *err)
{
    dlx_gpu *gpu;
    dlx_context *context;
    dlx_side side = {.stream = {0}};
    int mode, saved;
    dlx_status status = dlx_gpu_get(device_type, &gpu, err);
    if (status == DLX_OK && after != NULL) {
        status = dlx_event_check(after, err);
    }
    if (status == DLX_OK && after != NULL && after->stream.device_type != device_type) {
        status = dlx_fail(err, DLX_UNSUPPORTED, "dlx_copy_to_host",
                          "the event to wait for is of another driver");
    }
    if (status == DLX_OK && after != NULL) {
        status = dlx_event_check_fires(after, "dlx_copy_to_host", err);
    }
    if (status == DLX_OK) {
        status = dlx_context_primary(gpu, device_id, &context, err);
    }
    if (status == DLX_OK) {
        status = dlx_stream_acquire(device_type, device_id, &side.stream, err);
    }
    if (status != DLX_OK) {
        return status;
    }
    side.context = context;
    dlx_relaxed_enter(gpu, &mode);
    int code = gpu->contexts->enter(context, &saved);
    if (code == DLX_GPU_SUCCESS) {
        status = queue(&side, dst, src, nbytes, after, done, err);
        gpu->contexts->leave(context, saved);
    } else {
        status = dlx_gpu_fail(gpu, DLX_CALL_context_push, code, err);
    }
    dlx_relaxed_leave(gpu, mode);
    if (status != DLX_OK) {
        dlx_stream_release(side.stream);
        return status;
    }
    (*done)->side = side.stream;
    DLX_COUNT(copies);
    return DLX_OK;
}
