/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "fake.h"

static dlx_counters
counters(void)
{
    dlx_counters c;
    dlx_counters_read(&c);
    return c;
}

static void
test_push_is_one_record_and_one_wait_after_two_capture_queries(void)
{
    fake_install();
    dlx_stream p = fake_stream_at(0), c = fake_stream_at(1);
    CHECK_EQ(dlx_push(p, c, 0, NULL), DLX_OK);
    fake_forget();
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(dlx_push(p, c, 0, NULL), DLX_OK);
    }
    CHECK_EQ(fake_count(DLX_CALL_event_record), 100);
    CHECK_EQ(fake_count(DLX_CALL_stream_wait_event), 100);
    CHECK_EQ(fake_count(DLX_CALL_stream_get_capture_info), 200);
    CHECK_EQ(fake_calls(), 400);
    CHECK_EQ(counters().pushes, 101);
}

static void
test_push_records_on_the_producer_and_then_makes_the_consumer_wait(void)
{
    fake_install();
    dlx_stream p = fake_stream_at(0), c = fake_stream_at(1);
    dlx_push(p, c, 0, NULL);
    fake_forget();
    dlx_push(p, c, 0, NULL);
    CHECK_EQ(fake.log[2].call, DLX_CALL_event_record);
    CHECK(fake.log[2].stream == &fake.streams[0]);
    CHECK_EQ(fake.log[3].call, DLX_CALL_stream_wait_event);
    CHECK(fake.log[3].stream == &fake.streams[1]);
    CHECK(fake.log[2].event == fake.log[3].event);
    CHECK_EQ(((fake_event *)fake.log[2].event)->flags, DLX_EVENT_DISABLE_TIMING);
}

static void
test_push_to_the_same_stream_makes_no_driver_call(void)
{
    fake_install();
    CHECK_EQ(dlx_push(fake_stream_at(0), fake_stream_at(0), 0, NULL), DLX_OK);
    CHECK_EQ(dlx_push(fake_legacy(0), fake_legacy(0), 0, NULL), DLX_OK);
    CHECK_EQ(dlx_push(fake_per_thread(0), fake_per_thread(0), 0, NULL), DLX_OK);
    CHECK_EQ(fake_calls(), 0);
    CHECK_EQ(counters().elided, 3);
}

static void
test_null_and_one_are_the_legacy_stream_of_cuda(void)
{
    dlx_stream null, one;
    dlx_stream_init(&null, kDLCUDA, 0, 0, NULL);
    dlx_stream_init(&one, kDLCUDA, 0, 1, NULL);
    CHECK(dlx_stream_same(null, one, true));
    CHECK(!dlx_stream_same(null, fake_legacy(1), true));
    CHECK(!dlx_stream_same(null, fake_per_thread(0), true));
}

static void
test_per_thread_streams_are_one_only_within_a_thread(void)
{
    CHECK(dlx_stream_same(fake_per_thread(0), fake_per_thread(0), true));
    CHECK(!dlx_stream_same(fake_per_thread(0), fake_per_thread(0), false));
    CHECK(dlx_stream_same(fake_legacy(0), fake_legacy(0), false));
}

static void
test_numbers_that_are_no_streams_are_refused(void)
{
    dlx_stream s;
    dlx_error err;
    CHECK_EQ(dlx_stream_init(&s, kDLROCM, 0, 0, NULL), DLX_OK);
    CHECK_EQ(dlx_stream_init(&s, kDLROCM, 0, 1, &err), DLX_BAD_STREAM);
    CHECK_EQ(dlx_stream_init(&s, kDLROCM, 0, 2, &err), DLX_BAD_STREAM);
    CHECK(strstr(err.text, "ROCm") != NULL);
    CHECK_EQ(dlx_stream_init(&s, kDLCPU, 0, 0, &err), DLX_BAD_STREAM);
    CHECK_EQ(dlx_stream_init(&s, kDLCUDA, -1, 0, &err), DLX_BAD_STREAM);
    CHECK_EQ(dlx_stream_init(&s, kDLCUDA, 0, UINTPTR_MAX, NULL), DLX_OK);
    CHECK(s.handle == UINTPTR_MAX);
}

