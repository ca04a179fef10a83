/* SPDX-License-Identifier: Apache-2.0
 *
 * The fake driver's streams, events and callbacks: what captures, what blocks, what an
 * event is recorded on.
 */
#include <stdlib.h>
#include <string.h>

#include "fake_calls.h"

enum { MAX_CALLBACKS = 4096 };

typedef struct queued {
    fake_stream *stream;
    dlx_gpu_callback fn;
    void (*host_fn)(void *);
    void *arg;
} queued;
static queued callbacks[MAX_CALLBACKS];
static int n_callbacks;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* ---- Streams ---- */

static bool
is_known(const fake_stream *s)
{
    return (s >= fake.legacy && s < fake.legacy + FAKE_DEVICES) ||
           (s >= fake.per_thread && s < fake.per_thread + FAKE_DEVICES) ||
           (s >= fake.streams && s < fake.streams + FAKE_STREAMS) ||
           (s >= fake.made && s < fake.made + atomic_load(&fake.n_made)) ||
           s == &fake.foreign;
}

static bool
is_legacy(const fake_stream *s)
{
    return s >= fake.legacy && s < fake.legacy + FAKE_DEVICES;
}

static int
resolve(void *handle, fake_stream **out)
{
    fake_context *current = fake_current();
    uintptr_t value = (uintptr_t)handle;
    if (value <= 2) {
        if (current == NULL) {
            return DLX_GPU_INVALID_CONTEXT;
        }
        *out = value == 2 ? &fake.per_thread[current->device]
                          : &fake.legacy[current->device];
        return DLX_GPU_SUCCESS;
    }
    *out = handle;
    if (!is_known(*out)) {
        return DLX_GPU_INVALID_HANDLE;
    }
    return current == NULL ? DLX_GPU_INVALID_CONTEXT : DLX_GPU_SUCCESS;
}

/* User streams are blocking ones: the legacy stream waits for them. */
static bool
is_implicit(const fake_stream *s)
{
    for (int i = 0; is_legacy(s) && i < FAKE_STREAMS; i++) {
        if (fake.streams[i].context == s->context &&
            atomic_load(&fake.streams[i].capture_status) != 0) {
            return true;
        }
    }
    return false;
}

/* Resolve, then do what every call on a stream does. */
static int
begin_stream(dlx_gpu_call call, void *handle, void *event, fake_stream **out)
{
    *out = NULL;
    int unresolved = resolve(handle, out);
    int code = fake_begin_on(call, *out, event);
    return code != DLX_GPU_SUCCESS ? code : unresolved;
}

int
fake_stream_get_capture_info(void *stream, int *status, uint64_t *id, void **graph,
                             void **dependencies, size_t *n)
{
    fake_stream *s;
    int code = begin_stream(DLX_CALL_stream_get_capture_info, stream, NULL, &s);
    (void)graph, (void)dependencies, (void)n;
    if (code != DLX_GPU_SUCCESS) {
        return code;
    }
    if (is_implicit(s)) {
        return DLX_GPU_CAPTURE_IMPLICIT;
    }
    *status = atomic_load(&s->capture_status);
    *id = atomic_load(&s->capture_id);
    return code;
}

int
fake_stream_create(void **stream, unsigned flags)
{
    int code = fake_begin(DLX_CALL_stream_create);
    fake_want_relaxed();
    if (code != DLX_GPU_SUCCESS) {
        return code;
    }
    if (fake_current() == NULL || flags != DLX_STREAM_NON_BLOCKING) {
        return DLX_GPU_INVALID_CONTEXT;
    }
    fake_stream *s = &fake.made[atomic_fetch_add(&fake.n_made, 1)];
    s->context = fake_current();
    *stream = s;
    return code;
}

static bool
is_blocked(fake_stream *s)
{
    fake_stream *before = atomic_load(&s->waits_for);
    return atomic_load(&s->is_blocked) ||
           (before != NULL && atomic_load(&before->is_blocked));
}

