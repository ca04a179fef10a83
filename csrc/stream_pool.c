/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams of our own, and calls on anybody's. Ours are non-blocking, made lazily,
 * handed out least recently used first, and never destroyed: a handle that we have
 * shown to somebody stays good for the life of the process. No GIL. Threads: any. The
 * pool's lock is never held over a driver call.
 */
#include "gpu.h"

/* Under the pool's mutex: the free stream that has rested longest, or count. */
static uint32_t
find_free(const dlx_stream_pool *pool)
{
    uint32_t best = pool->count;
    for (uint32_t i = 0; i < pool->count; i++) {
        if (pool->streams[i].users == 0 &&
            (best == pool->count ||
             pool->streams[i].since < pool->streams[best].since)) {
            best = i;
        }
    }
    return best;
}

static uint32_t
find_least_used(const dlx_stream_pool *pool)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < pool->count; i++) {
        if (pool->streams[i].users < pool->streams[best].users) {
            best = i;
        }
    }
    return best;
}

/* A free stream; beyond DLX_MAX_STREAMS a busy one, shared. False: make one first. */
static bool
take(dlx_stream_pool *pool, void **native)
{
    pthread_mutex_lock(&pool->mutex);
    uint32_t i = find_free(pool);
    if (i == pool->count && pool->count == DLX_MAX_STREAMS) {
        i = find_least_used(pool);
    }
    bool is_found = i < pool->count;
    if (is_found) {
        pool->streams[i].users++;
        *native = pool->streams[i].native;
    }
    pthread_mutex_unlock(&pool->mutex);
    return is_found;
}

/* Enter a new stream, in use once. Where others were quicker to fill the pool, the
 * stream stays outside it: usable, and never given out again. */
static void
adopt(dlx_stream_pool *pool, void *native)
{
    pthread_mutex_lock(&pool->mutex);
    if (pool->count < DLX_MAX_STREAMS) {
        pool->streams[pool->count].native = native;
        pool->streams[pool->count].users = 1;
        pool->count++;
    }
    pthread_mutex_unlock(&pool->mutex);
}

dlx_status
dlx_stream_acquire(int32_t device_type, int32_t device_id, dlx_stream *out,
                   dlx_error *err)
{
    dlx_gpu *gpu;
    dlx_context *context;
    void *native = NULL;
    int mode, saved;
    dlx_status status = dlx_gpu_get(device_type, &gpu, err);
    if (status == DLX_OK) {
        status = dlx_context_primary(gpu, device_id, &context, err);
    }
    if (status != DLX_OK) {
        return status;
    }
    if (!take(&context->streams, &native)) {
        dlx_relaxed_enter(gpu, &mode);
        int code = gpu->contexts->enter(context, &saved);
        if (code == DLX_GPU_SUCCESS) {
            code = gpu->call.stream_create(&native, DLX_STREAM_NON_BLOCKING);
            gpu->contexts->leave(context, saved);
        }
        dlx_relaxed_leave(gpu, mode);
        if (code != DLX_GPU_SUCCESS) {
            return dlx_gpu_fail(gpu, DLX_CALL_stream_create, code, err);
        }
        DLX_COUNT(streams_created);
        adopt(&context->streams, native);
    }
    *out = (dlx_stream){device_type, device_id, (uintptr_t)native};
    return DLX_OK;
}

void
dlx_stream_release(dlx_stream stream)
{
    dlx_gpu *gpu = dlx_gpu_peek(stream.device_type);
    if (dlx_is_stopped() || gpu == NULL || stream.device_id < 0 ||
        stream.device_id >= DLX_MAX_DEVICES) {
        return;
    }
    dlx_context *context = atomic_load(&gpu->primary[stream.device_id]);
    if (context == NULL) {
        return;
    }
    dlx_stream_pool *pool = &context->streams;
    pthread_mutex_lock(&pool->mutex);
    for (uint32_t i = 0; i < pool->count; i++) {
        if ((uintptr_t)pool->streams[i].native == stream.handle &&
            pool->streams[i].users > 0) {
            pool->streams[i].users--;
            pool->streams[i].since = ++pool->turn;
            break;
        }
    }
    pthread_mutex_unlock(&pool->mutex);
}

/* A stream that captures has no status, and asking for one would break the capture. */
static dlx_status
prepare(dlx_stream stream, const char *call, dlx_side *side, dlx_error *err)
{
    dlx_gpu *gpu;
    dlx_capture capture;
    dlx_status status = dlx_gpu_get(stream.device_type, &gpu, err);
    if (status == DLX_OK) {
        status = dlx_side_init(side, gpu, stream, NULL, err);
    }
    if (status == DLX_OK) {
        status = dlx_side_capture(side, &capture, err);
    }
    if (status == DLX_OK && !dlx_capture_is_idle(capture)) {
        status = dlx_capture_refuse(
            capture.is_implicit ? DLX_CAPTURE_IMPLICIT : DLX_CAPTURE_PRODUCER, call,
            stream, (dlx_stream){0}, err);
    }
    return status;
}

dlx_status
dlx_stream_query(dlx_stream stream, dlx_error *err)
{
    dlx_side side;
    dlx_status status = prepare(stream, "dlx_stream_query", &side, err);
    return status == DLX_OK ? dlx_side_query(&side, err) : status;
}

dlx_status
dlx_stream_synchronize(dlx_stream stream, dlx_error *err)
{
    dlx_side side;
    dlx_status status = prepare(stream, "dlx_stream_synchronize", &side, err);
    return status == DLX_OK ? dlx_side_synchronize(&side, err) : status;
}

static int
ask_device(dlx_gpu *gpu, void *stream, int32_t *device_id)
{
    void *native;
    int code = gpu->call.stream_get_device(stream, device_id);
    return code == DLX_GPU_NOT_SUPPORTED
               ? gpu->contexts->locate(gpu, stream, &native, device_id)
               : code;
}

dlx_status
dlx_stream_find_device(int32_t device_type, uintptr_t handle, int32_t *device_id,
                       dlx_error *err)
{
    dlx_stream stream;
    dlx_context *context;
    dlx_gpu *gpu;
    dlx_status status = dlx_stream_init(&stream, device_type, 0, handle, err);
    if (status != DLX_OK) {
        return status;
    }
    if (dlx_stream_is_default(stream)) {
        return dlx_fail(err, DLX_BAD_STREAM, "dlx_stream_find_device",
                        "a default stream belongs to the device that is current: name "
                        "the device");
    }
    status = dlx_gpu_get(device_type, &gpu, err);
    if (status != DLX_OK) {
        return status;
    }
    int code = ask_device(gpu, (void *)handle, device_id);
    if (code == DLX_GPU_INVALID_CONTEXT &&
        dlx_context_any(gpu, &context, NULL) == DLX_OK) {
        int saved;
        code = gpu->contexts->enter(context, &saved);
        if (code == DLX_GPU_SUCCESS) {
            code = ask_device(gpu, (void *)handle, device_id);
            gpu->contexts->leave(context, saved);
        }
    }
    return code == DLX_GPU_SUCCESS
               ? DLX_OK
               : dlx_gpu_fail(gpu, DLX_CALL_stream_get_device, code, err);
}
