/* Contexts: the primary one of each device, others, and each thread's stack of current
 * ones. SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "capture.h"
#include "entry.h"

struct sim_context *
sim_context_current(const struct sim_thread *thread)
{
    if (thread->depth == 0) {
        return NULL;
    }
    uint64_t handle = thread->contexts[thread->depth - 1];
    return sim_handle_get(SIM_KIND_CONTEXT, SIM_HANDLE(void *, handle));
}

static struct sim_context *
create(int device, unsigned flags, bool is_primary)
{
    struct sim_context *context = sim_alloc(sizeof(*context));
    context->handle = sim_handle_new(SIM_KIND_CONTEXT, context);
    context->id = ++sim.next_id;
    context->device = device;
    context->flags = flags;
    context->is_primary = is_primary;
    context->legacy = sim_stream_new(context, CU_STREAM_DEFAULT);
    context->legacy->is_legacy = true;
    context->legacy->name.kind = SIM_LEGACY;
    context->next = sim.contexts;
    if (context->next != NULL) {
        context->next->previous = context;
    }
    sim.contexts = context;
    return context;
}

void
sim_context_destroy(struct sim_context *context)
{
    sim_cancel(context);
    while (context->streams != NULL) {
        sim_stream_kill(context->streams);
    }
    if (context->is_primary) {
        sim.devices[context->device].primary = NULL;
    }
    *(context->previous == NULL ? &sim.contexts : &context->previous->next) =
        context->next;
    if (context->next != NULL) {
        context->next->previous = context->previous;
    }
    sim_handle_drop(SIM_KIND_CONTEXT, context->handle);
    free(context);
}

struct sim_context *
sim_context_primary(int device)
{
    struct sim_device *d = &sim.devices[device];
    if (d->primary == NULL) {
        d->primary = create(device, d->primary_flags, true);
    }
    return d->primary;
}

static bool
is_device(CUdevice device)
{
    return device >= 0 && device < sim.config.devices;
}

static CUresult
push(struct sim_thread *thread, uint64_t handle)
{
    if (thread->depth == SIM_MAX_STACK) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    thread->contexts[thread->depth++] = handle;
    return CUDA_SUCCESS;
}

/* --- primary contexts --- */

