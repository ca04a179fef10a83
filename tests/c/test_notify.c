/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "check.h"
#include "fake.h"

static const uint64_t LONG = 10000000000u;

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

static dlx_counters
counters(void)
{
    dlx_counters c;
    dlx_counters_read(&c);
    return c;
}

static void
test_a_notification_comes_once_the_event_has_fired(void)
{
    fake_install();
    heard h = {0};
    fake_block(fake_stream_at(0), true);
    CHECK_EQ(dlx_stream_notify(fake_stream_at(0), hear, &h, NULL), DLX_OK);
    CHECK_EQ(fake_run_callbacks(0), 0);
    CHECK_EQ(h.n, 0);
    CHECK_EQ(counters().notifications, 1);
    fake_block(fake_stream_at(0), false);
    CHECK_EQ(fake_run_callbacks(0), 1);
    CHECK_EQ(h.n, 1);
    CHECK_EQ(h.status, DLX_OK);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(h.n, 1);
    CHECK_EQ(counters().events_in_use, 0);
    CHECK_EQ(atomic_load(&fake.unrelaxed), 0);
}

static void
test_nothing_is_queued_on_the_stream_that_is_asked_about_but_the_record(void)
{
    fake_install();
    heard h = {0};
    CHECK_EQ(dlx_stream_notify(fake_stream_at(0), hear, &h, NULL), DLX_OK);
    for (long i = 0; i < atomic_load(&fake.n_log); i++) {
        int call = fake.log[i].call;
        CHECK(fake.log[i].stream != &fake.streams[0] || call == DLX_CALL_event_record ||
              call == DLX_CALL_stream_get_capture_info);
    }
    fake_run_callbacks(0);
    CHECK_EQ(dlx_drain(LONG), 0);
}

static void
test_a_slow_notification_delays_no_other(void)
{
    fake_install();
    heard slow = {0}, quick = {0};
    fake_block(fake_stream_at(0), true);
    CHECK_EQ(dlx_stream_notify(fake_stream_at(0), hear, &slow, NULL), DLX_OK);
    CHECK_EQ(dlx_stream_notify(fake_stream_at(1), hear, &quick, NULL), DLX_OK);
    fake_run_callbacks(0);
    CHECK_EQ(quick.n, 1);
    CHECK_EQ(slow.n, 0);
    fake_block(fake_stream_at(0), false);
    fake_run_callbacks(0);
    CHECK_EQ(slow.n, 1);
    CHECK_EQ(dlx_drain(LONG), 0);
}

static void
test_streams_of_finished_notifications_are_used_again(void)
{
    fake_install();
    heard h = {0};
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(dlx_stream_notify(fake_stream_at(0), hear, &h, NULL), DLX_OK);
        CHECK_EQ(fake_run_callbacks(0), 1);
        CHECK_EQ(dlx_drain(LONG), 0);
    }
    CHECK_EQ(h.n, 50);
    CHECK_EQ(fake_count(DLX_CALL_stream_create), 1);
}

static void
test_a_callback_of_a_dead_context_tells_that_it_is_lost(void)
{
    fake_install();
    heard h = {0};
    CHECK_EQ(dlx_stream_notify(fake_stream_at(0), hear, &h, NULL), DLX_OK);
    CHECK_EQ(fake_run_callbacks(700), 1);
    CHECK_EQ(h.n, 1);
    CHECK_EQ(h.status, DLX_DEVICE_LOST);
    CHECK_EQ(dlx_drain(LONG), 0);
}

static void
test_a_lost_context_is_noticed_though_no_callback_comes(void)
{
    fake_install();
    heard h = {0};
    fake_block(fake_stream_at(0), true);
    CHECK_EQ(dlx_stream_notify(fake_stream_at(0), hear, &h, NULL), DLX_OK);
    atomic_store(&fake.sticky, 719);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(h.n, 1);
    CHECK_EQ(h.status, DLX_DEVICE_LOST);
    /* The callback that comes after all finds itself told, and frees. */
    fake_block(fake_stream_at(0), false);
    CHECK_EQ(fake_run_callbacks(719), 1);
    CHECK_EQ(h.n, 1);
}

static void
test_a_driver_without_status_callbacks_gets_a_host_function(void)
{
    fake_install();
    heard h = {0};
    fake_fail(DLX_CALL_stream_add_callback, 1, DLX_GPU_NOT_SUPPORTED);
    CHECK_EQ(dlx_stream_notify(fake_stream_at(0), hear, &h, NULL), DLX_OK);
    CHECK_EQ(fake_count(DLX_CALL_launch_host_func), 1);
    CHECK_EQ(fake_run_callbacks(0), 1);
    CHECK_EQ(h.n, 1);
    CHECK_EQ(dlx_drain(LONG), 0);
}

static void
test_a_complete_event_notifies_before_the_call_returns(void)
{
    fake_install();
    heard h = {0};
    dlx_event *event;
    dlx_event_record(fake_stream_at(0), &event, NULL);
    CHECK_EQ(dlx_event_query(event, NULL), DLX_OK);
    fake_forget();
    CHECK_EQ(dlx_event_notify(event, hear, &h, NULL), DLX_OK);
    CHECK_EQ(h.n, 1);
    CHECK_EQ(fake_calls(), 0);
    dlx_event_release(event);
}

