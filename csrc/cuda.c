/* SPDX-License-Identifier: Apache-2.0
 *
 * CUDA contexts. They are entered by `enter` and left by `leave` below, and nowhere
 * else: only for default streams, for making events and streams, and in threads without
 * one. No GIL. Threads: any.
 */
#include "gpu.h"

static int
retain(dlx_gpu *gpu, int32_t device_id, void **native)
{
    int device;
    int code = gpu->call.device_get(&device, device_id);
    if (code != DLX_GPU_SUCCESS) {
        return dlx_gpu_blame(DLX_CALL_device_get, code);
    }
    return dlx_gpu_blame(DLX_CALL_primary_retain,
                         gpu->call.primary_retain(native, device));
}

static int
is_active(dlx_gpu *gpu, int32_t device_id, bool *out)
{
    int device, active = 0;
    unsigned flags;
    int code = gpu->call.device_get(&device, device_id);
    if (code == DLX_GPU_SUCCESS) {
        code = gpu->call.primary_get_state(device, &flags, &active);
    }
    *out = active != 0;
    return code;
}

static bool
has_current(dlx_gpu *gpu)
{
    void *current = NULL;
    return gpu->call.context_get_current(&current) == DLX_GPU_SUCCESS &&
           current != NULL;
}

/* `saved`: 1 where there is something to pop. */
static int
enter(const dlx_context *context, int *saved)
{
    void *current = NULL;
    const dlx_gpu_calls *call = &context->gpu->call;
    *saved = 0;
    if (DLX_MUTATED(context_enter)) {
        return DLX_GPU_SUCCESS;
    }
    int code = call->context_get_current(&current);
    if (code == DLX_GPU_SUCCESS && current == context->native) {
        return code;
    }
    code = call->context_push(context->native);
    *saved = code == DLX_GPU_SUCCESS;
    return dlx_gpu_blame(DLX_CALL_context_push, code);
}

static int
leave(const dlx_context *context, int saved)
{
    void *popped;
    if (!saved || DLX_MUTATED(context_restore)) {
        return DLX_GPU_SUCCESS;
    }
    return context->gpu->call.context_pop(&popped);
}

/* The device of a context is only told for the current one. */
static int
locate(dlx_gpu *gpu, void *stream, void **native, int32_t *device_id)
{
    int device = -1, saved;
    int code = gpu->call.stream_get_context(stream, native);
    if (code == DLX_GPU_SUCCESS) {
        dlx_context context = {.gpu = gpu, .native = *native};
        code = enter(&context, &saved);
        if (code == DLX_GPU_SUCCESS) {
            code = gpu->call.context_get_device(&device);
            leave(&context, saved);
        }
    }
    *device_id = device;
    return code;
}

const dlx_context_ops dlx_cuda_contexts = {
    .retain = retain,
    .is_active = is_active,
    .locate = locate,
    .has_current = has_current,
    .enter = enter,
    .leave = leave,
};