SIM_API(cuDevicePrimaryCtxRetain, , SIM_INIT, (CUcontext * out, CUdevice device),
        (out, device))
{
    if (out == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    *out = SIM_HANDLE(CUcontext, sim_context_primary(device)->handle);
    sim.devices[device].retained++;
    return CUDA_SUCCESS;
}

SIM_API(cuDevicePrimaryCtxRelease, _v2, SIM_INIT, (CUdevice device), (device))
{
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    struct sim_device *d = &sim.devices[device];
    if (d->retained == 0) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (--d->retained == 0) {
        sim_context_destroy(d->primary);
    }
    return CUDA_SUCCESS;
}

SIM_API(cuDevicePrimaryCtxReset, _v2, SIM_INIT, (CUdevice device), (device))
{
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    if (sim.devices[device].primary != NULL) {
        sim_context_destroy(sim.devices[device].primary);
        sim.devices[device].retained = 0;
    }
    return CUDA_SUCCESS;
}

SIM_API(cuDevicePrimaryCtxSetFlags, _v2, SIM_INIT,
        (CUdevice device, unsigned int flags), (device, flags))
{
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    if ((flags & ~(unsigned)CU_CTX_FLAGS_MASK) != 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    sim.devices[device].primary_flags = flags;
    if (sim.devices[device].primary != NULL) {
        sim.devices[device].primary->flags = flags;
    }
    return CUDA_SUCCESS;
}

SIM_API(cuDevicePrimaryCtxGetState, , SIM_INIT,
        (CUdevice device, unsigned int *flags, int *active), (device, flags, active))
{
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    if (flags == NULL || active == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *flags = sim.devices[device].primary_flags;
    *active = sim.devices[device].primary != NULL;
    return CUDA_SUCCESS;
}

/* --- other contexts --- */

static CUresult
create_current(struct sim_caller *by, CUcontext *out, unsigned flags, CUdevice device)
{
    if (out == NULL || (flags & ~(unsigned)CU_CTX_FLAGS_MASK) != 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    struct sim_context *context = create(device, flags, false);
    *out = SIM_HANDLE(CUcontext, context->handle);
    return push(by->thread, context->handle);
}

SIM_API(cuCtxCreate, _v2, SIM_INIT,
        (CUcontext * out, unsigned int flags, CUdevice device), (out, flags, device))
{
    return create_current(by, out, flags, device);
}

SIM_API(cuCtxCreate, _v4, SIM_INIT,
        (CUcontext * out, void *parameters, unsigned int flags, CUdevice device),
        (out, parameters, flags, device))
{
    return parameters != NULL ? CUDA_ERROR_NOT_SUPPORTED
                              : create_current(by, out, flags, device);
}

SIM_API(cuCtxDestroy, _v2, SIM_INIT, (CUcontext handle), (handle))
{
    struct sim_context *context = sim_handle_get(SIM_KIND_CONTEXT, handle);
    if (context == NULL || context->is_primary) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (context == sim_context_current(by->thread)) {
        by->thread->depth--;
    }
    sim_context_destroy(context);
    return CUDA_SUCCESS;
}

/* --- the calling thread's stack --- */

SIM_API(cuCtxPushCurrent, _v2, SIM_INIT, (CUcontext handle), (handle))
{
    if (sim_handle_get(SIM_KIND_CONTEXT, handle) == NULL) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    return push(by->thread, (uint64_t)(uintptr_t)handle);
}

SIM_API(cuCtxPopCurrent, _v2, SIM_INIT, (CUcontext * out), (out))
{
    if (by->thread->depth == 0) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    uint64_t handle = by->thread->contexts[--by->thread->depth];
    if (out != NULL) {
        *out = SIM_HANDLE(CUcontext, handle);
    }
    return CUDA_SUCCESS;
}

SIM_API(cuCtxSetCurrent, , SIM_INIT, (CUcontext handle), (handle))
{
    struct sim_thread *thread = by->thread;
    if (handle == NULL) {
        thread->depth -= thread->depth > 0;
        return CUDA_SUCCESS;
    }
    if (sim_handle_get(SIM_KIND_CONTEXT, handle) == NULL) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    thread->depth -= thread->depth > 0;
    return push(thread, (uint64_t)(uintptr_t)handle);
}

SIM_API(cuCtxGetCurrent, , SIM_INIT, (CUcontext * out), (out))
{
    if (out == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *out = by->context == NULL ? NULL : SIM_HANDLE(CUcontext, by->context->handle);
    return CUDA_SUCCESS;
}

SIM_API(cuCtxGetDevice, , SIM_CONTEXT, (CUdevice * out), (out))
{
    if (out == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *out = by->context->device;
    return CUDA_SUCCESS;
}

SIM_API(cuCtxGetDevice, _v2, SIM_INIT, (CUdevice * out, CUcontext handle),
        (out, handle))
{
    struct sim_context *context =
        handle == NULL ? by->context : sim_handle_get(SIM_KIND_CONTEXT, handle);
    if (context == NULL) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    *out = context->device;
    return CUDA_SUCCESS;
}

SIM_API(cuCtxGetFlags, , SIM_CONTEXT, (unsigned int *out), (out))
{
    *out = by->context->flags;
    return CUDA_SUCCESS;
}

SIM_API(cuCtxSetFlags, , SIM_CONTEXT, (unsigned int flags), (flags))
{
    by->context->flags = flags;
    return CUDA_SUCCESS;
}

SIM_API(cuCtxGetId, , SIM_INIT, (CUcontext handle, unsigned long long *out),
        (handle, out))
{
    struct sim_context *context =
        handle == NULL ? by->context : sim_handle_get(SIM_KIND_CONTEXT, handle);
    if (context == NULL) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    *out = context->id;
    return CUDA_SUCCESS;
}

SIM_API(cuCtxGetApiVersion, , SIM_INIT, (CUcontext handle, unsigned int *out),
        (handle, out))
{
    (void)handle;
    *out = 3020;
    return CUDA_SUCCESS;
}

SIM_API(cuCtxGetStreamPriorityRange, , SIM_CONTEXT, (int *least, int *greatest),
        (least, greatest))
{
    if (least != NULL) {
        *least = 0;
    }
    if (greatest != NULL) {
        *greatest = -5;
    }
    return CUDA_SUCCESS;
}

static CUresult
synchronize(struct sim_context *context)
{
    CUresult status = sim_capture_check_synchronize(context);
    return status != CUDA_SUCCESS ? status : sim_await_context(context);
}

/* A limit set is a limit read back; nothing here depends on any. */
static size_t limits[16];

SIM_API(cuCtxSetLimit, , SIM_CONTEXT, (int limit, size_t value), (limit, value))
{
    if (limit < 0 || limit >= (int)(sizeof(limits) / sizeof(limits[0]))) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    limits[limit] = value;
    return CUDA_SUCCESS;
}

SIM_API(cuCtxGetLimit, , SIM_CONTEXT, (size_t *value, int limit), (value, limit))
{
    if (limit < 0 || limit >= (int)(sizeof(limits) / sizeof(limits[0]))) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *value = limits[limit];
    return CUDA_SUCCESS;
}

SIM_API(cuCtxSynchronize, _v2, SIM_CONTEXT | SIM_BLOCKS | SIM_UNSAFE,
        (CUcontext handle), (handle))
{
    struct sim_context *context =
        handle == NULL ? by->context : sim_handle_get(SIM_KIND_CONTEXT, handle);
    return context == NULL ? CUDA_ERROR_INVALID_CONTEXT : synchronize(context);
}

/* Without parameters, which SIM_API cannot express. */
SIM_EXPORT CUresult cuCtxSynchronize(void);
SIM_EXPORT CUresult
cuCtxSynchronize(void)
{
    struct sim_caller by = {
        SIM_CALL_cuCtxSynchronize,   false, SIM_CONTEXT | SIM_BLOCKS | SIM_UNSAFE,
        __builtin_return_address(0), NULL,  NULL};
    CUresult status = sim_enter(&by);
    return status ? status : sim_leave(&by, synchronize(by.context));
}

SIM_API(cuDeviceCanAccessPeer, , SIM_INIT, (int *out, CUdevice device, CUdevice peer),
        (out, device, peer))
{
    if (!is_device(device) || !is_device(peer)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    *out = device != peer;
    return CUDA_SUCCESS;
}

SIM_API(cuCtxEnablePeerAccess, , SIM_CONTEXT, (CUcontext peer, unsigned int flags),
        (peer, flags))
{
    return flags != 0                                       ? CUDA_ERROR_INVALID_VALUE
           : sim_handle_get(SIM_KIND_CONTEXT, peer) == NULL ? CUDA_ERROR_INVALID_CONTEXT
                                                            : CUDA_SUCCESS;
}
