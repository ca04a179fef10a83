/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <string.h>

#include "check.h"
#include "fake.h"

static const uint64_t LONG = 10000000000u; /* ns; only reached by a failure */
static const dlx_stream NO_PRODUCER = {0};

static _Atomic int n_drops;
static _Atomic uint64_t drop_thread;

static void
drop(void *arg)
{
    (void)arg;
    atomic_store(&drop_thread, dlx_thread_id());
    atomic_fetch_add(&n_drops, 1);
}

static dlx_counters
counters(void)
{
    dlx_counters c;
    dlx_counters_read(&c);
    return c;
}

static dlx_release_result
release(const dlx_stream *consumers, size_t n, dlx_stream producer, dlx_error *err)
{
    dlx_release_request request = {consumers, n, producer, dlx_thread_id(), drop, NULL};
    return dlx_release(&request, err);
}

static dlx_release_result
release_one(dlx_stream consumer, dlx_stream producer)
{
    return release(&consumer, 1, producer, NULL);
}

static void
test_an_edge_is_one_record_on_the_consumer_and_one_wait_of_the_producer(void)
{
    fake_install();
    dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL);
    fake_forget();
    CHECK_EQ(release_one(fake_stream_at(1), fake_stream_at(0)), DLX_RELEASE_NOW);
    CHECK_EQ(fake_count(DLX_CALL_event_record), 1);
    CHECK_EQ(fake_count(DLX_CALL_stream_wait_event), 1);
    CHECK_EQ(fake_count(DLX_CALL_stream_get_capture_info), 2);
    CHECK_EQ(fake_calls(), 4);
    for (int i = 0; i < 4; i++) {
        if (fake.log[i].call == DLX_CALL_event_record) {
            CHECK(fake.log[i].stream == &fake.streams[1]);
        } else if (fake.log[i].call == DLX_CALL_stream_wait_event) {
            CHECK(fake.log[i].stream == &fake.streams[0]);
        }
    }
    CHECK_EQ(counters().edges, 1);
    CHECK_EQ(atomic_load(&n_drops), 0); /* NOW: the caller drops */
}

static void
test_a_release_to_the_same_stream_or_without_consumers_makes_no_call(void)
{
    fake_install();
    CHECK_EQ(release_one(fake_stream_at(0), fake_stream_at(0)), DLX_RELEASE_NOW);
    CHECK_EQ(release_one(fake_per_thread(0), fake_per_thread(0)), DLX_RELEASE_NOW);
    CHECK_EQ(release(NULL, 0, fake_stream_at(0), NULL), DLX_RELEASE_NOW);
    CHECK_EQ(release(NULL, 0, NO_PRODUCER, NULL), DLX_RELEASE_NOW);
    CHECK_EQ(fake_calls(), 0);
}

static void
test_a_park_is_one_record_and_no_wait_and_drops_once_the_work_is_done(void)
{
    fake_install();
    fake_block(fake_stream_at(1), true);
    CHECK_EQ(release_one(fake_stream_at(1), NO_PRODUCER), DLX_RELEASE_LATER);
    CHECK_EQ(fake_count(DLX_CALL_event_record), 1);
    CHECK_EQ(fake_count(DLX_CALL_stream_wait_event), 0);
    CHECK_EQ(counters().parked, 1);
    /* Not before: several looks find the event incomplete. */
    CHECK_EVENTUALLY(fake_count(DLX_CALL_event_query) >= 3);
    CHECK_EQ(atomic_load(&n_drops), 0);
    fake_block(fake_stream_at(1), false);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(atomic_load(&n_drops), 1);
    CHECK_EQ(counters().parked, 0);
    CHECK_EQ(counters().parked_ever, 1);
    CHECK_EQ(counters().events_in_use, 0);
    CHECK_EQ(atomic_load(&fake.unrelaxed), 0);
}

