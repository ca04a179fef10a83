/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "sim.h"

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

const check_test simulated_capture_tests[] = {
#define T(name) {#name, name}
    T(test_each_refusal_leaves_the_users_capture_alive),
    T(test_a_named_fork_and_its_join_make_a_graph),
    T(test_our_own_work_does_not_disturb_an_unrelated_capture),
    T(test_memory_dropped_during_a_capture_is_held_until_its_end),
    {0},
};