static void
test_steady_state_creates_no_events_and_destroys_none(void)
{
    fake_install();
    dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL);
    long before = atomic_load(&fake.n_events);
    for (int i = 0; i < 1000; i++) {
        dlx_push(fake_stream_at(i % 5), fake_stream_at((i + 1) % 5), 0, NULL);
    }
    CHECK_EQ(atomic_load(&fake.n_events), before);
    CHECK_EQ(before, DLX_POOL_PREWARM);
}

static void
test_push_to_another_device_records_with_an_event_of_the_producers(void)
{
    fake_install();
    dlx_stream there = fake_stream_at(FAKE_STREAMS - 1);
    CHECK_EQ(dlx_push(there, fake_stream_at(0), 0, NULL), DLX_OK);
    CHECK_EQ(dlx_push(fake_stream_at(0), there, 0, NULL), DLX_OK);
    CHECK_EQ(fake_count(DLX_CALL_event_record), 2);
    CHECK(fake_current() == &fake.primary[0]);
}

static void
test_default_streams_are_used_in_their_own_context_which_is_left_again(void)
{
    fake_install();
    dlx_stream all[] = {fake_legacy(0),     fake_legacy(1),    fake_per_thread(0),
                        fake_per_thread(1), fake_stream_at(0), fake_stream_at(7)};
    for (int i = 0; i < 6; i++) {
        for (int j = 0; j < 6; j++) {
            fake_forget();
            CHECK_EQ(dlx_push(all[i], all[j], 0, NULL), DLX_OK);
            CHECK(fake_current() == &fake.primary[0]);
            if (i == j) {
                continue;
            }
            for (long k = 0; k < atomic_load(&fake.n_log); k++) {
                fake_entry *entry = &fake.log[k];
                fake_stream *s = entry->stream;
                if (entry->call == DLX_CALL_event_record) {
                    CHECK_EQ(s->context->device, all[i].device_id);
                }
                if (entry->call == DLX_CALL_stream_wait_event) {
                    CHECK_EQ(s->context->device, all[j].device_id);
                }
            }
        }
    }
}

static void
test_push_works_in_a_thread_without_a_context_and_leaves_none(void)
{
    fake_install();
    fake_set_current(NULL);
    CHECK_EQ(dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL), DLX_OK);
    CHECK(fake_current() == NULL);
    fake_forget();
    CHECK_EQ(dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL), DLX_OK);
    CHECK_EQ(fake_count(DLX_CALL_event_record), 1);
    CHECK_EQ(fake_count(DLX_CALL_stream_wait_event), 1);
    CHECK_EQ(fake_count(DLX_CALL_context_push), 1);
    CHECK(fake_current() == NULL);
}

static void
test_a_stream_of_another_context_is_found_by_asking_once(void)
{
    fake_install();
    dlx_stream foreign = {kDLCUDA, 0, (uintptr_t)&fake.foreign};
    CHECK_EQ(dlx_push(fake_stream_at(1), fake_stream_at(0), 0, NULL), DLX_OK);
    CHECK_EQ(dlx_push(foreign, fake_stream_at(0), 0, NULL), DLX_OK);
    fake_forget();
    CHECK_EQ(dlx_push(foreign, fake_stream_at(0), 0, NULL), DLX_OK);
    CHECK_EQ(fake_count(DLX_CALL_stream_get_context), 0);
    CHECK_EQ(fake_calls(), 4);
}

static void
test_no_primary_context_is_made_for_a_stream_of_another_context(void)
{
    fake_install();
    atomic_store(&fake.has_primary[0], false);
    dlx_stream foreign = {kDLCUDA, 0, (uintptr_t)&fake.foreign};
    fake_set_current(&fake.other);
    CHECK_EQ(dlx_push(foreign, fake_stream_at(0), 0, NULL), DLX_OK);
    CHECK_EQ(fake_count(DLX_CALL_primary_retain), 0);
}

static void
test_push_between_two_drivers_is_unsupported(void)
{
    dlx_error err;
    fake_install();
    dlx_stream hip = {kDLROCM, 0, 0};
    CHECK_EQ(dlx_push(fake_stream_at(0), hip, 0, &err), DLX_UNSUPPORTED);
    CHECK_EQ(fake_calls(), 0);
}

