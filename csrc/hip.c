/* SPDX-License-Identifier: Apache-2.0
 *
 * HIP's notion of context: a current device per thread, always there. The counterpart
 * of cuda.c. Not run on AMD hardware yet; the table and the rules are tested with a
 * fake. No GIL. Threads: any.
 */
#include "gpu.h"

static int
retain(dlx_gpu *gpu, int32_t device_id, void **native)
{
    (void)gpu;
    *native = (void *)((uintptr_t)device_id + 1); /* a name; HIP has no object for it */
    return DLX_GPU_SUCCESS;
}

/* Nothing shows whether a device is in use, and using a stream of it has made it so. */
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
    int device = -1;
    int code = gpu->call.stream_get_device(stream, &device);
    *device_id = device;
    return code != DLX_GPU_SUCCESS ? code : retain(gpu, device, native);
}

static bool
has_current(dlx_gpu *gpu)
{
    (void)gpu;
    return true;
}

/* `saved`: the device to go back to, -1 where it is the same. */
static int
enter(const dlx_context *context, int *saved)
{
    int device = -1;
    const dlx_gpu_calls *call = &context->gpu->call;
    *saved = -1;
    if (DLX_MUTATED(context_enter)) {
        return DLX_GPU_SUCCESS;
    }
    int code = call->device_get_current(&device);
    if (code != DLX_GPU_SUCCESS || device == context->device_id) {
        return dlx_gpu_blame(DLX_CALL_device_get_current, code);
    }
    code = call->device_set_current(context->device_id);
    *saved = code == DLX_GPU_SUCCESS ? device : -1;
    return dlx_gpu_blame(DLX_CALL_device_set_current, code);
}

static int
leave(const dlx_context *context, int saved)
{
    if (saved < 0 || DLX_MUTATED(context_restore)) {
        return DLX_GPU_SUCCESS;
    }
    return context->gpu->call.device_set_current(saved);
}

const dlx_context_ops dlx_hip_contexts = {
    .retain = retain,
    .is_active = is_active,
    .locate = locate,
    .has_current = has_current,
    .enter = enter,
    .leave = leave,
};
