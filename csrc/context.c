/* SPDX-License-Identifier: Apache-2.0
 *
 * Which context a stream's events come from. Nearly always the device's primary one;
 * where that proves wrong the driver is asked, once per stream.
 * No GIL. Threads: any; contexts are made under the driver's mutex and never freed.
 */
#include "alloc.h"
#include "gpu.h"

/* Contexts made so far, over all drivers: spreads them over the threads' caches. */
static _Atomic uint32_t n_contexts;

/* Under gpu->mutex. */
static dlx_status
make_context(dlx_gpu *gpu, void *native, int32_t device_id, dlx_context **out,
             dlx_error *err)
{
    dlx_context *context = dlx_alloc_zeroed(sizeof(*context));
    if (context == NULL) {
        return dlx_fail(err, DLX_NO_MEMORY, "dlx_driver_load", "out of memory");
    }
    context->gpu = gpu;
    context->native = native;
    context->device_id = device_id;
    context->slot = atomic_fetch_add(&n_contexts, 1);
    pthread_mutex_init(&context->streams.mutex, NULL);
    dlx_status status = dlx_pool_init(context, err);
    if (status != DLX_OK) {
        goto fail;
    }
    context->next = gpu->all;
    gpu->all = context;
    *out = context;
    return DLX_OK;
fail:
    pthread_mutex_destroy(&context->streams.mutex);
    free(context);
    return status;
}

/* Under gpu->mutex. */
static dlx_status
make_primary(dlx_gpu *gpu, int32_t device_id, dlx_context **out, dlx_error *err)
{
    void *native = NULL;
    int mode;
    *out = atomic_load(&gpu->primary[device_id]);
    if (*out != NULL) {
        return DLX_OK;
    }
    dlx_relaxed_enter(gpu, &mode);
    int code = gpu->contexts->retain(gpu, device_id, &native);
    dlx_relaxed_leave(gpu, mode);
    if (code != DLX_GPU_SUCCESS) {
        return dlx_gpu_fail(gpu, DLX_CALL_primary_retain, code, err);
    }
    dlx_status status = make_context(gpu, native, device_id, out, err);
    if (status == DLX_OK) {
        atomic_store_explicit(&gpu->primary[device_id], *out, memory_order_release);
    }
    return status;
}

dlx_status
dlx_context_primary(dlx_gpu *gpu, int32_t device_id, dlx_context **out, dlx_error *err)
{
    if (device_id < 0 || device_id >= gpu->device_count) {
        return dlx_fail(err, DLX_NO_DRIVER, "dlx_driver_load",
                        "%s has no device %d: it has %d", gpu->library, device_id,
                        gpu->device_count);
    }
    *out = atomic_load_explicit(&gpu->primary[device_id], memory_order_acquire);
    if (*out != NULL) {
        return DLX_OK;
    }
    pthread_mutex_lock(&gpu->mutex);
    dlx_status status = make_primary(gpu, device_id, out, err);
    pthread_mutex_unlock(&gpu->mutex);
    return status;
}

dlx_status
dlx_context_any(dlx_gpu *gpu, dlx_context **out, dlx_error *err)
{
    for (int32_t i = 0; i < gpu->device_count; i++) {
        bool is_active = false;
        gpu->contexts->is_active(gpu, i, &is_active);
        if (is_active) {
            return dlx_context_primary(gpu, i, out, err);
        }
    }
    return dlx_fail(err, DLX_NO_DRIVER, "dlx_driver_load",
                    "no device of %s is in use in this process", gpu->library);
}

/* ---- Streams outside the primary context ---- */

static dlx_context *
find_foreign(dlx_gpu *gpu, uintptr_t handle)
{
    size_t n = atomic_load_explicit(&gpu->n_foreign, memory_order_acquire);
    while (n-- > 0) {
        if (gpu->foreign[n].handle == handle) {
            return gpu->foreign[n].context;
        }
    }
    return NULL;
}

/* Under gpu->mutex. A full table only costs: the driver is asked each time. */
static void
remember_foreign(dlx_gpu *gpu, uintptr_t handle, dlx_context *context)
{
    size_t n = atomic_load(&gpu->n_foreign);
    if (n < DLX_MAX_FOREIGN) {
        gpu->foreign[n].handle = handle;
        gpu->foreign[n].context = context;
        atomic_store_explicit(&gpu->n_foreign, n + 1, memory_order_release);
    }
}

/* Under gpu->mutex: the context with that native handle. The primary context is
 * compared only where it exists already, because retaining it would make one. */
static dlx_status
find_native(dlx_gpu *gpu, void *native, int32_t device_id, dlx_context **out,
            dlx_error *err)
{
    bool is_active = false;
    if (device_id >= 0 && device_id < gpu->device_count) {
        gpu->contexts->is_active(gpu, device_id, &is_active);
    }
    if (is_active) {
        dlx_status status = make_primary(gpu, device_id, out, err);
        if (status != DLX_OK || (*out)->native == native) {
            return status;
        }
    }
    for (dlx_context *context = gpu->all; context != NULL; context = context->next) {
        if (context->native == native) {
            *out = context;
            return DLX_OK;
        }
    }
    return make_context(gpu, native, device_id, out, err);
}

bool
dlx_context_relocate(dlx_gpu *gpu, dlx_stream stream, dlx_context **context)
{
    void *native = NULL;
    int32_t device_id = -1;
    dlx_context *found = NULL;
    if (dlx_stream_is_default(stream) ||
        gpu->contexts->locate(gpu, (void *)stream.handle, &native, &device_id) !=
            DLX_GPU_SUCCESS ||
        native == NULL) {
        return false;
    }
    pthread_mutex_lock(&gpu->mutex);
    dlx_status status = find_native(gpu, native, device_id, &found, NULL);
    bool is_news = status == DLX_OK && found != *context;
    if (is_news) {
        remember_foreign(gpu, stream.handle, found);
        *context = found;
    }
    pthread_mutex_unlock(&gpu->mutex);
    return is_news;
}

dlx_status
dlx_context_of(dlx_gpu *gpu, dlx_stream stream, dlx_context **out, dlx_error *err)
{
    int32_t device_id = stream.device_id;
    bool is_active = true;
    *out = NULL;
    if (!dlx_stream_is_default(stream)) {
        *out = find_foreign(gpu, stream.handle);
        if (*out != NULL) {
            return DLX_OK;
        }
        if (device_id >= 0 && device_id < gpu->device_count &&
            atomic_load_explicit(&gpu->primary[device_id], memory_order_acquire) ==
                NULL) {
            gpu->contexts->is_active(gpu, device_id, &is_active);
        }
        /* A stream without an active primary context lives in another one; retaining
         * the primary would make a context that nobody asked for. */
        if (!is_active && dlx_context_relocate(gpu, stream, out)) {
            return DLX_OK;
        }
    }
    return dlx_context_primary(gpu, device_id, out, err);
}

int32_t
dlx_device_of_address(uintptr_t address)
{
    enum { DEVICE_ORDINAL = 9 };
    dlx_gpu *gpu;
    int device = 0;
    if (address == 0 || dlx_gpu_get(kDLCUDA, &gpu, NULL) != DLX_OK ||
        gpu->call.pointer_get_attribute(&device, DEVICE_ORDINAL, address) !=
            DLX_GPU_SUCCESS) {
        return 0;
    }
    return device;
}
