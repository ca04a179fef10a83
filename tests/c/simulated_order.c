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

const check_test simulated_order_tests[] = {
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
    {0},
};
