/* SPDX-License-Identifier: Apache-2.0
 *
 * On the simulated CUDA driver: completion, copies, lost devices, callbacks, contexts,
 * HIP.
 */
#include "check.h"
#include "sim.h"

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
    dlx_stop(); /* LeakSanitizer crashes on another thread's copy of a library's
                   variable */
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

const check_test simulated_places_tests[] = {
#define T(name) {#name, name}
    T(test_a_notification_comes_when_the_latch_opens_and_not_before),
    T(test_a_lost_device_ends_notifications_and_parks),
    T(test_a_copy_to_the_host_brings_the_values_without_a_host_wait),
    T(test_a_release_inside_a_drivers_callback_is_left_to_the_reaper),
    T(test_a_stream_of_a_context_of_its_own_is_served_from_there),
    T(test_hip_orders_both_ways_for_every_pair_of_streams),
    T(test_the_nth_failing_driver_call_is_named_and_the_next_push_works),
    {0},
};
