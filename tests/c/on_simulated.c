/* SPDX-License-Identifier: Apache-2.0
 *
 * The lower half on the simulated CUDA driver: what the data say. The driver runs work
 * as late, and in as bad an order, as what was asked for allows, so a missing edge
 * shows.
 */
#include <pthread.h>
#include <stdio.h>

#include "check.h"
#include "sim.h"

static const uint64_t LONG = 20000000000u;
static const dlx_stream NO_PRODUCER = {0};
static _Atomic int n_drops;

static void
drop(void *arg)
{
    (void)arg;
    atomic_fetch_add(&n_drops, 1);
}

static dlx_release_result
release(dlx_stream consumer, dlx_stream producer)
{
    dlx_release_request request = {&consumer, 1, producer, dlx_thread_id(), drop, NULL};
    return dlx_release(&request, NULL);
}

/* All kinds of streams, on both devices. */
enum { N_KINDS = 8 };
static dlx_stream
stream_of_kind(int kind)
{
    int device = kind / 4;
    switch (kind % 4) {
        case 0:
            return (dlx_stream){kDLCUDA, device, DLX_CUDA_LEGACY};
        case 1:
            return (dlx_stream){kDLCUDA, device, DLX_CUDA_PER_THREAD};
        default:
            return sim_stream(device, kind % 4 == 2 ? 0 : DLX_STREAM_NON_BLOCKING);
    }
}

static void
test_the_simulated_driver_says_that_it_is_simulated(void)
{
    dlx_driver_info info;
    sim_open();
    dlx_driver_describe(kDLCUDA, &info);
    CHECK(info.is_loaded && info.is_simulated);
    CHECK_EQ(info.device_count, SIM_DEVICES);
}

static void
test_the_consumer_reads_what_the_producer_wrote_for_every_pair_of_streams(void)
{
    sim_open();
    void *current = sim_current();
    for (int i = 0; i < N_KINDS; i++) {
        for (int j = 0; j < N_KINDS; j++) {
            uint64_t cell = sim_cell(i / 4);
            dlx_stream p = stream_of_kind(i), c = stream_of_kind(j);
            sim_write(cell, 7, p);
            CHECK_EQ(dlx_push(p, c, 0, NULL), DLX_OK);
            CHECK_EQ(sim_read(cell, c), 7);
            CHECK(sim_current() == current);
        }
    }
    CHECK_EQ(sim_findings(), 0);
}

static void
test_a_push_is_counted_as_one_record_one_wait_and_two_queries(void)
{
    sim_open();
    dlx_stream p = sim_stream(0, 1), c = sim_stream(0, 1);
    CHECK_EQ(dlx_push(p, c, 0, NULL), DLX_OK);
    sim_forget();
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(dlx_push(p, c, 0, NULL), DLX_OK);
        CHECK_EQ(dlx_push(p, p, 0, NULL), DLX_OK);
    }
    CHECK_EQ(sim_count("cuEventRecord"), 10);
    CHECK_EQ(sim_count("cuStreamWaitEvent"), 10);
    CHECK_EQ(sim_count("cuStreamGetCaptureInfo"), 20);
    CHECK_EQ(sim_count_all(), 40);
    CHECK_EQ(sim_findings(), 0);
}

static void
test_a_held_producer_holds_the_consumer_but_neither_host_nor_others(void)
{
    sim_open();
    dlx_stream p = sim_stream(0, 1), c = sim_stream(0, 1), other = sim_stream(0, 1);
    uint64_t cell = sim_cell(0), spare = sim_cell(0);
    uint32_t *latch = sim_latch(p);
    sim_write(cell, 7, p);
    CHECK_EQ(dlx_push(p, c, 0, NULL), DLX_OK);
    uint32_t *seen = sim_pinned();
    sim_fetch(seen, cell, c);
    sim_write(spare, 5, other);
    CHECK_EQ(sim_read(spare, other), 5);
    CHECK_EQ(dlx_stream_query(c, NULL), DLX_NOT_READY);
    CHECK_EQ(*seen, 0);
    sim_open_latch(latch);
    CHECK_EQ(dlx_stream_synchronize(c, NULL), DLX_OK);
    CHECK_EQ(*seen, 7);
    CHECK_EQ(sim_findings(), 0);
}

