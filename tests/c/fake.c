/* SPDX-License-Identifier: Apache-2.0
 *
 * The scriptable fake driver of fake.h. Streams and events are pointers into it, so
 * that a handle tells at once what it is.
 */
#include "fake_calls.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"

fake_driver fake;
atomic_long dlx_alloc_countdown; /* the extension has its own */

enum { MAX_DEPTH = 8, MODE_GLOBAL = 0 };

static _Thread_local fake_context *stack[MAX_DEPTH];
static _Thread_local int depth;
static _Thread_local int hip_device;
static _Thread_local int mode;

/* ---- What every call does first ---- */

static bool
is_planned_failure(dlx_gpu_call call)
{
    int wanted = atomic_load(&fake.fail_call);
    if (atomic_load(&fake.fail_nth) <= 0 || (wanted >= 0 && wanted != (int)call)) {
        return false;
    }
    return atomic_fetch_sub(&fake.fail_nth, 1) == 1;
}

int
fake_begin_on(dlx_gpu_call call, void *stream, void *event)
{
    atomic_fetch_add(&fake.counts[call], 1);
    atomic_fetch_add(&fake.n_calls, 1);
    long place = atomic_fetch_add(&fake.n_log, 1);
    if (place < FAKE_LOG) {
        atomic_store(&fake.log[place].call, (int)call);
        atomic_store(&fake.log[place].stream, stream);
        atomic_store(&fake.log[place].event, event);
    }
    if (atomic_load(&fake.is_in_callback)) {
        return DLX_GPU_NOT_PERMITTED;
    }
    return is_planned_failure(call) ? atomic_load(&fake.fail_code)
                                    : atomic_load(&fake.sticky);
}

int
fake_begin(dlx_gpu_call call)
{
    return fake_begin_on(call, NULL, NULL);
}

void
fake_want_relaxed(void)
{
    if (mode != DLX_CAPTURE_MODE_RELAXED) {
        atomic_fetch_add(&fake.unrelaxed, 1);
    }
}

fake_context *
fake_current(void)
{
    if (atomic_load(&fake.is_hip)) {
        return &fake.primary[hip_device];
    }
    return depth > 0 ? stack[depth - 1] : NULL;
}

void
fake_set_current(fake_context *context)
{
    depth = context != NULL;
    stack[0] = context;
}

int
fake_mode(void)
{
    return mode;
}

/* ---- Contexts, memory, the rest ---- */

int
fake_init(unsigned flags)
{
    (void)flags;
    return fake_begin(DLX_CALL_init);
}

int
fake_driver_get_version(int *version)
{
    *version = 13000;
    return fake_begin(DLX_CALL_driver_get_version);
}

int
fake_get_error_name(int code, const char **text)
{
    *text = code == DLX_GPU_INVALID_HANDLE ? "CUDA_ERROR_INVALID_HANDLE" : "CUDA_ERROR";
    return DLX_GPU_SUCCESS;
}

int
fake_get_error_string(int code, const char **text)
{
    (void)code;
    *text = "fake description";
    return DLX_GPU_SUCCESS;
}

int
fake_device_get_count(int *count)
{
    *count = FAKE_DEVICES;
    return fake_begin(DLX_CALL_device_get_count);
}

int
fake_device_get(int *device, int ordinal)
{
    *device = ordinal;
    return fake_begin(DLX_CALL_device_get);
}

int
fake_primary_retain(void **context, int device)
{
    int code = fake_begin(DLX_CALL_primary_retain);
    fake_want_relaxed();
    if (code == DLX_GPU_SUCCESS) {
        atomic_store(&fake.has_primary[device], true);
        *context = &fake.primary[device];
    }
    return code;
}

int
fake_primary_get_state(int device, unsigned *flags, int *is_active)
{
    *flags = 0;
    *is_active = atomic_load(&fake.has_primary[device]);
    return fake_begin(DLX_CALL_primary_get_state);
}

int
fake_context_push(void *context)
{
    int code = fake_begin(DLX_CALL_context_push);
    if (code == DLX_GPU_SUCCESS && depth < MAX_DEPTH) {
        stack[depth++] = context;
    }
    return code;
}

int
fake_context_pop(void **context)
{
    int code = fake_begin(DLX_CALL_context_pop);
    if (depth > 0) {
        *context = stack[--depth];
    }
    return code;
}

int
fake_context_get_current(void **context)
{
    int code = fake_begin(DLX_CALL_context_get_current);
    *context = fake_current();
    return code;
}

int
fake_context_get_device(int *device)
{
    int code = fake_begin(DLX_CALL_context_get_device);
    *device = fake_current() != NULL ? fake_current()->device : -1;
    return code;
}