int
fake_stream_query(void *stream)
{
    fake_stream *s;
    int code = begin_stream(DLX_CALL_stream_query, stream, NULL, &s);
    fake_want_relaxed();
    if (code != DLX_GPU_SUCCESS) {
        return code;
    }
    if (atomic_load(&s->capture_status) != 0 || is_implicit(s)) {
        atomic_store(&s->capture_status, DLX_CAPTURE_STATUS_INVALIDATED);
        return DLX_GPU_CAPTURE_UNSUPPORTED;
    }
    return is_blocked(s) ? DLX_GPU_NOT_READY : DLX_GPU_SUCCESS;
}

int
fake_stream_synchronize(void *stream)
{
    fake_stream *s;
    fake_want_relaxed();
    return begin_stream(DLX_CALL_stream_synchronize, stream, NULL, &s);
}

int
fake_stream_get_device(void *stream, int *device)
{
    fake_stream *s;
    int code = begin_stream(DLX_CALL_stream_get_device, stream, NULL, &s);
    if (code == DLX_GPU_SUCCESS) {
        *device = s->context->device;
    }
    return code;
}

int
fake_stream_get_context(void *stream, void **context)
{
    fake_stream *s;
    int code = begin_stream(DLX_CALL_stream_get_context, stream, NULL, &s);
    if (code == DLX_GPU_SUCCESS) {
        *context = s->context;
    }
    return code;
}

int
fake_copy_to_host(void *dst, uintptr_t src, size_t nbytes, void *stream)
{
    fake_stream *s;
    int code = begin_stream(DLX_CALL_copy_to_host, stream, NULL, &s);
    fake_want_relaxed();
    if (code == DLX_GPU_SUCCESS) {
        memcpy(dst, (const void *)src, nbytes);
    }
    return code;
}

/* ---- Events ---- */

int
fake_event_create(void **event, unsigned flags)
{
    int code = fake_begin(DLX_CALL_event_create);
    fake_want_relaxed();
    if (code != DLX_GPU_SUCCESS) {
        return code;
    }
    fake_context *context = fake_current();
    if (context == NULL) {
        return DLX_GPU_INVALID_CONTEXT;
    }
    fake_event *e = calloc(1, sizeof(*e));
    e->context = context;
    e->flags = flags;
    *event = e;
    atomic_fetch_add(&fake.n_events, 1);
    return code;
}

/* Destroyed events are not freed, so that a use of one is seen; chained, so that the
 * leak checker finds them. */
static _Atomic(fake_event *) graveyard;

int
fake_event_destroy(void *event)
{
    fake_event *e = event;
    int code = fake_begin(DLX_CALL_event_destroy);
    atomic_store(&e->is_destroyed, true);
    atomic_store(&e->recorded_on,
                 (fake_stream *)(void *)atomic_exchange(&graveyard, e));
    atomic_fetch_sub(&fake.n_events, 1);
    return code;
}

/* Sampled, so short by what each thread is about to add. */
static void
note_use(void)
{
    dlx_counters c;
    dlx_counters_read(&c);
    uint64_t peak = atomic_load(&fake.peak_in_use);
    while (c.events_in_use > peak &&
           !atomic_compare_exchange_weak(&fake.peak_in_use, &peak, c.events_in_use)) {
    }
}

int
fake_event_record(void *event, void *stream)
{
    fake_event *e = event;
    fake_stream *s;
    int code = begin_stream(DLX_CALL_event_record, stream, event, &s);
    note_use();
    if (code != DLX_GPU_SUCCESS) {
        return code;
    }
    if (atomic_load(&e->is_destroyed) || e->context != s->context) {
        return DLX_GPU_INVALID_HANDLE;
    }
    if (is_implicit(s)) {
        return DLX_GPU_CAPTURE_IMPLICIT;
    }
    atomic_store(&e->recorded_on, s);
    atomic_store(&e->capture_id, atomic_load(&s->capture_status) != 0
                                     ? atomic_load(&s->capture_id)
                                     : 0);
    return code;
}

