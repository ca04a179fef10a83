/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "check.h"
#include "fake.h"

enum { IDLE, CAPTURES_7, CAPTURES_8, BROKEN };

static void
set_state(dlx_stream stream, int state)
{
    fake_capture(stream,
                 state == IDLE     ? DLX_CAPTURE_STATUS_NONE
                 : state == BROKEN ? DLX_CAPTURE_STATUS_INVALIDATED
                                   : DLX_CAPTURE_STATUS_ACTIVE,
                 state == CAPTURES_8 ? 8 : 7);
}

static void
test_every_line_of_the_capture_table_for_pushes(void)
{
    static const struct {
        int producer, consumer;
        dlx_capture_cause plain, named;
    } table[] = {
        {IDLE, IDLE, DLX_CAPTURE_NONE, DLX_CAPTURE_NONE},
        {CAPTURES_7, CAPTURES_7, DLX_CAPTURE_NONE, DLX_CAPTURE_NONE},
        {CAPTURES_7, IDLE, DLX_CAPTURE_PRODUCER, DLX_CAPTURE_NONE},
        {IDLE, CAPTURES_7, DLX_CAPTURE_CONSUMER, DLX_CAPTURE_CONSUMER},
        {CAPTURES_7, CAPTURES_8, DLX_CAPTURE_DIFFERENT, DLX_CAPTURE_DIFFERENT},
        {BROKEN, IDLE, DLX_CAPTURE_INVALIDATED, DLX_CAPTURE_INVALIDATED},
        {IDLE, BROKEN, DLX_CAPTURE_INVALIDATED, DLX_CAPTURE_INVALIDATED},
        {BROKEN, BROKEN, DLX_CAPTURE_INVALIDATED, DLX_CAPTURE_INVALIDATED},
    };
    fake_install();
    dlx_stream p = fake_stream_at(0), c = fake_stream_at(1);
    dlx_push(p, c, 0, NULL);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        for (int named = 0; named < 2; named++) {
            dlx_error err = {.cause = DLX_CAPTURE_NONE};
            set_state(p, table[i].producer);
            set_state(c, table[i].consumer);
            fake_forget();
            dlx_status status =
                dlx_push(p, c, named ? DLX_PUSH_CONSUMER_NAMED : 0, &err);
            dlx_capture_cause cause = named ? table[i].named : table[i].plain;
            bool is_refused = cause != DLX_CAPTURE_NONE;
            CHECK_EQ(status, is_refused ? DLX_CAPTURE_REFUSED : DLX_OK);
            CHECK_EQ(err.cause, cause);
            CHECK_EQ(fake_count(DLX_CALL_event_record), !is_refused);
            CHECK_EQ(fake_count(DLX_CALL_stream_wait_event), !is_refused);
            CHECK(fake_count(DLX_CALL_stream_get_capture_info) <= 2);
        }
    }
}

static void
test_a_refusal_makes_only_capture_queries_and_the_capture_survives(void)
{
    dlx_error err;
    fake_install();
    dlx_stream p = fake_stream_at(0), c = fake_stream_at(1);
    dlx_push(p, c, 0, NULL);
    set_state(c, CAPTURES_7);
    fake_forget();
    CHECK_EQ(dlx_push(p, c, 0, &err), DLX_CAPTURE_REFUSED);
    CHECK_EQ(fake_calls(), fake_count(DLX_CALL_stream_get_capture_info));
    CHECK_EQ(fake.streams[1].capture_status, DLX_CAPTURE_STATUS_ACTIVE);
    CHECK(err.producer.handle == p.handle && err.consumer.handle == c.handle);
    CHECK(strstr(err.text, "before the capture begins") != NULL);
}

static void
test_the_legacy_stream_is_refused_while_another_stream_captures(void)
{
    fake_install();
    dlx_error err;
    set_state(fake_stream_at(3), CAPTURES_7);
    CHECK_EQ(dlx_push(fake_legacy(0), fake_stream_at(1), DLX_PUSH_CONSUMER_NAMED, &err),
             DLX_CAPTURE_REFUSED);
    CHECK_EQ(err.cause, DLX_CAPTURE_IMPLICIT);
    CHECK_EQ(dlx_push(fake_stream_at(1), fake_legacy(0), DLX_PUSH_CONSUMER_NAMED, &err),
             DLX_CAPTURE_REFUSED);
    CHECK_EQ(err.cause, DLX_CAPTURE_IMPLICIT);
    CHECK_EQ(dlx_push(fake_stream_at(1), fake_stream_at(2), 0, &err), DLX_OK);
    CHECK_EQ(fake.streams[3].capture_status, DLX_CAPTURE_STATUS_ACTIVE);
}

static void
test_a_named_fork_joins_the_capture_and_a_push_back_joins_it_again(void)
{
    fake_install();
    dlx_stream p = fake_stream_at(0), c = fake_stream_at(1);
    set_state(p, CAPTURES_7);
    CHECK_EQ(dlx_push(p, c, DLX_PUSH_CONSUMER_NAMED, NULL), DLX_OK);
    CHECK_EQ(fake.streams[1].capture_id, 7);
    CHECK_EQ(dlx_push(c, p, 0, NULL), DLX_OK);
    CHECK_EQ(fake.streams[0].capture_status, DLX_CAPTURE_STATUS_ACTIVE);
}

