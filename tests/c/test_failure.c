/* SPDX-License-Identifier: Apache-2.0
 *
 * Every path with its n-th driver call failing, for every n until it no longer fails:
 * what is reported, what is left behind, and whether the library still works.
 */
#include <stdio.h>
#include <string.h>

#include "alloc.h"
#include "check.h"
#include "fake.h"

static const uint64_t LONG = 10000000000u;
static _Atomic int n_drops;
static bool was_reached; /* the planned failure has happened */

static void
drop(void *arg)
{
    (void)arg;
    atomic_fetch_add(&n_drops, 1);
}

static void
hear(void *arg, dlx_status status)
{
    (void)status;
    drop(arg);
}

/* Each path answers whether it succeeded; where not, *err says why and nothing is held.
 */

static bool
path_push(dlx_error *err)
{
    return dlx_push(fake_stream_at(0), fake_stream_at(1), 0, err) == DLX_OK;
}

static bool
path_push_legacy_far(dlx_error *err)
{
    return dlx_push(fake_legacy(1), fake_legacy(0), 0, err) == DLX_OK;
}

static bool
path_ready_event(dlx_error *err)
{
    dlx_event *event;
    dlx_status status = dlx_event_record(fake_stream_at(0), &event, err);
    if (status == DLX_OK) {
        status = dlx_event_wait(event, fake_stream_at(1), err);
        dlx_event_release(event);
    }
    return status == DLX_OK;
}

static bool
path_synchronize(dlx_error *err)
{
    dlx_event *event;
    dlx_status status = dlx_event_record(fake_stream_at(0), &event, err);
    if (status == DLX_OK) {
        status = dlx_event_synchronize(event, err);
        dlx_event_release(event);
    }
    return status == DLX_OK &&
           dlx_stream_synchronize(fake_stream_at(0), err) == DLX_OK &&
           dlx_stream_query(fake_legacy(1), err) == DLX_OK;
}

static bool
path_notify(dlx_error *err)
{
    int before = atomic_load(&n_drops);
    dlx_status status = dlx_stream_notify(fake_stream_at(0), hear, NULL, err);
    was_reached = atomic_load(&fake.fail_nth) <= 0;
    fake_fail(-1, 0, 0); /* what follows is the test's own */
    fake_run_callbacks(0);
    CHECK_EQ(dlx_drain(LONG), 0);
    CHECK_EQ(atomic_load(&n_drops) - before, status == DLX_OK);
    return status == DLX_OK;
}

static bool
path_copy(dlx_error *err)
{
    char src[8] = {0};
    void *dst = NULL;
    dlx_event *done;
    dlx_status status = dlx_pinned_alloc(kDLCUDA, 0, sizeof(src), &dst, err);
    if (status == DLX_OK) {
        status = dlx_copy_to_host(dst, kDLCUDA, 0, (uintptr_t)src, sizeof(src), NULL,
                                  &done, err);
    }
    if (status == DLX_OK) {
        dlx_event_release(done);
    }
    dlx_pinned_free(dst);
    return status == DLX_OK;
}

static bool (*const paths[])(dlx_error *) = {
    path_push,        path_push_legacy_far, path_ready_event,
    path_synchronize, path_notify,          path_copy,
};

static bool
run(bool (*path)(dlx_error *), dlx_error *err)
{
    bool has_plan = atomic_load(&fake.fail_nth) > 0;
    was_reached = false;
    bool has_passed = path(err);
    was_reached |= has_plan && atomic_load(&fake.fail_code) != 0 &&
                   atomic_load(&fake.fail_nth) <= 0;
    fake_fail(-1, 0, 0);
    return has_passed;
}

static void
check_nothing_is_left(const dlx_counters *before)
{
    dlx_counters c;
    dlx_counters_read(&c);
    CHECK_EQ(c.events_in_use, 0);
    CHECK_EQ(c.parked + c.held + c.deferred + c.notifications, 0);
    CHECK_EQ(c.leaked, 0);
    CHECK_EQ(c.pinned_bytes, 0);
    CHECK(fake_current() == &fake.primary[0]);
    CHECK_EQ((c.events_created - before->events_created) -
                 (c.quarantined - before->quarantined),
             atomic_load(&fake.n_events));
}

/* The context and mode exchanges may fail without anyone being told: then the path
 * works without them. Restoring them is not failed, since no caller can make that good.
 */
static bool
is_quiet(const dlx_error *err, bool has_passed)
{
    return has_passed && err->call == NULL;
}

static void
fail_each(int code, dlx_status expected)
{
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        long n_failed = 0;
        for (long nth = 1;; nth++) {
            dlx_error err = {.call = NULL};
            fake_install();
            fake_fail(-1, nth, code);
            bool has_passed = run(paths[i], &err);
            bool has_reached = was_reached;
            if (!is_quiet(&err, has_passed)) {
                CHECK(!has_passed);
                CHECK_EQ(err.status, expected);
                CHECK_EQ(err.driver_status, code);
                CHECK(strncmp(err.call, "cu", 2) == 0);
                CHECK(strstr(err.text, err.call) != NULL);
                n_failed++;
            }
            fake_set_current(&fake.primary[0]);
            CHECK(paths[i](&err)); /* usable afterwards */
            dlx_driver_reset();
            if (!has_reached || !CHECK(nth <= 200)) {
                break;
            }
        }
        CHECK(n_failed >= 4);
    }
}