static void
test_parked_memory_comes_back_without_anyone_asking(void)
{
    fake_install();
    CHECK_EQ(release_one(fake_stream_at(1), NO_PRODUCER), DLX_RELEASE_LATER);
    CHECK_EVENTUALLY(atomic_load(&n_drops) == 1);
    CHECK(atomic_load(&drop_thread) != dlx_thread_id());
}

static void
test_memory_with_several_consumers_waits_for_all_of_them(void)
{
    fake_install();
    dlx_stream both[] = {fake_stream_at(1), fake_stream_at(2), fake_stream_at(0)};
    fake_forget();
    CHECK_EQ(release(both, 3, fake_stream_at(0), NULL), DLX_RELEASE_NOW);
    CHECK_EQ(fake_count(DLX_CALL_event_record), 2);
    CHECK_EQ(fake_count(DLX_CALL_stream_wait_event), 2);
    fake_block(fake_stream_at(1), true);
    CHECK_EQ(release(both, 3, NO_PRODUCER, NULL), DLX_RELEASE_LATER);
    CHECK_EVENTUALLY(fake_count(DLX_CALL_event_query) >= 4);
    CHECK_EQ(atomic_load(&n_drops), 0);
    fake_block(fake_stream_at(1), false);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(atomic_load(&n_drops), 1);
}

static void
test_looking_at_a_held_stream_costs_one_query_however_much_is_parked(void)
{
    enum { N = 1000 };
    fake_install();
    fake_block(fake_stream_at(1), true);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(release_one(fake_stream_at(1), NO_PRODUCER), DLX_RELEASE_LATER);
    }
    fake_forget();
    CHECK_EQ(release_one(fake_stream_at(2), NO_PRODUCER), DLX_RELEASE_LATER);
    CHECK_EVENTUALLY(atomic_load(&n_drops) == 1); /* overtakes */
    CHECK(fake_count(DLX_CALL_event_query) < N);
    fake_block(fake_stream_at(1), false);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(atomic_load(&n_drops), N + 1);
}

static void
test_a_per_thread_producer_means_park(void)
{
    fake_install();
    CHECK_EQ(release_one(fake_stream_at(1), fake_per_thread(0)), DLX_RELEASE_LATER);
    CHECK_EQ(fake_count(DLX_CALL_stream_wait_event), 0);
    CHECK_EQ(dlx_drain(LONG), 0);
}

static void *
release_elsewhere(void *request)
{
    fake_set_current(&fake.primary[0]);
    CHECK(dlx_release(request, NULL) != DLX_RELEASE_LEAKED);
    return NULL;
}

static void
test_a_per_thread_consumer_of_another_thread_is_recorded_on_the_legacy_stream(void)
{
    fake_install();
    pthread_t thread;
    dlx_stream consumer = fake_per_thread(0);
    dlx_release_request request = {&consumer,       1,    fake_stream_at(0),
                                   dlx_thread_id(), drop, NULL};
    dlx_release(&request, NULL);
    CHECK(fake.log[fake.n_log - 3].stream == &fake.per_thread[0] ||
          fake.log[fake.n_log - 4].stream == &fake.per_thread[0] ||
          fake.log[fake.n_log - 5].stream == &fake.per_thread[0]);
    fake_forget();
    pthread_create(&thread, NULL, release_elsewhere, &request);
    pthread_join(thread, NULL);
    bool is_on_legacy = false;
    for (long i = 0; i < atomic_load(&fake.n_log); i++) {
        CHECK(fake.log[i].stream != &fake.per_thread[0]);
        is_on_legacy |= fake.log[i].call == DLX_CALL_event_record &&
                        fake.log[i].stream == &fake.legacy[0];
    }
    CHECK(is_on_legacy);
}

static void
test_a_release_joins_the_capture_that_both_sides_are_in(void)
{
    fake_install();
    fake_capture(fake_stream_at(0), DLX_CAPTURE_STATUS_ACTIVE, 7);
    fake_capture(fake_stream_at(1), DLX_CAPTURE_STATUS_ACTIVE, 7);
    CHECK_EQ(release_one(fake_stream_at(1), fake_stream_at(0)), DLX_RELEASE_NOW);
    CHECK_EQ(counters().edges, 1);
    CHECK_EQ(fake.streams[0].capture_status, DLX_CAPTURE_STATUS_ACTIVE);
}