static void
test_events_of_a_capture_are_waited_for_only_in_it(void)
{
    fake_install();
    dlx_error err;
    dlx_event *event;
    dlx_stream p = fake_stream_at(0);
    set_state(p, CAPTURES_7);
    CHECK_EQ(dlx_event_record(p, &event, NULL), DLX_OK);
    CHECK_EQ(dlx_event_wait(event, fake_stream_at(1), &err), DLX_CAPTURE_REFUSED);
    CHECK_EQ(err.cause, DLX_CAPTURE_PRODUCER);
    set_state(fake_stream_at(2), CAPTURES_8);
    CHECK_EQ(dlx_event_wait(event, fake_stream_at(2), &err), DLX_CAPTURE_REFUSED);
    CHECK_EQ(err.cause, DLX_CAPTURE_DIFFERENT);
    CHECK_EQ(fake_count(DLX_CALL_stream_wait_event), 0);
    set_state(fake_stream_at(3), CAPTURES_7);
    CHECK_EQ(dlx_event_wait(event, fake_stream_at(3), &err), DLX_OK);
    CHECK_EQ(dlx_event_wait(event, p, &err), DLX_OK);
    CHECK_EQ(fake_count(DLX_CALL_stream_wait_event), 1);
    CHECK_EQ(dlx_event_query(event, &err), DLX_CAPTURE_REFUSED);
    CHECK_EQ(dlx_event_synchronize(event, &err), DLX_CAPTURE_REFUSED);
    CHECK_EQ(fake_count(DLX_CALL_event_query), 0);
    dlx_event_release(event);
}

static void
test_a_complete_event_of_before_enters_a_capture_without_a_wait(void)
{
    fake_install();
    dlx_error err;
    dlx_event *event;
    dlx_stream p = fake_stream_at(0), c = fake_stream_at(1);
    fake_block(p, true);
    CHECK_EQ(dlx_event_record(p, &event, NULL), DLX_OK);
    set_state(c, CAPTURES_7);
    CHECK_EQ(dlx_event_wait(event, c, &err), DLX_CAPTURE_REFUSED);
    CHECK_EQ(err.cause, DLX_CAPTURE_CONSUMER);
    fake_block(p, false);
    CHECK_EQ(dlx_event_wait(event, c, &err), DLX_OK);
    CHECK_EQ(fake_count(DLX_CALL_stream_wait_event), 0);
    CHECK_EQ(atomic_load(&fake.unrelaxed), 0);
    CHECK_EQ(fake.streams[1].capture_status, DLX_CAPTURE_STATUS_ACTIVE);
    dlx_event_release(event);
}

static void
test_recording_on_the_legacy_stream_is_refused_while_another_captures(void)
{
    fake_install();
    dlx_error err;
    dlx_event *event = NULL;
    set_state(fake_stream_at(3), CAPTURES_7);
    CHECK_EQ(dlx_event_record(fake_legacy(0), &event, &err), DLX_CAPTURE_REFUSED);
    CHECK(event == NULL);
    CHECK_EQ(fake_count(DLX_CALL_event_record), 0);
}

static void
test_queries_of_a_capturing_stream_leave_it_alone(void)
{
    fake_install();
    dlx_error err;
    set_state(fake_stream_at(0), CAPTURES_7);
    CHECK_EQ(dlx_stream_query(fake_stream_at(0), &err), DLX_CAPTURE_REFUSED);
    CHECK_EQ(dlx_stream_synchronize(fake_stream_at(0), &err), DLX_CAPTURE_REFUSED);
    CHECK_EQ(fake.streams[0].capture_status, DLX_CAPTURE_STATUS_ACTIVE);
    CHECK_EQ(dlx_stream_query(fake_stream_at(1), &err), DLX_OK);
    CHECK_EQ(atomic_load(&fake.unrelaxed), 0);
    CHECK_EQ(fake_mode(), 0);
}

static void
test_our_own_calls_are_relaxed_and_the_mode_is_restored(void)
{
    fake_install();
    dlx_stream ours;
    dlx_event *event;
    void *memory;
    CHECK_EQ(dlx_stream_acquire(kDLCUDA, 0, &ours, NULL), DLX_OK);
    CHECK_EQ(dlx_event_record(ours, &event, NULL), DLX_OK);
    CHECK_EQ(dlx_event_query(event, NULL), DLX_OK);
    CHECK_EQ(dlx_pinned_alloc(kDLCUDA, 0, 100, &memory, NULL), DLX_OK);
    CHECK(fake_count(DLX_CALL_exchange_capture_mode) >= 8);
    CHECK_EQ(atomic_load(&fake.unrelaxed), 0);
    CHECK_EQ(fake_mode(), 0);
    dlx_pinned_free(memory);
    dlx_event_release(event);
}

const check_test capture_tests[] = {
#define T(name) {#name, name}
    T(test_every_line_of_the_capture_table_for_pushes),
    T(test_a_refusal_makes_only_capture_queries_and_the_capture_survives),
    T(test_the_legacy_stream_is_refused_while_another_stream_captures),
    T(test_a_named_fork_joins_the_capture_and_a_push_back_joins_it_again),
    T(test_events_of_a_capture_are_waited_for_only_in_it),
    T(test_a_complete_event_of_before_enters_a_capture_without_a_wait),
    T(test_recording_on_the_legacy_stream_is_refused_while_another_captures),
    T(test_queries_of_a_capturing_stream_leave_it_alone),
    T(test_our_own_calls_are_relaxed_and_the_mode_is_restored),
    {0},
};