static void
test_the_nth_failure_of_every_path_names_its_call_and_leaves_it_usable(void)
{
    fail_each(999, DLX_DRIVER_ERROR);
}

static void
test_a_lost_device_is_told_as_such_on_every_path(void)
{
    fail_each(700, DLX_DEVICE_LOST);
}

static void
test_nothing_is_left_behind_by_a_failure(void)
{
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        dlx_error err;
        dlx_counters before;
        fake_install();
        dlx_counters_read(&before);
        CHECK(paths[i](&err)); /* warm */
        for (long nth = 1; nth < 40; nth++) {
            fake_fail(-1, nth, 999);
            run(paths[i], &err);
            fake_set_current(&fake.primary[0]);
            check_nothing_is_left(&before);
        }
        dlx_driver_reset();
    }
}

/* Releases report nothing: each is dropped now, later, or leaked and counted. */
static void
release_with_nth_failure(dlx_stream producer, int code)
{
    was_reached = true;
    for (long nth = 1; was_reached && nth < 100; nth++) {
        dlx_counters before, after;
        dlx_stream consumers[] = {fake_stream_at(1), fake_stream_at(2)};
        dlx_release_request request = {consumers,       2,    producer,
                                       dlx_thread_id(), drop, NULL};
        fake_install();
        dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL);
        dlx_counters_read(&before);
        int drops = atomic_load(&n_drops);
        fake_fail(-1, nth, code);
        dlx_release_result result = dlx_release(&request, NULL);
        CHECK_EQ(dlx_drain(LONG), 0);
        was_reached = atomic_load(&fake.fail_nth) <= 0;
        fake_fail(-1, 0, 0);
        dlx_counters_read(&after);
        long n_ended = (result == DLX_RELEASE_NOW) + atomic_load(&n_drops) - drops +
                       (long)(after.leaked - before.leaked);
        CHECK_EQ(n_ended, 1);
        CHECK_EQ(after.events_in_use, 0);
        CHECK_EQ(dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL), DLX_OK);
        dlx_driver_reset();
    }
    CHECK(!was_reached);
}

static void
test_a_release_whose_nth_call_fails_ends_exactly_once(void)
{
    dlx_stream none = {0};
    int codes[] = {999, DLX_GPU_INVALID_HANDLE, 700, DLX_GPU_NOT_PERMITTED};
    for (int i = 0; i < 4; i++) {
        release_with_nth_failure(fake_stream_at(0), codes[i]);
        release_with_nth_failure(none, codes[i]);
    }
}

/* A release that cannot be remembered is leaked, and says so; everything else fails. */
static void
test_the_nth_failing_allocation_takes_nothing_but_what_is_counted(void)
{
    dlx_stream consumer = fake_stream_at(1), none = {0};
    for (long nth = 1; nth <= 6; nth++) {
        for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
            dlx_error err = {.status = DLX_OK};
            fake_install();
            atomic_store(&dlx_alloc_countdown, nth);
            bool has_passed = paths[i](&err);
            atomic_store(&dlx_alloc_countdown, 0);
            CHECK_EQ(err.status, has_passed ? DLX_OK : DLX_NO_MEMORY);
            CHECK(has_passed || nth <= 4);
            CHECK(paths[i](&err));
            dlx_driver_reset();
        }
    }
    fake_install();
    dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL);
    for (int is_deferred = 0; is_deferred < 2; is_deferred++) {
        dlx_error err = {.status = DLX_OK};
        dlx_release_request request = {&consumer, 1, none, dlx_thread_id(), drop, NULL};
        int drops = atomic_load(&n_drops);
        dlx_counters before, after;
        dlx_counters_read(&before);
        atomic_store(&dlx_alloc_countdown, 1);
        if (is_deferred) {
            dlx_release_defer(&request);
        } else {
            CHECK_EQ(dlx_release(&request, &err), DLX_RELEASE_LEAKED);
            CHECK_EQ(err.status, DLX_NO_MEMORY);
        }
        atomic_store(&dlx_alloc_countdown, 0);
        dlx_counters_read(&after);
        CHECK_EQ(after.leaked - before.leaked, 1);
        CHECK_EQ(after.events_in_use, 0);
        CHECK_EQ(dlx_drain(LONG), 0);
        CHECK_EQ(atomic_load(&n_drops), drops);
    }
}

const check_test failure_tests[] = {
#define T(name) {#name, name}
    T(test_the_nth_failure_of_every_path_names_its_call_and_leaves_it_usable),
    T(test_a_lost_device_is_told_as_such_on_every_path),
    T(test_nothing_is_left_behind_by_a_failure),
    T(test_a_release_whose_nth_call_fails_ends_exactly_once),
    T(test_the_nth_failing_allocation_takes_nothing_but_what_is_counted),
    {0},
};