/* A garbage-collected view of older memory while an unrelated capture runs. */
static void
hold_while(dlx_stream capturing, dlx_stream consumer, dlx_stream producer)
{
    fake_install();
    int before = atomic_load(&n_drops);
    fake_capture(capturing, DLX_CAPTURE_STATUS_ACTIVE, 7);
    CHECK_EQ(release_one(consumer, producer), DLX_RELEASE_LATER);
    CHECK_EQ(counters().held, 1);
    long asked = fake_count(DLX_CALL_stream_get_capture_info);
    CHECK_EVENTUALLY(fake_count(DLX_CALL_stream_get_capture_info) >= asked + 2);
    CHECK_EQ(fake_count(DLX_CALL_event_record), 0);
    CHECK_EQ(fake_count(DLX_CALL_stream_wait_event), 0);
    CHECK_EQ(atomic_load(&n_drops), before);
    CHECK_EQ(((fake_stream *)capturing.handle)->capture_status,
             DLX_CAPTURE_STATUS_ACTIVE);
    fake_capture(capturing, DLX_CAPTURE_STATUS_NONE, 0);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(atomic_load(&n_drops), before + 1);
    CHECK_EQ(counters().held, 0);
    dlx_driver_reset();
}

static void
test_a_release_that_meets_a_capture_is_held_until_its_end(void)
{
    dlx_stream p = fake_stream_at(0), c = fake_stream_at(1), other = fake_stream_at(3);
    hold_while(c, c, p);
    hold_while(p, c, p);
    hold_while(c, c, NO_PRODUCER);
    hold_while(other, fake_legacy(0), p);
    hold_while(other, fake_legacy(0), NO_PRODUCER);
    hold_while(other, c, fake_legacy(0));
}

static void
test_an_unrelated_capture_does_not_hold_anything(void)
{
    fake_install();
    fake_capture(fake_stream_at(3), DLX_CAPTURE_STATUS_ACTIVE, 7);
    CHECK_EQ(release_one(fake_stream_at(1), fake_stream_at(0)), DLX_RELEASE_NOW);
    CHECK_EQ(counters().edges, 1);
    CHECK_EQ(release_one(fake_stream_at(1), NO_PRODUCER), DLX_RELEASE_LATER);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(atomic_load(&fake.unrelaxed), 0);
}

static void
test_a_failing_edge_is_parked(void)
{
    static const dlx_gpu_call failing[] = {DLX_CALL_stream_wait_event,
                                           DLX_CALL_event_record};
    for (int i = 0; i < 2; i++) {
        fake_install();
        dlx_error err = {.status = DLX_OK};
        dlx_stream c = fake_stream_at(1);
        fake_fail(failing[i], 1, DLX_GPU_INVALID_HANDLE);
        CHECK_EQ(release(&c, 1, fake_stream_at(0), &err), DLX_RELEASE_LATER);
        CHECK_EQ(err.status, DLX_OK);
        CHECK_EQ(dlx_drain(LONG), 0);
        CHECK_EQ(atomic_load(&n_drops), i + 1);
        CHECK_EQ(counters().leaked, 0);
        dlx_driver_reset();
    }
}

static void
test_what_can_be_neither_ordered_nor_parked_is_leaked_and_said(void)
{
    fake_install();
    dlx_error err = {.status = DLX_OK};
    dlx_stream nothing = {kDLCUDA, 0, 0x1000};
    CHECK_EQ(release(&nothing, 1, fake_stream_at(0), &err), DLX_RELEASE_LEAKED);
    CHECK_EQ(err.status, DLX_BAD_STREAM);
    CHECK_EQ(release(&nothing, 1, NO_PRODUCER, &err), DLX_RELEASE_LEAKED);
    CHECK_EQ(counters().leaked, 2);
    CHECK_EQ(atomic_load(&n_drops), 0);
    CHECK_EQ(counters().events_in_use, 0);
}