static void
test_a_ready_event_covers_what_was_queued_before_it_and_nothing_after(void)
{
    sim_open();
    dlx_event *event;
    dlx_stream p = sim_stream(0, 1), c = sim_stream(0, 1);
    uint64_t cell = sim_cell(0);
    sim_write(cell, 7, p);
    CHECK_EQ(dlx_event_record(p, &event, NULL), DLX_OK);
    uint32_t *latch = sim_latch(p);
    CHECK_EQ(dlx_event_wait(event, c, NULL), DLX_OK);
    CHECK_EQ(sim_read(cell, c), 7); /* though the producer is held */
    CHECK_EQ(dlx_event_query(event, NULL), DLX_OK);
    dlx_event_release(event);
    sim_open_latch(latch);
    CHECK_EQ(dlx_stream_synchronize(p, NULL), DLX_OK);
    CHECK_EQ(sim_findings(), 0);
}

typedef struct shared {
    dlx_event *event;
    uint64_t cell;
    unsigned seen;
} shared;

static void *
read_in_another_thread(void *arg)
{
    shared *s = arg;
    dlx_stream own = {kDLCUDA, 0, DLX_CUDA_PER_THREAD};
    CHECK_EQ(dlx_event_wait(s->event, own, NULL), DLX_OK); /* no context is current */
    CHECK(sim_current() == NULL);
    s->seen = sim_read(s->cell, own);
    return NULL;
}

static void
test_an_event_of_a_per_thread_stream_is_waited_for_in_another_thread(void)
{
    sim_open();
    pthread_t thread;
    dlx_stream own = {kDLCUDA, 0, DLX_CUDA_PER_THREAD};
    shared s = {.cell = sim_cell(0)};
    sim_write(s.cell, 7, own);
    CHECK_EQ(dlx_event_record(own, &s.event, NULL), DLX_OK);
    pthread_create(&thread, NULL, read_in_another_thread, &s);
    pthread_join(thread, NULL);
    CHECK_EQ(s.seen, 7);
    dlx_event_release(s.event);
    CHECK_EQ(sim_findings(), 0);
}

/* The consumer still reads when the producer writes again: only an edge keeps them
 * apart. */
static void
test_an_edge_keeps_the_producer_from_writing_what_is_still_read(void)
{
    sim_open();
    for (int i = 0; i < N_KINDS; i++) {
        for (int j = 0; j < N_KINDS; j++) {
            dlx_stream p = stream_of_kind(i), c = stream_of_kind(j);
            uint64_t cell = sim_cell(p.device_id);
            uint32_t *seen = sim_pinned();
            sim_write(cell, 7, p);
            CHECK_EQ(dlx_push(p, c, 0, NULL), DLX_OK);
            sim_fetch(seen, cell, c);
            int drops = atomic_load(&n_drops);
            if (release(c, p) == DLX_RELEASE_LATER) {
                CHECK_EQ(p.handle, DLX_CUDA_PER_THREAD);
                CHECK_EQ(dlx_drain(LONG), 0);
                CHECK_EQ(atomic_load(&n_drops), drops + 1);
            }
            sim_write(cell, 9, p);
            CHECK_EQ(sim_read(cell, p), 9);
            CHECK_EQ(dlx_stream_synchronize(c, NULL), DLX_OK);
            CHECK_EQ(*seen, 7);
        }
    }
    CHECK_EQ(sim_findings(), 0);
}

static void *
release_elsewhere(void *request)
{
    CHECK(sim_current() == NULL);
    CHECK_EQ(dlx_release(request, NULL), DLX_RELEASE_NOW);
    return NULL;
}

/* Its handle would mean another stream there. */
static void
test_a_per_thread_consumer_may_be_released_in_another_thread(void)
{
    sim_open();
    pthread_t thread;
    dlx_stream p = sim_stream(0, 1), c = {kDLCUDA, 0, DLX_CUDA_PER_THREAD};
    dlx_release_request request = {&c, 1, p, dlx_thread_id(), drop, NULL};
    uint64_t cell = sim_cell(0);
    uint32_t *seen = sim_pinned();
    sim_write(cell, 7, p);
    CHECK_EQ(dlx_push(p, c, 0, NULL), DLX_OK);
    sim_fetch(seen, cell, c);
    pthread_create(&thread, NULL, release_elsewhere, &request);
    pthread_join(thread, NULL);
    sim_write(cell, 9, p);
    CHECK_EQ(sim_read(cell, p), 9);
    CHECK_EQ(dlx_stream_synchronize(c, NULL), DLX_OK);
    CHECK_EQ(*seen, 7);
    CHECK_EQ(sim_findings(), 0);
}