static void
test_a_device_that_is_not_there_is_named(void)
{
    dlx_error err;
    fake_install();
    dlx_stream far = {kDLCUDA, 5, DLX_CUDA_LEGACY};
    CHECK_EQ(dlx_push(far, fake_stream_at(0), 0, &err), DLX_NO_DRIVER);
    CHECK(strstr(err.text, "no device 5") != NULL);
}

static void
test_hip_sets_and_restores_the_device_and_knows_zero_as_default(void)
{
    fake_install_hip();
    dlx_stream zero = {kDLROCM, 1, 0}, own = {kDLROCM, 1, fake_stream_at(7).handle};
    CHECK_EQ(dlx_push(zero, own, 0, NULL), DLX_OK);
    CHECK_EQ(fake_count(DLX_CALL_event_record), 1);
    CHECK_EQ(fake_current()->device, 0);
    CHECK(fake_count(DLX_CALL_device_set_current) >= 2);
    CHECK_EQ(fake_count(DLX_CALL_context_push), 0);
}

static void
test_an_error_names_call_status_and_text(void)
{
    dlx_error err;
    fake_install();
    dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL);
    fake_fail(DLX_CALL_stream_wait_event, 1, DLX_GPU_INVALID_HANDLE);
    CHECK_EQ(dlx_push(fake_stream_at(0), fake_stream_at(1), 0, &err), DLX_BAD_STREAM);
    CHECK_EQ(err.status, DLX_BAD_STREAM);
    CHECK_EQ(err.driver_status, DLX_GPU_INVALID_HANDLE);
    CHECK(strcmp(err.call, "cuStreamWaitEvent") == 0);
    CHECK(strstr(err.text, "CUDA_ERROR_INVALID_HANDLE (400)") != NULL);
}

static void
test_the_event_of_a_failed_push_is_never_used_again(void)
{
    fake_install();
    dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL);
    fake_forget();
    fake_fail(DLX_CALL_stream_wait_event, 1, DLX_GPU_INVALID_HANDLE);
    dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL);
    fake_event *bad = fake.log[2].event;
    CHECK_EQ(fake.log[2].call, DLX_CALL_event_record);
    fake_forget();
    for (int i = 0; i < 3 * DLX_POOL_PREWARM; i++) {
        CHECK_EQ(dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL), DLX_OK);
    }
    for (long i = 0; i < atomic_load(&fake.n_log); i++) {
        CHECK(fake.log[i].event != bad);
    }
    CHECK(atomic_load(&bad->is_destroyed));
    CHECK_EQ(counters().quarantined, 1);
}

static void *
push_once(void *unused)
{
    (void)unused;
    fake_set_current(&fake.primary[0]);
    dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL);
    return NULL;
}

static void
test_threads_that_end_give_their_events_back(void)
{
    fake_install();
    for (int i = 0; i < 3 * DLX_POOL_PREWARM; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, push_once, NULL);
        pthread_join(thread, NULL);
    }
    CHECK_EQ(atomic_load(&fake.n_events), DLX_POOL_PREWARM);
}

const check_test push_tests[] = {
#define T(name) {#name, name}
    T(test_push_is_one_record_and_one_wait_after_two_capture_queries),
    T(test_push_records_on_the_producer_and_then_makes_the_consumer_wait),
    T(test_push_to_the_same_stream_makes_no_driver_call),
    T(test_null_and_one_are_the_legacy_stream_of_cuda),
    T(test_per_thread_streams_are_one_only_within_a_thread),
    T(test_numbers_that_are_no_streams_are_refused),
    T(test_steady_state_creates_no_events_and_destroys_none),
    T(test_push_to_another_device_records_with_an_event_of_the_producers),
    T(test_default_streams_are_used_in_their_own_context_which_is_left_again),
    T(test_push_works_in_a_thread_without_a_context_and_leaves_none),
    T(test_a_stream_of_another_context_is_found_by_asking_once),
    T(test_no_primary_context_is_made_for_a_stream_of_another_context),
    T(test_push_between_two_drivers_is_unsupported),
    T(test_a_device_that_is_not_there_is_named),
    T(test_hip_sets_and_restores_the_device_and_knows_zero_as_default),
    T(test_an_error_names_call_status_and_text),
    T(test_the_event_of_a_failed_push_is_never_used_again),
    T(test_threads_that_end_give_their_events_back),
    {0},
};