static void
test_a_dead_context_releases_at_once(void)
{
    fake_install();
    dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL);
    fake_block(fake_stream_at(1), true);
    CHECK_EQ(release_one(fake_stream_at(1), NO_PRODUCER), DLX_RELEASE_LATER);
    atomic_store(&fake.sticky, 700);
    CHECK_EQ(release_one(fake_stream_at(1), fake_stream_at(0)), DLX_RELEASE_NOW);
    CHECK_EQ(release_one(fake_stream_at(1), NO_PRODUCER), DLX_RELEASE_NOW);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(atomic_load(&n_drops), 1);
    CHECK_EQ(counters().leaked, 0);
}

static void
test_inside_a_drivers_callback_everything_is_left_to_the_reaper(void)
{
    fake_install();
    dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL);
    atomic_store(&fake.is_in_callback, true);
    CHECK_EQ(release_one(fake_stream_at(1), fake_stream_at(0)), DLX_RELEASE_LATER);
    CHECK_EQ(release_one(fake_stream_at(1), NO_PRODUCER), DLX_RELEASE_LATER);
    CHECK_EQ(counters().deferred, 2);
    atomic_store(&fake.is_in_callback, false);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(atomic_load(&n_drops), 2);
    CHECK_EQ(counters().edges, 1);
    CHECK_EQ(counters().parked_ever, 1);
}

static void
test_a_deferred_release_makes_no_call_in_its_own_thread(void)
{
    fake_install();
    dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL);
    dlx_stream c = fake_stream_at(1);
    dlx_release_request request = {&c,   1,   fake_stream_at(0), dlx_thread_id(),
                                   drop, NULL};
    dlx_release_request bare = {NULL, 0, NO_PRODUCER, dlx_thread_id(), drop, NULL};
    dlx_release_defer(&request);
    dlx_release_defer(&bare);
    CHECK_EVENTUALLY(atomic_load(&n_drops) == 2);
    CHECK_EQ(counters().edges, 1);
    CHECK(atomic_load(&drop_thread) != dlx_thread_id());
    CHECK_EQ(dlx_drain(LONG), 0);
}

static void
test_parking_on_an_event_keeps_it_until_it_has_fired(void)
{
    fake_install();
    dlx_event *event;
    dlx_error err;
    fake_block(fake_stream_at(1), true);
    dlx_event_record(fake_stream_at(1), &event, NULL);
    CHECK_EQ(dlx_event_park(event, drop, NULL, NULL), DLX_OK);
    dlx_event_release(event);
    CHECK_EQ(counters().events_in_use, 1);
    fake_block(fake_stream_at(1), false);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(atomic_load(&n_drops), 1);
    CHECK_EQ(counters().events_in_use, 0);
    fake_capture(fake_stream_at(2), DLX_CAPTURE_STATUS_ACTIVE, 7);
    dlx_event_record(fake_stream_at(2), &event, NULL);
    CHECK_EQ(dlx_event_park(event, drop, NULL, &err), DLX_CAPTURE_REFUSED);
    dlx_event_release(event);
}

static _Atomic int n_enters, n_leaves;
static _Atomic bool may_enter = true;

static bool
enter(void)
{
    atomic_fetch_add(&n_enters, 1);
    return atomic_load(&may_enter);
}

static void
leave(void)
{
    atomic_fetch_add(&n_leaves, 1);
}

static void
test_drops_of_one_sweep_share_one_entry(void)
{
    enum { N = 100 };
    fake_install();
    dlx_reaper_configure(enter, leave);
    fake_block(fake_stream_at(1), true);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(release_one(fake_stream_at(1), NO_PRODUCER), DLX_RELEASE_LATER);
    }
    CHECK_EVENTUALLY(fake_count(DLX_CALL_event_query) >= 3);
    fake_block(fake_stream_at(1), false);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(atomic_load(&n_drops), N);
    CHECK(atomic_load(&n_enters) <= 3);
    CHECK_EQ(atomic_load(&n_enters), atomic_load(&n_leaves));
}