static void
test_a_park_lasts_until_the_consumers_work_is_done(void)
{
    sim_open();
    dlx_stream c = sim_stream(1, 1);
    uint32_t *latch = sim_latch(c);
    sim_forget();
    CHECK_EQ(release(c, NO_PRODUCER), DLX_RELEASE_LATER);
    CHECK_EVENTUALLY(sim_count("cuEventQuery") >= 3);
    CHECK_EQ(atomic_load(&n_drops), 0);
    CHECK_EQ(sim_count("cuEventRecord"), 1);
    CHECK_EQ(sim_count("cuStreamWaitEvent"), 0);
    sim_open_latch(latch);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(atomic_load(&n_drops), 1);
    CHECK_EQ(sim_findings(), 0);
}

/* ---- Capture ---- */

enum { MODE_GLOBAL = 0 };

static void
begin(dlx_stream stream)
{
    CHECK_EQ(sim.cuStreamBeginCapture_v2((void *)stream.handle, MODE_GLOBAL), 0);
}

/* The capture has survived if it still makes a graph. */
static void
end(dlx_stream stream)
{
    void *graph = NULL;
    CHECK_EQ(sim.cuStreamEndCapture((void *)stream.handle, &graph), 0);
    CHECK(graph != NULL);
}

static void
test_each_refusal_leaves_the_users_capture_alive(void)
{
    sim_open();
    dlx_event *older, *newer;
    dlx_stream a = sim_stream(0, 0), b = sim_stream(0, 0), idle = sim_stream(0, 0);
    dlx_stream legacy = {kDLCUDA, 0, DLX_CUDA_LEGACY};
    uint32_t *latch = sim_latch(idle);
    CHECK_EQ(dlx_event_record(idle, &older, NULL), DLX_OK);
    begin(a);
    begin(b);
    CHECK_EQ(dlx_event_record(b, &newer, NULL), DLX_OK);
    CHECK_EQ(dlx_push(a, idle, 0, NULL), DLX_CAPTURE_REFUSED);
    CHECK_EQ(dlx_push(idle, a, 0, NULL), DLX_CAPTURE_REFUSED);
    CHECK_EQ(dlx_push(a, b, 0, NULL), DLX_CAPTURE_REFUSED);
    CHECK_EQ(dlx_push(legacy, idle, 0, NULL), DLX_CAPTURE_REFUSED);
    CHECK_EQ(dlx_push(idle, legacy, 0, NULL), DLX_CAPTURE_REFUSED);
    CHECK_EQ(dlx_event_wait(older, a, NULL), DLX_CAPTURE_REFUSED);
    CHECK_EQ(dlx_event_wait(newer, a, NULL), DLX_CAPTURE_REFUSED);
    CHECK_EQ(dlx_event_wait(newer, idle, NULL), DLX_CAPTURE_REFUSED);
    CHECK_EQ(dlx_event_query(newer, NULL), DLX_CAPTURE_REFUSED);
    CHECK_EQ(dlx_stream_query(a, NULL), DLX_CAPTURE_REFUSED);
    CHECK_EQ(dlx_stream_query(legacy, NULL), DLX_CAPTURE_REFUSED);
    CHECK_EQ(dlx_stream_synchronize(b, NULL), DLX_CAPTURE_REFUSED);
    CHECK_EQ(dlx_push(a, a, 0, NULL), DLX_OK);
    end(a);
    end(b);
    sim_open_latch(latch);
    dlx_event_release(older);
    dlx_event_release(newer);
    CHECK_EQ(sim_findings(), 0);
}

static void
test_a_named_fork_and_its_join_make_a_graph(void)
{
    sim_open();
    dlx_stream p = sim_stream(0, 1), c = sim_stream(0, 1);
    uint64_t cell = sim_cell(0), copy = sim_cell(0);
    begin(p);
    sim_write(cell, 7, p);
    CHECK_EQ(dlx_push(p, c, DLX_PUSH_CONSUMER_NAMED, NULL), DLX_OK);
    CHECK_EQ(sim.cuMemcpyDtoDAsync_v2(copy, cell, 4, (void *)c.handle), 0);
    CHECK_EQ(release(c, p), DLX_RELEASE_NOW); /* joins */
    end(p);
    CHECK_EQ(sim_findings(), 0);
}

