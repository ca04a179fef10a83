/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <string.h>

#include "check.h"
#include "fake.h"

static uint64_t
in_use(void)
{
    dlx_counters c;
    dlx_counters_read(&c);
    return c.events_in_use;
}

static void
test_a_ready_event_is_one_record_and_one_wait_a_consumer(void)
{
    fake_install();
    dlx_event *event;
    CHECK_EQ(dlx_event_record(fake_stream_at(0), &event, NULL), DLX_OK);
    CHECK_EQ(fake_count(DLX_CALL_event_record), 1);
    fake_forget();
    CHECK_EQ(dlx_event_wait(event, fake_stream_at(1), NULL), DLX_OK);
    CHECK_EQ(dlx_event_wait(event, fake_stream_at(2), NULL), DLX_OK);
    CHECK_EQ(dlx_event_wait(event, fake_stream_at(7), NULL), DLX_OK);
    CHECK_EQ(fake_count(DLX_CALL_stream_wait_event), 3);
    CHECK_EQ(fake_count(DLX_CALL_stream_get_capture_info), 3);
    CHECK_EQ(fake_calls(), 6);
    dlx_event_release(event);
    CHECK_EQ(in_use(), 0);
}

static void
test_waiting_on_the_stream_of_the_record_needs_no_call(void)
{
    fake_install();
    dlx_event *event;
    dlx_event_record(fake_stream_at(0), &event, NULL);
    fake_forget();
    CHECK_EQ(dlx_event_wait(event, fake_stream_at(0), NULL), DLX_OK);
    CHECK_EQ(fake_calls(), 0);
    dlx_event_release(event);
}

static void
test_waiting_on_a_complete_event_needs_no_call(void)
{
    fake_install();
    dlx_event *event;
    dlx_event_record(fake_stream_at(0), &event, NULL);
    CHECK(!dlx_event_is_done(event));
    CHECK_EQ(dlx_event_query(event, NULL), DLX_OK);
    CHECK(dlx_event_is_done(event));
    fake_forget();
    CHECK_EQ(dlx_event_query(event, NULL), DLX_OK);
    CHECK_EQ(dlx_event_wait(event, fake_stream_at(1), NULL), DLX_OK);
    CHECK_EQ(fake_calls(), 0);
    dlx_event_release(event);
}

static void
test_an_incomplete_event_is_not_ready(void)
{
    fake_install();
    dlx_event *event;
    fake_block(fake_stream_at(0), true);
    dlx_event_record(fake_stream_at(0), &event, NULL);
    CHECK_EQ(dlx_event_query(event, NULL), DLX_NOT_READY);
    fake_block(fake_stream_at(0), false);
    CHECK_EQ(dlx_event_query(event, NULL), DLX_OK);
    dlx_event_release(event);
}

static void *
wait_on_per_thread(void *event)
{
    fake_set_current(&fake.primary[0]);
    CHECK_EQ(dlx_event_wait(event, fake_per_thread(0), NULL), DLX_OK);
    return NULL;
}

static void
test_another_threads_per_thread_stream_does_wait(void)
{
    fake_install();
    dlx_event *event;
    pthread_t thread;
    dlx_event_record(fake_per_thread(0), &event, NULL);
    fake_forget();
    CHECK_EQ(dlx_event_wait(event, fake_per_thread(0), NULL), DLX_OK);
    CHECK_EQ(fake_calls(), 0);
    pthread_create(&thread, NULL, wait_on_per_thread, event);
    pthread_join(thread, NULL);
    CHECK_EQ(fake_count(DLX_CALL_stream_wait_event), 1);
    dlx_event_release(event);
}

static void
test_a_kept_event_stays_its_own_until_the_last_release(void)
{
    fake_install();
    dlx_event *event, *others[DLX_POOL_PREWARM + 2];
    dlx_event_record(fake_stream_at(0), &event, NULL);
    uintptr_t handle = dlx_event_handle(event);
    CHECK(dlx_event_keep(event) == event);
    dlx_event_release(event);
    for (int i = 0; i < DLX_POOL_PREWARM + 2; i++) {
        dlx_event_record(fake_stream_at(1), &others[i], NULL);
        CHECK(dlx_event_handle(others[i]) != handle);
    }
    CHECK_EQ(in_use(), DLX_POOL_PREWARM + 3);
    CHECK_EQ(atomic_load(&fake.n_events), DLX_POOL_PREWARM + 3);
    for (int i = 0; i < DLX_POOL_PREWARM + 2; i++) {
        dlx_event_release(others[i]);
    }
    dlx_event_release(event);
    dlx_event_release(NULL);
    CHECK_EQ(in_use(), 0);
}