static void
test_where_drops_can_no_longer_run_they_are_leaked_and_counted(void)
{
    fake_install();
    dlx_reaper_configure(enter, leave);
    atomic_store(&may_enter, false);
    CHECK_EQ(release_one(fake_stream_at(1), NO_PRODUCER), DLX_RELEASE_LATER);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(atomic_load(&n_drops), 0);
    CHECK_EQ(counters().leaked, 1);
    CHECK_EQ(atomic_load(&n_leaves), 0);
}

static void
drop_and_release_more(void *arg)
{
    dlx_stream c = fake_stream_at(2);
    dlx_release_request request = {&c, 1, NO_PRODUCER, dlx_thread_id(), drop, NULL};
    (void)arg;
    CHECK_EQ(dlx_release(&request, NULL), DLX_RELEASE_LATER);
    CHECK_EQ(dlx_reap(10), 0);
}

static void
test_a_drop_may_release_and_reap_does_not_nest(void)
{
    fake_install();
    dlx_stream c = fake_stream_at(1);
    dlx_release_request request = {
        &c, 1, NO_PRODUCER, dlx_thread_id(), drop_and_release_more, NULL};
    CHECK_EQ(dlx_release(&request, NULL), DLX_RELEASE_LATER);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(atomic_load(&n_drops), 1);
}

static void
test_a_reset_drops_what_is_parked_and_held(void)
{
    fake_install();
    fake_block(fake_stream_at(1), true);
    CHECK_EQ(release_one(fake_stream_at(1), NO_PRODUCER), DLX_RELEASE_LATER);
    fake_capture(fake_stream_at(2), DLX_CAPTURE_STATUS_ACTIVE, 7);
    CHECK_EQ(release_one(fake_stream_at(2), NO_PRODUCER), DLX_RELEASE_LATER);
    dlx_driver_reset();
    CHECK_EQ(atomic_load(&n_drops), 2);
    CHECK_EQ(counters().parked + counters().held + counters().events_in_use, 0);
    CHECK_EQ(counters().leaked, 0);
}

const check_test release_tests[] = {
#define T(name) {#name, name}
    T(test_an_edge_is_one_record_on_the_consumer_and_one_wait_of_the_producer),
    T(test_a_release_to_the_same_stream_or_without_consumers_makes_no_call),
    T(test_a_park_is_one_record_and_no_wait_and_drops_once_the_work_is_done),
    T(test_parked_memory_comes_back_without_anyone_asking),
    T(test_memory_with_several_consumers_waits_for_all_of_them),
    T(test_looking_at_a_held_stream_costs_one_query_however_much_is_parked),
    T(test_a_per_thread_producer_means_park),
    T(test_a_per_thread_consumer_of_another_thread_is_recorded_on_the_legacy_stream),
    T(test_a_release_joins_the_capture_that_both_sides_are_in),
    T(test_a_release_that_meets_a_capture_is_held_until_its_end),
    T(test_an_unrelated_capture_does_not_hold_anything),
    T(test_a_failing_edge_is_parked),
    T(test_what_can_be_neither_ordered_nor_parked_is_leaked_and_said),
    T(test_a_dead_context_releases_at_once),
    T(test_inside_a_drivers_callback_everything_is_left_to_the_reaper),
    T(test_a_deferred_release_makes_no_call_in_its_own_thread),
    T(test_parking_on_an_event_keeps_it_until_it_has_fired),
    T(test_drops_of_one_sweep_share_one_entry),
    T(test_where_drops_can_no_longer_run_they_are_leaked_and_counted),
    T(test_a_drop_may_release_and_reap_does_not_nest),
    T(test_a_reset_drops_what_is_parked_and_held),
    {0},
};