int
fake_device_get_current(int *device)
{
    *device = hip_device;
    return fake_begin(DLX_CALL_device_get_current);
}

int
fake_device_set_current(int device)
{
    int code = fake_begin(DLX_CALL_device_set_current);
    if (code == DLX_GPU_SUCCESS) {
        hip_device = device;
    }
    return code;
}

int
fake_exchange_capture_mode(int *out)
{
    int code = fake_begin(DLX_CALL_exchange_capture_mode);
    if (code == DLX_GPU_SUCCESS) {
        int before = mode;
        mode = *out;
        *out = before;
    }
    return code;
}

int
fake_host_alloc(void **memory, size_t nbytes, unsigned flags)
{
    int code = fake_begin(DLX_CALL_host_alloc);
    (void)flags;
    fake_want_relaxed();
    if (code == DLX_GPU_SUCCESS) {
        *memory = aligned_alloc(4096, (nbytes + 4095) / 4096 * 4096);
        atomic_fetch_add(&fake.n_pinned, 1);
    }
    return code;
}

int
fake_pointer_get_attribute(void *out, int attribute, uintptr_t address)
{
    (void)attribute;
    *(int *)out = address == 0x1000 ? 1 : 0;
    return fake_begin(DLX_CALL_pointer_get_attribute);
}

int
fake_host_free(void *memory)
{
    free(memory);
    atomic_fetch_sub(&fake.n_pinned, 1);
    return fake_begin(DLX_CALL_host_free);
}

/* ---- Set-up ---- */

static const dlx_gpu_calls calls = {
#define FAKE_CALL(field, ...) .field = fake_##field,
    DLX_GPU_CALLS(FAKE_CALL)
#undef FAKE_CALL
};

void
fake_install(void)
{
    memset(&fake, 0, sizeof(fake));
    atomic_store(&fake.fail_call, -1);
    for (int d = 0; d < FAKE_DEVICES; d++) {
        fake.primary[d] = (fake_context){d, true};
        atomic_store(&fake.has_primary[d], true);
        fake.legacy[d].context = &fake.primary[d];
        fake.per_thread[d].context = &fake.primary[d];
    }
    fake.other = (fake_context){0, false};
    fake.foreign.context = &fake.other;
    for (int i = 0; i < FAKE_STREAMS; i++) {
        fake.streams[i].context = &fake.primary[i >= FAKE_STREAMS - 2];
    }
    fake_clear_callbacks();
    mode = MODE_GLOBAL;
    fake_set_current(&fake.primary[0]);
    dlx_gpu_install(kDLCUDA, &calls, "fake")->device_count = FAKE_DEVICES;
}

void
fake_install_hip(void)
{
    fake_install();
    atomic_store(&fake.is_hip, true);
    dlx_gpu_install(kDLROCM, &calls, "fake HIP")->device_count = FAKE_DEVICES;
}

void
fake_fail(int call, long nth, int code)
{
    atomic_store(&fake.fail_call, call);
    atomic_store(&fake.fail_code, code);
    atomic_store(&fake.fail_nth, nth);
}

void
fake_forget(void)
{
    for (int i = 0; i < DLX_N_CALLS; i++) {
        atomic_store(&fake.counts[i], 0);
    }
    atomic_store(&fake.n_calls, 0);
    atomic_store(&fake.n_log, 0);
}

long
fake_calls(void)
{
    return atomic_load(&fake.n_calls);
}

long
fake_count(dlx_gpu_call call)
{
    return atomic_load(&fake.counts[call]);
}

dlx_stream
fake_stream_at(int i)
{
    return (dlx_stream){kDLCUDA, i >= FAKE_STREAMS - 2, (uintptr_t)&fake.streams[i]};
}

dlx_stream
fake_legacy(int device)
{
    return (dlx_stream){kDLCUDA, device, DLX_CUDA_LEGACY};
}

dlx_stream
fake_per_thread(int device)
{
    return (dlx_stream){kDLCUDA, device, DLX_CUDA_PER_THREAD};
}

static fake_stream *
stream_of(dlx_stream stream)
{
    return dlx_stream_is_legacy(stream)       ? &fake.legacy[stream.device_id]
           : dlx_stream_is_per_thread(stream) ? &fake.per_thread[stream.device_id]
                                              : (fake_stream *)stream.handle;
}

void
fake_capture(dlx_stream stream, int status, uint64_t id)
{
    atomic_store(&stream_of(stream)->capture_status, status);
    atomic_store(&stream_of(stream)->capture_id, id);
}

void
fake_block(dlx_stream stream, bool is_blocked)
{
    atomic_store(&stream_of(stream)->is_blocked, is_blocked);
}
