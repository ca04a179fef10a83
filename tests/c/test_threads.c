/* SPDX-License-Identifier: Apache-2.0
 *
 * Many threads on one driver: nothing is lost, nothing is counted twice, and the number
 * of events stays within what they can need. Run under ThreadSanitizer as well.
 */
#include <pthread.h>
#include <stdlib.h>

#include "check.h"
#include "fake.h"

enum { THREADS = 8, ROUNDS = 1000 };
static const uint64_t LONG = 30000000000u;

static _Atomic long n_drops, n_expected, n_heard, n_asked;
static _Atomic bool is_over;
static dlx_event *_Atomic shared;

static void
drop(void *arg)
{
    (void)arg;
    atomic_fetch_add(&n_drops, 1);
}

static void
hear(void *arg, dlx_status status)
{
    (void)arg;
    CHECK_EQ(status, DLX_OK);
    atomic_fetch_add(&n_heard, 1);
}

static uint32_t
next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void
release_somehow(dlx_stream consumer, dlx_stream producer, bool is_deferred)
{
    dlx_release_request request = {&consumer, 1, producer, dlx_thread_id(), drop, NULL};
    atomic_fetch_add(&n_expected, 1);
    if (is_deferred) {
        dlx_release_defer(&request);
    } else if (dlx_release(&request, NULL) == DLX_RELEASE_NOW) {
        drop(NULL);
    }
}

static void
use_event(dlx_stream p, dlx_stream c)
{
    dlx_event *event;
    CHECK_EQ(dlx_event_record(p, &event, NULL), DLX_OK);
    CHECK_EQ(dlx_event_wait(event, c, NULL), DLX_OK);
    dlx_event_query(event, NULL);
    dlx_event_release(event);
}

static void
use_shared_event(dlx_stream c)
{
    dlx_event *event = dlx_event_keep(atomic_load(&shared));
    CHECK_EQ(dlx_event_wait(event, c, NULL), DLX_OK);
    dlx_event_release(event);
}

static void
copy_something(void)
{
    char src[16] = "x";
    void *dst;
    dlx_event *done;
    CHECK_EQ(dlx_pinned_alloc(kDLCUDA, 0, sizeof(src), &dst, NULL), DLX_OK);
    CHECK_EQ(dlx_copy_to_host(dst, kDLCUDA, 0, (uintptr_t)src, sizeof(src), NULL, &done,
                              NULL),
             DLX_OK);
    dlx_event_release(done);
    dlx_pinned_free(dst);
}

static void *
work(void *seed)
{
    uint32_t state = (uint32_t)(uintptr_t)seed * 2654435761u + 1;
    dlx_stream none = {0};
    fake_set_current(&fake.primary[0]);
    for (int i = 0; i < ROUNDS; i++) {
        dlx_stream p = fake_stream_at((int)(next_random(&state) % FAKE_STREAMS));
        dlx_stream c = fake_stream_at((int)(next_random(&state) % FAKE_STREAMS));
        switch (next_random(&state) % 9) {
            case 0:
                release_somehow(c, p, false);
                break;
            case 1:
                release_somehow(c, none, false);
                break;
            case 2:
                release_somehow(c, p, true);
                break;
            case 3:
                use_event(p, c);
                break;
            case 4:
                use_shared_event(c);
                break;
            case 5:
                if (dlx_stream_notify(p, hear, NULL, NULL) == DLX_OK) {
                    atomic_fetch_add(&n_asked, 1);
                }
                break;
            case 6:
                copy_something();
                break;
            case 7:
                dlx_reap(4);
                break;
            default:
                CHECK_EQ(dlx_push(p, c, 0, NULL), DLX_OK);
        }
    }
    return NULL;
}

/* The driver's own thread. */
static void *
call_back(void *unused)
{
    (void)unused;
    while (!atomic_load(&is_over)) {
        if (fake_run_callbacks(0) == 0) {
            check_pause();
        }
    }
    return NULL;
}

static void
test_many_threads_lose_nothing(void)
{
    pthread_t threads[THREADS], driver;
    dlx_event *event;
    dlx_counters c;
    fake_install();
    CHECK_EQ(dlx_event_record(fake_stream_at(0), &event, NULL), DLX_OK);
    atomic_store(&shared, event);
    pthread_create(&driver, NULL, call_back, NULL);
    for (uintptr_t i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, work, (void *)i);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK_EQ(dlx_drain(LONG), 0);
    atomic_store(&is_over, true);
    pthread_join(driver, NULL);
    dlx_event_release(event);
    dlx_counters_read(&c);
    CHECK(atomic_load(&n_expected) > ROUNDS);
    CHECK_EQ(atomic_load(&n_drops), atomic_load(&n_expected));
    CHECK_EQ(atomic_load(&n_heard), atomic_load(&n_asked));
    CHECK_EQ(c.events_in_use, 0);
    CHECK_EQ(c.leaked, 0);
    CHECK_EQ(c.pinned_bytes, 0);
    CHECK_EQ(c.events_created, atomic_load(&fake.n_events));
    /* Each thread keeps one a context, and has one in hand and one on its way into use;
     * so do the reaper, the driver's thread and this one. */
    CHECK(atomic_load(&fake.n_events) <= (long)atomic_load(&fake.peak_in_use) +
                                             FAKE_DEVICES * DLX_POOL_PREWARM +
                                             (THREADS + 3) * (FAKE_DEVICES + 2));
    CHECK_EQ(atomic_load(&fake.unrelaxed), 0);
}

static void *
push_only(void *unused)
{
    (void)unused;
    fake_set_current(&fake.primary[0]);
    for (int i = 0; i < ROUNDS; i++) {
        dlx_push(fake_stream_at(i % 5), fake_stream_at(5), 0, NULL);
        dlx_push(fake_stream_at(6 + i % 2), fake_stream_at(5), 0, NULL);
    }
    return NULL;
}

static void
test_events_in_existence_stay_within_prewarm_and_one_a_thread_and_context(void)
{
    pthread_t threads[THREADS];
    fake_install();
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < THREADS; i++) {
            pthread_create(&threads[i], NULL, push_only, NULL);
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
        }
    }
    CHECK(atomic_load(&fake.n_events) <= 2 * (DLX_POOL_PREWARM + THREADS));
}

static void *
load_and_push(void *unused)
{
    (void)unused;
    fake_set_current(&fake.primary[0]);
    CHECK_EQ(dlx_push(fake_stream_at(0), fake_stream_at(7), 0, NULL), DLX_OK);
    return NULL;
}

static void
test_contexts_are_made_once_however_many_threads_come_first(void)
{
    pthread_t threads[THREADS];
    fake_install();
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, load_and_push, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK_EQ(fake_count(DLX_CALL_primary_retain), 1);
}

const check_test thread_tests[] = {
#define T(name) {#name, name}
    T(test_many_threads_lose_nothing),
    T(test_events_in_existence_stay_within_prewarm_and_one_a_thread_and_context),
    T(test_contexts_are_made_once_however_many_threads_come_first),
    {0},
};