static void
test_thousands_of_events_are_distinct_and_come_back(void)
{
    enum { N = 3000 };
    static dlx_event *events[N];
    fake_install();
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < N; i++) {
            CHECK_EQ(dlx_event_record(fake_stream_at(0), &events[i], NULL), DLX_OK);
            events[i]->capture_id = (uint64_t)i;
        }
        for (int i = 0; i < N; i++) {
            CHECK_EQ(events[i]->capture_id, i);
            dlx_event_release(events[i]);
        }
    }
    CHECK_EQ(atomic_load(&fake.n_events), N);
}

static void
test_synchronize_is_counted_as_a_host_wait(void)
{
    fake_install();
    dlx_event *event;
    dlx_counters c;
    dlx_event_record(fake_stream_at(0), &event, NULL);
    CHECK_EQ(dlx_event_synchronize(event, NULL), DLX_OK);
    CHECK_EQ(dlx_event_synchronize(event, NULL), DLX_OK);
    CHECK_EQ(dlx_stream_synchronize(fake_stream_at(0), NULL), DLX_OK);
    dlx_counters_read(&c);
    CHECK_EQ(c.host_waits, 2);
    CHECK_EQ(fake_count(DLX_CALL_event_synchronize), 1);
    dlx_event_release(event);
}

static void
test_our_streams_are_reused_least_recently_used_first(void)
{
    fake_install();
    dlx_stream a, b, c;
    dlx_stream_acquire(kDLCUDA, 0, &a, NULL);
    dlx_stream_acquire(kDLCUDA, 0, &b, NULL);
    CHECK(a.handle != b.handle);
    dlx_stream_release(b);
    dlx_stream_release(a);
    dlx_stream_acquire(kDLCUDA, 0, &c, NULL);
    CHECK(c.handle == b.handle);
    CHECK_EQ(fake_count(DLX_CALL_stream_create), 2);
}

static void
test_beyond_the_limit_streams_are_shared_not_refused(void)
{
    fake_install();
    dlx_stream s;
    for (int i = 0; i < DLX_MAX_STREAMS + 5; i++) {
        CHECK_EQ(dlx_stream_acquire(kDLCUDA, 0, &s, NULL), DLX_OK);
    }
    CHECK_EQ(fake_count(DLX_CALL_stream_create), DLX_MAX_STREAMS);
}

static void
test_the_device_of_a_stream_is_found(void)
{
    fake_install();
    int32_t device = -1;
    dlx_error err;
    uintptr_t handle = fake_stream_at(7).handle;
    CHECK_EQ(dlx_stream_find_device(kDLCUDA, handle, &device, NULL), DLX_OK);
    CHECK_EQ(device, 1);
    fake_fail(DLX_CALL_stream_get_device, 1, DLX_GPU_NOT_SUPPORTED);
    device = -1;
    CHECK_EQ(dlx_stream_find_device(kDLCUDA, handle, &device, NULL), DLX_OK);
    CHECK_EQ(device, 1);
    CHECK(fake_current() == &fake.primary[0]);
    CHECK_EQ(dlx_stream_find_device(kDLCUDA, 2, &device, &err), DLX_BAD_STREAM);
    CHECK_EQ(dlx_stream_find_device(kDLCUDA, 0x1000, &device, &err), DLX_BAD_STREAM);
}

static void
test_events_of_before_a_reset_are_empty_shells(void)
{
    fake_install();
    dlx_event *event;
    dlx_error err;
    dlx_event_record(fake_stream_at(0), &event, NULL);
    dlx_driver_reset();
    fake_forget();
    CHECK_EQ(dlx_event_wait(event, fake_stream_at(1), &err), DLX_STOPPED);
    CHECK_EQ(dlx_event_query(event, &err), DLX_STOPPED);
    dlx_event_release(event);
    CHECK_EQ(fake_calls(), 0);
    fake_install();
    CHECK_EQ(dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL), DLX_OK);
}

const check_test event_tests[] = {
#define T(name) {#name, name}
    T(test_a_ready_event_is_one_record_and_one_wait_a_consumer),
    T(test_waiting_on_the_stream_of_the_record_needs_no_call),
    T(test_waiting_on_a_complete_event_needs_no_call),
    T(test_an_incomplete_event_is_not_ready),
    T(test_another_threads_per_thread_stream_does_wait),
    T(test_a_kept_event_stays_its_own_until_the_last_release),
    T(test_thousands_of_events_are_distinct_and_come_back),
    T(test_synchronize_is_counted_as_a_host_wait),
    T(test_our_streams_are_reused_least_recently_used_first),
    T(test_beyond_the_limit_streams_are_shared_not_refused),
    T(test_the_device_of_a_stream_is_found),
    T(test_events_of_before_a_reset_are_empty_shells),
    {0},
};