static void
test_our_own_work_does_not_disturb_an_unrelated_capture(void)
{
    sim_open();
    dlx_event *event;
    void *memory;
    dlx_stream capturing = sim_stream(0, 0), p = sim_stream(0, 1), c = sim_stream(0, 1);
    begin(capturing);
    for (int i = 0; i < 2 * DLX_POOL_PREWARM; i++) { /* refills the pool */
        CHECK_EQ(release(c, NO_PRODUCER), DLX_RELEASE_LATER);
    }
    CHECK_EQ(dlx_push(p, c, 0, NULL), DLX_OK);
    CHECK_EQ(dlx_event_record(p, &event, NULL), DLX_OK);
    CHECK_EQ(dlx_event_synchronize(event, NULL), DLX_OK);
    CHECK_EQ(dlx_pinned_alloc(kDLCUDA, 0, 100, &memory, NULL), DLX_OK);
    dlx_pinned_free(memory);
    dlx_event_release(event);
    CHECK_EQ(dlx_drain(LONG), 0);
    end(capturing);
    CHECK_EQ(sim_findings(), 0);
}

static void
test_memory_dropped_during_a_capture_is_held_until_its_end(void)
{
    sim_open();
    dlx_counters c;
    dlx_stream capturing = sim_stream(0, 0), p = sim_stream(0, 0);
    begin(capturing);
    CHECK_EQ(release(capturing, p), DLX_RELEASE_LATER);
    CHECK_EQ(release(capturing, NO_PRODUCER), DLX_RELEASE_LATER);
    CHECK_EQ(release((dlx_stream){kDLCUDA, 0, DLX_CUDA_LEGACY}, p), DLX_RELEASE_LATER);
    dlx_counters_read(&c);
    CHECK_EQ(c.held, 3);
    uint64_t asked = sim_count("cuStreamGetCaptureInfo");
    CHECK_EVENTUALLY(sim_count("cuStreamGetCaptureInfo") > asked + 6);
    CHECK_EQ(atomic_load(&n_drops), 0);
    end(capturing);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(atomic_load(&n_drops), 3);
    CHECK_EQ(sim_findings(), 0);
}

/* ---- Completion and copies ---- */

typedef struct heard {
    _Atomic int n;
    _Atomic int status;
} heard;

static void
hear(void *arg, dlx_status status)
{
    heard *h = arg;
    atomic_store(&h->status, (int)status);
    atomic_fetch_add(&h->n, 1);
}

static void
test_a_notification_comes_when_the_latch_opens_and_not_before(void)
{
    sim_open();
    heard slow = {0}, quick = {0};
    dlx_stream p = sim_stream(0, 1), other = sim_stream(1, 1);
    uint32_t *latch = sim_latch(p);
    CHECK_EQ(dlx_stream_notify(p, hear, &slow, NULL), DLX_OK);
    CHECK_EQ(dlx_stream_notify(other, hear, &quick, NULL), DLX_OK);
    CHECK_EVENTUALLY(quick.n == 1);
    CHECK_EQ(slow.n, 0);
    sim_open_latch(latch);
    CHECK_EVENTUALLY(slow.n == 1);
    CHECK_EQ(slow.status, DLX_OK);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(sim_findings(), 0);
}

static void
test_a_lost_device_ends_notifications_and_parks(void)
{
    sim_open();
    heard h = {0};
    dlx_error err;
    dlx_stream p = sim_stream(0, 1), alive = sim_stream(1, 1);
    sim_latch(p);
    uint32_t *latch = sim_latch(alive);
    CHECK_EQ(dlx_stream_notify(p, hear, &h, NULL), DLX_OK);
    CHECK_EQ(release(p, NO_PRODUCER), DLX_RELEASE_LATER);
    CHECK_EQ(release(alive, NO_PRODUCER), DLX_RELEASE_LATER);
    sim_kill(0, 700);
    CHECK_EVENTUALLY(h.n == 1);
    CHECK_EQ(h.status, DLX_DEVICE_LOST);
    CHECK_EVENTUALLY(atomic_load(&n_drops) == 1);
    CHECK_EQ(dlx_push(p, sim_stream(1, 1), 0, &err), DLX_DEVICE_LOST);
    CHECK_EQ(err.driver_status, 700);
    /* The other device lives, also while the lost one's context is current. */
    CHECK_EQ(dlx_push(alive, sim_stream(1, 1), 0, &err), DLX_OK);
    CHECK_EQ(atomic_load(&n_drops), 1);
    sim_open_latch(latch);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(atomic_load(&n_drops), 2);
}