static void
test_an_event_of_a_capture_is_refused(void)
{
    fake_install();
    heard h = {0};
    dlx_error err;
    fake_capture(fake_stream_at(0), DLX_CAPTURE_STATUS_ACTIVE, 7);
    CHECK_EQ(dlx_stream_notify(fake_stream_at(0), hear, &h, &err), DLX_CAPTURE_REFUSED);
    CHECK_EQ(h.n, 0);
    CHECK_EQ(counters().events_in_use, 0);
    CHECK_EQ(fake.streams[0].capture_status, DLX_CAPTURE_STATUS_ACTIVE);
}

static void
test_a_reset_ends_pending_notifications(void)
{
    fake_install();
    heard h = {0};
    fake_block(fake_stream_at(0), true);
    CHECK_EQ(dlx_stream_notify(fake_stream_at(0), hear, &h, NULL), DLX_OK);
    dlx_driver_reset();
    CHECK_EQ(h.n, 1);
    CHECK_EQ(h.status, DLX_STOPPED);
    CHECK_EQ(counters().notifications, 0);
    fake_block(fake_stream_at(0), false);
    CHECK_EQ(fake_run_callbacks(0), 1);
    CHECK_EQ(h.n, 1);
}

/* ---- Copies ---- */

static void
test_a_copy_waits_for_the_data_and_marks_its_end(void)
{
    fake_install();
    char src[64] = "the values", *dst = NULL;
    dlx_event *after, *done;
    CHECK_EQ(dlx_pinned_alloc(kDLCUDA, 0, sizeof(src), (void **)&dst, NULL), DLX_OK);
    dlx_event_record(fake_stream_at(0), &after, NULL);
    dlx_event_record(fake_stream_at(0), &done, NULL); /* warms up */
    dlx_event_release(done);
    fake_forget();
    CHECK_EQ(dlx_copy_to_host(dst, kDLCUDA, 0, (uintptr_t)src, sizeof(src), after,
                              &done, NULL),
             DLX_OK);
    CHECK_EQ(fake_count(DLX_CALL_stream_wait_event), 1);
    CHECK_EQ(fake_count(DLX_CALL_copy_to_host), 1);
    CHECK_EQ(fake_count(DLX_CALL_event_record), 1);
    CHECK_EQ(fake_count(DLX_CALL_stream_synchronize), 0);
    CHECK(strcmp(dst, src) == 0);
    CHECK_EQ(dlx_event_query(done, NULL), DLX_OK);
    dlx_event_release(done);
    dlx_event_release(after);
    dlx_pinned_free(dst);
    CHECK_EQ(atomic_load(&fake.unrelaxed), 0);
    CHECK_EQ(counters().copies, 1);
    CHECK_EQ(counters().host_waits, 0);
}

static void
test_the_stream_of_a_copy_is_free_again_with_its_event(void)
{
    fake_install();
    char src[8] = {0}, *dst = NULL;
    dlx_event *done;
    dlx_pinned_alloc(kDLCUDA, 0, sizeof(src), (void **)&dst, NULL);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(dlx_copy_to_host(dst, kDLCUDA, 0, (uintptr_t)src, sizeof(src), NULL,
                                  &done, NULL),
                 DLX_OK);
        dlx_event_release(done);
    }
    CHECK_EQ(fake_count(DLX_CALL_stream_create), 1);
    dlx_pinned_free(dst);
}

static void
test_pinned_memory_is_used_again_and_not_hoarded(void)
{
    fake_install();
    void *memory;
    size_t big = (size_t)200 << 20;
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(dlx_pinned_alloc(kDLCUDA, 0, 5000, &memory, NULL), DLX_OK);
        CHECK((uintptr_t)memory % 64 == 0);
        memset(memory, 1, 5000);
        dlx_pinned_free(memory);
    }
    CHECK_EQ(fake_count(DLX_CALL_host_alloc), 1);
    CHECK_EQ(counters().pinned_bytes, 0);
    for (int i = 1; i < 6; i++) {
        CHECK_EQ(dlx_pinned_alloc(kDLCUDA, 0, big * (size_t)i, &memory, NULL), DLX_OK);
        dlx_pinned_free(memory);
    }
    CHECK(counters().pinned_cached <= ((uint64_t)256 << 20) + 5 * big);
    CHECK(fake_count(DLX_CALL_host_free) >= 3);
    CHECK_EQ(dlx_pinned_alloc(kDLCUDA, 0, SIZE_MAX, &memory, NULL), DLX_NO_MEMORY);
    dlx_pinned_free(NULL);
}

const check_test notify_tests[] = {
#define T(name) {#name, name}
    T(test_a_notification_comes_once_the_event_has_fired),
    T(test_nothing_is_queued_on_the_stream_that_is_asked_about_but_the_record),
    T(test_a_slow_notification_delays_no_other),
    T(test_streams_of_finished_notifications_are_used_again),
    T(test_a_callback_of_a_dead_context_tells_that_it_is_lost),
    T(test_a_lost_context_is_noticed_though_no_callback_comes),
    T(test_a_driver_without_status_callbacks_gets_a_host_function),
    T(test_a_complete_event_notifies_before_the_call_returns),
    T(test_an_event_of_a_capture_is_refused),
    T(test_a_reset_ends_pending_notifications),
    T(test_a_copy_waits_for_the_data_and_marks_its_end),
    T(test_the_stream_of_a_copy_is_free_again_with_its_event),
    T(test_pinned_memory_is_used_again_and_not_hoarded),
    {0},
};