int
fake_stream_wait_event(void *stream, void *event, unsigned flags)
{
    fake_event *e = event;
    fake_stream *s;
    int code = begin_stream(DLX_CALL_stream_wait_event, stream, event, &s);
    (void)flags;
    if (code != DLX_GPU_SUCCESS) {
        return code;
    }
    if (is_implicit(s)) {
        return DLX_GPU_CAPTURE_IMPLICIT;
    }
    uint64_t id = atomic_load(&e->capture_id);
    bool is_capturing = atomic_load(&s->capture_status) != 0;
    if (is_capturing && id != atomic_load(&s->capture_id)) {
        atomic_store(&s->capture_status, DLX_CAPTURE_STATUS_INVALIDATED);
        return DLX_GPU_CAPTURE_ISOLATION;
    }
    if (id != 0 && !is_capturing) {
        atomic_store(&s->capture_id, id);
        atomic_store(&s->capture_status, DLX_CAPTURE_STATUS_ACTIVE);
    }
    atomic_store(&s->waits_for, atomic_load(&e->recorded_on));
    return code;
}

int
fake_event_query(void *event)
{
    fake_event *e = event;
    int code = fake_begin_on(DLX_CALL_event_query, NULL, event);
    fake_want_relaxed();
    if (code != DLX_GPU_SUCCESS) {
        return code;
    }
    if (fake_current() == NULL) {
        return DLX_GPU_INVALID_CONTEXT;
    }
    if (atomic_load(&e->capture_id) != 0) {
        return DLX_GPU_CAPTURED_EVENT;
    }
    fake_stream *s = atomic_load(&e->recorded_on);
    return s != NULL && is_blocked(s) ? DLX_GPU_NOT_READY : DLX_GPU_SUCCESS;
}

int
fake_event_synchronize(void *event)
{
    int code = fake_begin_on(DLX_CALL_event_synchronize, NULL, event);
    fake_want_relaxed();
    return code == DLX_GPU_SUCCESS && fake_current() == NULL ? DLX_GPU_INVALID_CONTEXT
                                                             : code;
}

/* ---- Callbacks ---- */

static int
queue_callback(fake_stream *s, queued entry)
{
    entry.stream = s;
    pthread_mutex_lock(&mutex);
    callbacks[n_callbacks++] = entry;
    pthread_mutex_unlock(&mutex);
    return DLX_GPU_SUCCESS;
}

int
fake_stream_add_callback(void *stream, dlx_gpu_callback fn, void *arg, unsigned flags)
{
    fake_stream *s;
    int code = begin_stream(DLX_CALL_stream_add_callback, stream, NULL, &s);
    (void)flags;
    fake_want_relaxed();
    return code != DLX_GPU_SUCCESS ? code
                                   : queue_callback(s, (queued){.fn = fn, .arg = arg});
}

int
fake_launch_host_func(void *stream, void (*fn)(void *), void *arg)
{
    fake_stream *s;
    int code = begin_stream(DLX_CALL_launch_host_func, stream, NULL, &s);
    fake_want_relaxed();
    return code != DLX_GPU_SUCCESS
               ? code
               : queue_callback(s, (queued){.host_fn = fn, .arg = arg});
}

/* Not a call of CUDA or HIP: only backends of other device types have it. */
int
fake_event_add_callback(void *event, dlx_gpu_callback fn, void *arg)
{
    (void)event;
    (void)fn;
    (void)arg;
    return DLX_GPU_NOT_SUPPORTED;
}

static bool
take_ready(queued *out)
{
    bool is_found = false;
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < n_callbacks && !is_found; i++) {
        if (!is_blocked(callbacks[i].stream)) {
            *out = callbacks[i];
            callbacks[i] = callbacks[--n_callbacks];
            is_found = true;
        }
    }
    pthread_mutex_unlock(&mutex);
    return is_found;
}

int
fake_run_callbacks(int code)
{
    queued entry;
    int n = 0;
    while (take_ready(&entry)) {
        if (entry.fn != NULL) {
            entry.fn(entry.stream, code, entry.arg);
        } else {
            entry.host_fn(entry.arg);
        }
        n++;
    }
    return n;
}

void
fake_clear_callbacks(void)
{
    n_callbacks = 0;
}