static void
test_a_copy_to_the_host_brings_the_values_without_a_host_wait(void)
{
    sim_open();
    dlx_event *after, *done;
    heard h = {0};
    void *dst;
    dlx_stream p = sim_stream(1, 1);
    uint64_t cell = sim_cell(1);
    CHECK_EQ(dlx_pinned_alloc(kDLCUDA, 1, 4, &dst, NULL), DLX_OK);
    uint32_t *latch = sim_latch(p);
    sim_write(cell, 7, p);
    CHECK_EQ(dlx_event_record(p, &after, NULL), DLX_OK);
    sim_forget();
    CHECK_EQ(dlx_copy_to_host(dst, kDLCUDA, 1, cell, 4, after, &done, NULL), DLX_OK);
    CHECK_EQ(dlx_event_notify(done, hear, &h, NULL), DLX_OK);
    CHECK_EQ(sim_count("cuStreamSynchronize") + sim_count("cuEventSynchronize"), 0);
    CHECK_EQ(h.n, 0);
    sim_open_latch(latch);
    CHECK_EVENTUALLY(h.n == 1);
    CHECK_EQ(*(uint32_t *)dst, 7);
    dlx_event_release(after);
    dlx_event_release(done);
    dlx_pinned_free(dst);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(sim_findings(), 0);
}

/* ---- Odd places ---- */

static dlx_stream callback_consumer;

static void
release_in_a_callback(void *arg)
{
    *(_Atomic int *)arg = (int)release(callback_consumer, NO_PRODUCER) + 1;
}

static void
test_a_release_inside_a_drivers_callback_is_left_to_the_reaper(void)
{
    sim_open();
    _Atomic int result = 0;
    dlx_stream p = sim_stream(0, 1);
    callback_consumer = sim_stream(0, 1);
    CHECK_EQ(dlx_push(p, callback_consumer, 0, NULL), DLX_OK);
    CHECK_EQ(sim.cuLaunchHostFunc((void *)p.handle, release_in_a_callback, &result), 0);
    CHECK_EVENTUALLY(result != 0);
    CHECK_EQ(result - 1, DLX_RELEASE_LATER);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(atomic_load(&n_drops), 1);
}

static void
test_a_stream_of_a_context_of_its_own_is_served_from_there(void)
{
    sim_open();
    void *own = NULL, *stream = NULL, *primary = sim_current();
    CHECK_EQ(sim.cuCtxCreate_v2(&own, 0, 0), 0);
    CHECK_EQ(sim.cuStreamCreate(&stream, 1), 0);
    CHECK_EQ(sim.cuCtxSetCurrent(primary), 0);
    dlx_stream p = {kDLCUDA, 0, (uintptr_t)stream}, c = sim_stream(0, 1);
    for (int i = 0; i < 3; i++) {
        sim_forget();
        CHECK_EQ(dlx_push(p, c, 0, NULL), DLX_OK);
        CHECK_EQ(dlx_push(c, p, 0, NULL), DLX_OK);
    }
    CHECK_EQ(sim_count("cuEventRecord"), 2);
    CHECK_EQ(sim_count_all(), 8);
    CHECK(sim_current() == primary);
    CHECK_EQ(sim_findings(), 0);
}

static dlx_stream
hip_stream(int device, bool is_default)
{
    void *stream = NULL;
    sim_hip.hipSetDevice(device);
    if (!is_default) {
        CHECK_EQ(sim_hip.hipStreamCreateWithFlags(&stream, DLX_STREAM_NON_BLOCKING), 0);
    }
    return (dlx_stream){kDLROCM, device, (uintptr_t)stream};
}

static uint64_t
hip_cell(dlx_stream p, unsigned value)
{
    uint64_t cell = 0;
    sim_hip.hipSetDevice(p.device_id);
    CHECK_EQ(sim_hip.hipMalloc(&cell, 4), 0);
    CHECK_EQ(sim_hip.hipMemsetD32Async(cell, value, 1, (void *)p.handle), 0);
    return cell;
}

