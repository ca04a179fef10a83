/* SPDX-License-Identifier: Apache-2.0
 *
 * Device types from outside: a driver made of somebody else's functions (driver.h).
 * There is no context to enter and no capture to ask for; all else, pools, pushes,
 * releases and completions, is the body that CUDA and HIP share.
 * No GIL. Threads: any.
 */
#include <stdlib.h>

#include "gpu.h"

static dlx_backend_calls up; /* written before the first driver is published */

/* The device whose context is entered: what makes a stream wants to know. */
static _Thread_local const dlx_context *inside;

static int
code_of(dlx_status status)
{
    switch (status) {
        case DLX_OK:
            return DLX_GPU_SUCCESS;
        case DLX_NOT_READY:
            return DLX_GPU_NOT_READY;
        case DLX_BAD_STREAM:
            return DLX_GPU_INVALID_HANDLE;
        case DLX_UNSUPPORTED:
            return DLX_GPU_NOT_SUPPORTED;
        case DLX_NO_MEMORY:
            return DLX_GPU_OUT_OF_MEMORY;
        case DLX_STOPPED:
            return DLX_GPU_DEINITIALIZED;
        case DLX_DEVICE_LOST:
            return DLX_GPU_LAUNCH_FAILED;
        default:
            return DLX_GPU_UNKNOWN;
    }
}

/* ---- Contexts: none ---- */

static int
retain(dlx_gpu *gpu, int32_t device_id, void **native)
{
    (void)gpu;
    *native = (void *)((uintptr_t)device_id + 1);
    return DLX_GPU_SUCCESS;
}

static int
is_active(dlx_gpu *gpu, int32_t device_id, bool *out)
{
    (void)gpu;
    (void)device_id;
    *out = true;
    return DLX_GPU_SUCCESS;
}

static int
locate(dlx_gpu *gpu, void *stream, void **native, int32_t *device_id)
{
    (void)gpu;
    (void)stream;
    (void)native;
    (void)device_id;
    return DLX_GPU_NOT_SUPPORTED;
}

static bool
has_current(dlx_gpu *gpu)
{
    (void)gpu;
    return true;
}

static int
enter(const dlx_context *context, int *saved)
{
    inside = context;
    *saved = 0;
    return DLX_GPU_SUCCESS;
}

static int
leave(const dlx_context *context, int saved)
{
    (void)context;
    (void)saved;
    inside = NULL;
    return DLX_GPU_SUCCESS;
}

const dlx_context_ops dlx_backend_contexts = {
    .retain = retain,
    .is_active = is_active,
    .locate = locate,
    .has_current = has_current,
    .enter = enter,
    .leave = leave,
};

/* ---- The calls ---- */

static int
event_create(void **event, unsigned flags)
{
    (void)flags;
    return code_of(up.event_create(event));
}

static int
event_destroy(void *event)
{
    up.event_destroy(event);
    return DLX_GPU_SUCCESS;
}

static int
event_record(void *event, void *stream)
{
    return code_of(up.record(event, (uintptr_t)stream));
}

static int
stream_wait_event(void *stream, void *event, unsigned flags)
{
    (void)flags;
    return code_of(up.wait((uintptr_t)stream, event));
}

static int
event_query(void *event)
{
    return code_of(up.query(event));
}

static int
event_synchronize(void *event)
{
    return code_of(up.synchronize(event));
}

static int
event_add_callback(void *event, dlx_gpu_callback fn, void *arg)
{
    return code_of(up.notify(event, fn, arg));
}

static int
stream_create(void **stream, unsigned flags)
{
    uintptr_t handle = 0;
    (void)flags;
    int code =
        code_of(up.stream_create(inside->gpu->device_type, inside->device_id, &handle));
    *stream = (void *)handle;
    return code;
}

static int
stream_query(void *stream)
{
    return code_of(up.stream_query((uintptr_t)stream));
}

static int
stream_synchronize(void *stream)
{
    return code_of(up.stream_synchronize((uintptr_t)stream));
}

static int
stream_get_capture_info(void *stream, int *status, uint64_t *id, void **graph,
                        void **dependencies, size_t *n_dependencies)
{
    (void)stream;
    (void)id;
    (void)graph;
    (void)dependencies;
    (void)n_dependencies;
    *status = DLX_CAPTURE_STATUS_NONE;
    return DLX_GPU_SUCCESS;
}

static int
host_alloc(void **memory, size_t nbytes, unsigned flags)
{
    (void)flags;
    return posix_memalign(memory, 4096, nbytes) == 0 ? DLX_GPU_SUCCESS
                                                     : DLX_GPU_OUT_OF_MEMORY;
}

static int
host_free(void *memory)
{
    free(memory);
    return DLX_GPU_SUCCESS;
}

static int
copy_to_host(void *dst, uintptr_t src, size_t nbytes, void *stream)
{
    return code_of(up.copy_to_host(dst, src, nbytes, (uintptr_t)stream));
}

static int
get_error_string(int code, const char **text)
{
    (void)code;
    *text = up.last_error();
    return DLX_GPU_SUCCESS;
}

static const dlx_gpu_calls calls = {
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .event_query = event_query,
    .event_synchronize = event_synchronize,
    .event_add_callback = event_add_callback,
    .stream_create = stream_create,
    .stream_wait_event = stream_wait_event,
    .stream_query = stream_query,
    .stream_synchronize = stream_synchronize,
    .stream_get_capture_info = stream_get_capture_info,
    .host_alloc = host_alloc,
    .host_free = host_free,
    .copy_to_host = copy_to_host,
    .get_error_string = get_error_string,
};

/* What errors call them: the methods of the protocol in Python. */
static void
name_calls(dlx_gpu *gpu)
{
    gpu->names[DLX_CALL_event_record] = "StreamBackend.record";
    gpu->names[DLX_CALL_event_query] = "StreamBackend.query";
    gpu->names[DLX_CALL_event_synchronize] = "StreamBackend.synchronize";
    gpu->names[DLX_CALL_event_add_callback] = "StreamBackend.notify";
    gpu->names[DLX_CALL_stream_wait_event] = "StreamBackend.wait";
    gpu->names[DLX_CALL_stream_create] = "StreamBackend.create";
    gpu->names[DLX_CALL_stream_query] = "StreamBackend.query";
    gpu->names[DLX_CALL_stream_synchronize] = "StreamBackend.synchronize";
    gpu->names[DLX_CALL_copy_to_host] = "StreamBackend.copy_to_host";
}

bool
dlx_backend_is_installed(int32_t device_type)
{
    return device_type != kDLCUDA && device_type != kDLROCM &&
           dlx_gpu_peek(device_type) != NULL;
}

dlx_status
dlx_backend_install(int32_t device_type, const char *name,
                    const dlx_backend_calls *functions, dlx_error *err)
{
    if (dlx_gpu_peek(device_type) != NULL) {
        return DLX_OK;
    }
    up = *functions;
    dlx_gpu *gpu = dlx_gpu_install(device_type, &calls, name);
    if (gpu == NULL) {
        return dlx_fail(err, DLX_NO_MEMORY, "dlx_backend_install",
                        "out of memory, or of places for device types");
    }
    name_calls(gpu);
    return DLX_OK;
}
