/* SPDX-License-Identifier: Apache-2.0
 *
 * Events, one pool per context. Each thread keeps at most one free event per context to
 * itself, so that a push takes no lock and no shared cache line; the others wait in a
 * lock-free list. An event may be recorded again at once: waits refer to what was
 * recorded when they were made. Creation is serialised, since drivers are slow at it in
 * parallel. No GIL. Threads: any, also a driver's callback. Pools leak at exit, and
 * after a fork.
 */
#include "alloc.h"
#include "gpu.h"

/* ---- The shared free list ---- */

/* The list is a stack of indices, not pointers, with a tag that changes at each step:
 * an event that went out and came back between a load and its exchange is noticed. */
static dlx_event *
event_at(dlx_event_pool *pool, uint32_t index)
{
    uint32_t k = 0;
    uint32_t first = 0, size = DLX_POOL_FIRST;
    while (index - first >= size) {
        first += size;
        size *= 2;
        k++;
    }
    return atomic_load_explicit(&pool->chunks[k], memory_order_acquire) +
           (index - first);
}

static void
push_shared(dlx_event *event)
{
    dlx_event_pool *pool = &event->context->events;
    uint64_t head = atomic_load_explicit(&pool->head, memory_order_relaxed);
    uint64_t next;
    do {
        atomic_store_explicit(&event->next, (uint32_t)head, memory_order_relaxed);
        next = ((head >> 32) + 1) << 32 | (event->index + 1);
    } while (!atomic_compare_exchange_weak_explicit(
        &pool->head, &head, next, memory_order_release, memory_order_relaxed));
}

static dlx_event *
pop_shared(dlx_event_pool *pool)
{
    uint64_t head = atomic_load_explicit(&pool->head, memory_order_acquire);
    uint64_t next;
    dlx_event *event;
    do {
        if ((uint32_t)head == 0) {
            return NULL;
        }
        event = event_at(pool, (uint32_t)head - 1);
        next = ((head >> 32) + 1) << 32 |
               atomic_load_explicit(&event->next, memory_order_relaxed);
    } while (!atomic_compare_exchange_weak_explicit(
        &pool->head, &head, next, memory_order_acquire, memory_order_acquire));
    return event;
}

/* ---- Each thread's own event ---- */

enum { N_SLOTS = 16 };
static _Thread_local dlx_event *own[N_SLOTS];
static _Thread_local bool is_registered;
static pthread_key_t at_thread_exit;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

static void
give_back_own(void *unused)
{
    (void)unused;
    for (size_t i = 0; i < N_SLOTS; i++) {
        if (own[i] != NULL) {
            push_shared(own[i]);
            own[i] = NULL;
        }
    }
    is_registered = false;
}

static void
make_key(void)
{
    pthread_key_create(&at_thread_exit, give_back_own);
}

void
dlx_pool_push(dlx_event *event)
{
    dlx_event **place = &own[event->context->slot % N_SLOTS];
    if (*place != NULL && !atomic_load(&(*place)->context->gpu->is_retired)) {
        push_shared(event);
        return;
    }
    if (!is_registered) {
        pthread_once(&key_once, make_key);
        if (pthread_setspecific(at_thread_exit, own) != 0) {
            push_shared(event);
            return;
        }
        is_registered = true;
    }
    *place = event;
}

/* ---- Creation ---- */

/* Under pool->mutex. The struct first, so that a created event always has a place. */
static dlx_status
create_event(dlx_context *context, dlx_event **out, dlx_error *err)
{
    dlx_event_pool *pool = &context->events;
    dlx_gpu *gpu = context->gpu;
    uint32_t k = 0, first = 0, size = DLX_POOL_FIRST;
    void *native = NULL;
    int saved, mode;
    while (pool->count - first >= size) {
        first += size;
        size *= 2;
        k++;
    }
    dlx_event *chunk = k < DLX_POOL_CHUNKS ? atomic_load(&pool->chunks[k]) : NULL;
    if (chunk == NULL && k < DLX_POOL_CHUNKS) {
        chunk = dlx_alloc_zeroed(size * sizeof(*chunk));
        atomic_store_explicit(&pool->chunks[k], chunk, memory_order_release);
    }
    if (chunk == NULL) {
        return dlx_fail(err, DLX_NO_MEMORY, "dlx_event_record",
                        "out of memory after %u events", (unsigned)pool->count);
    }
    dlx_relaxed_enter(gpu, &mode);
    int code = gpu->contexts->enter(context, &saved);
    if (code == DLX_GPU_SUCCESS) {
        code = gpu->call.event_create(&native, DLX_EVENT_DISABLE_TIMING);
        gpu->contexts->leave(context, saved);
    }
    dlx_relaxed_leave(gpu, mode);
    if (code != DLX_GPU_SUCCESS) {
        return dlx_gpu_fail(gpu, DLX_CALL_event_create, code, err);
    }
    DLX_COUNT(events_created);
    dlx_event *event = &chunk[pool->count - first];
    event->native = native;
    event->context = context;
    event->index = pool->count++;
    *out = event;
    return DLX_OK;
}

void
dlx_pool_quarantine(dlx_event *event)
{
    if (DLX_MUTATED(quarantine)) {
        dlx_pool_push(event);
        return;
    }
    /* Destroying is legal while work refers to it; the struct stays, unused. */
    event->context->gpu->call.event_destroy(event->native);
    event->native = NULL;
    DLX_COUNT(quarantined);
}

/* Undo dlx_pool_init, before anyone else has seen the pool. */
static void
destroy_pool(dlx_context *context)
{
    dlx_event_pool *pool = &context->events;
    for (uint32_t i = 0; i < pool->count; i++) {
        dlx_pool_quarantine(event_at(pool, i));
    }
    for (size_t k = 0; k < DLX_POOL_CHUNKS; k++) {
        free(atomic_load(&pool->chunks[k]));
    }
    pthread_mutex_destroy(&pool->mutex);
}

dlx_status
dlx_pool_init(dlx_context *context, dlx_error *err)
{
    pthread_mutex_init(&context->events.mutex, NULL);
    for (int i = 0; i < DLX_POOL_PREWARM; i++) {
        dlx_event *event;
        dlx_status status = create_event(context, &event, err);
        if (status != DLX_OK) {
            destroy_pool(context);
            return status;
        }
        push_shared(event);
    }
    return DLX_OK;
}

dlx_status
dlx_pool_pop(dlx_context *context, dlx_event **out, dlx_error *err)
{
    dlx_event **place = &own[context->slot % N_SLOTS];
    dlx_event *event = *place;
    if (event != NULL && event->context == context) {
        *place = NULL;
        *out = event;
        return DLX_OK;
    }
    event = pop_shared(&context->events);
    if (event != NULL) {
        *out = event;
        return DLX_OK;
    }
    pthread_mutex_lock(&context->events.mutex);
    dlx_status status = DLX_OK;
    *out = pop_shared(&context->events); /* given back while we waited? */
    if (*out == NULL) {
        status = create_event(context, out, err);
    }
    pthread_mutex_unlock(&context->events.mutex);
    return status;
}