/* Through HIP's names, with its own default stream, and a current device to restore. */
static void
test_hip_orders_both_ways_for_every_pair_of_streams(void)
{
    sim_open();
    sim_open_hip();
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 4; j++) {
            int device = -1;
            dlx_stream p = hip_stream(i / 2, i % 2), c = hip_stream(j / 2, j % 2);
            uint64_t cell = hip_cell(p, 7);
            uint32_t *seen = sim_pinned();
            sim_hip.hipSetDevice(0);
            CHECK_EQ(dlx_push(p, c, 0, NULL), DLX_OK);
            sim_hip.hipSetDevice(c.device_id);
            CHECK_EQ(sim_hip.hipMemcpyDtoHAsync(seen, cell, 4, (void *)c.handle), 0);
            sim_hip.hipSetDevice(0);
            CHECK_EQ(release(c, p), DLX_RELEASE_NOW);
            CHECK_EQ(sim_hip.hipGetDevice(&device), 0);
            CHECK_EQ(device, 0);
            sim_hip.hipSetDevice(p.device_id);
            sim_hip.hipMemsetD32Async(cell, 9, 1, (void *)p.handle);
            CHECK_EQ(sim_hip.hipStreamSynchronize((void *)p.handle), 0);
            sim_hip.hipSetDevice(c.device_id);
            CHECK_EQ(sim_hip.hipStreamSynchronize((void *)c.handle), 0);
            CHECK_EQ(*seen, 7);
        }
    }
    CHECK_EQ(release(hip_stream(1, false), NO_PRODUCER), DLX_RELEASE_LATER);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(sim_findings(), 0);
    dlx_stop(); /* LeakSanitizer crashes on another thread's copy of a library's variable */
}

static void
test_the_nth_failing_driver_call_is_named_and_the_next_push_works(void)
{
    static const char *const names[] = {"cuStreamGetCaptureInfo", "cuEventRecord",
                                        "cuStreamWaitEvent"};
    sim_open();
    dlx_stream p = sim_stream(0, 1), c = sim_stream(0, 1);
    CHECK_EQ(dlx_push(p, c, 0, NULL), DLX_OK);
    for (int i = 0; i < 3; i++) {
        dlx_error err;
        CHECK_EQ(sim.simcuda_fail(names[i], 1, 999), 0);
        CHECK_EQ(dlx_push(p, c, 0, &err), DLX_DRIVER_ERROR);
        CHECK_EQ(err.driver_status, 999);
        CHECK(__builtin_strcmp(err.call, names[i]) == 0);
        CHECK_EQ(dlx_push(p, c, 0, &err), DLX_OK);
    }
    CHECK_EQ(sim_findings(), 0);
}

static const check_test tests[] = {
#define T(name) {#name, name}
    T(test_the_simulated_driver_says_that_it_is_simulated),
    T(test_the_consumer_reads_what_the_producer_wrote_for_every_pair_of_streams),
    T(test_a_push_is_counted_as_one_record_one_wait_and_two_queries),
    T(test_a_held_producer_holds_the_consumer_but_neither_host_nor_others),
    T(test_a_ready_event_covers_what_was_queued_before_it_and_nothing_after),
    T(test_an_event_of_a_per_thread_stream_is_waited_for_in_another_thread),
    T(test_an_edge_keeps_the_producer_from_writing_what_is_still_read),
    T(test_a_per_thread_consumer_may_be_released_in_another_thread),
    T(test_a_park_lasts_until_the_consumers_work_is_done),
    T(test_each_refusal_leaves_the_users_capture_alive),
    T(test_a_named_fork_and_its_join_make_a_graph),
    T(test_our_own_work_does_not_disturb_an_unrelated_capture),
    T(test_memory_dropped_during_a_capture_is_held_until_its_end),
    T(test_a_notification_comes_when_the_latch_opens_and_not_before),
    T(test_a_lost_device_ends_notifications_and_parks),
    T(test_a_copy_to_the_host_brings_the_values_without_a_host_wait),
    T(test_a_release_inside_a_drivers_callback_is_left_to_the_reaper),
    T(test_a_stream_of_a_context_of_its_own_is_served_from_there),
    T(test_hip_orders_both_ways_for_every_pair_of_streams),
    T(test_the_nth_failing_driver_call_is_named_and_the_next_push_works),
    {0},
};

const check_test *const check_files[] = {tests, NULL};
