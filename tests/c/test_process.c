/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "fake.h"

static const dlx_stream NO_PRODUCER = {0};
static _Atomic int n_drops;

static void
drop(void *arg)
{
    (void)arg;
    atomic_fetch_add(&n_drops, 1);
}

static dlx_release_result
park_on(dlx_stream consumer)
{
    dlx_release_request request = {&consumer,       1,    NO_PRODUCER,
                                   dlx_thread_id(), drop, NULL};
    return dlx_release(&request, NULL);
}

/* Run `body` in a forked child; true where it exits with 0 before the alarm. */
static bool
passes_in_child(void (*body)(void))
{
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        body();
        _exit(check_failures() == 0 ? 0 : 1);
    }
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static dlx_event *event_of_parent;
static int fd_of_parent;

static void
use_everything_in_the_child(void)
{
    dlx_error err;
    dlx_event *event;
    dlx_stream stream;
    dlx_counters c;
    void *memory;
    fake_forget();
    CHECK(dlx_is_stopped());
    CHECK_EQ(dlx_push(fake_stream_at(0), fake_stream_at(1), 0, &err), DLX_STOPPED);
    CHECK_EQ(dlx_event_record(fake_stream_at(0), &event, &err), DLX_STOPPED);
    CHECK_EQ(dlx_event_wait(event_of_parent, fake_stream_at(1), &err), DLX_STOPPED);
    CHECK_EQ(dlx_stream_acquire(kDLCUDA, 0, &stream, &err), DLX_STOPPED);
    CHECK_EQ(dlx_pinned_alloc(kDLCUDA, 0, 8, &memory, &err), DLX_STOPPED);
    CHECK_EQ(park_on(fake_stream_at(1)), DLX_RELEASE_LEAKED);
    dlx_release_request request = {NULL, 0, NO_PRODUCER, 0, drop, NULL};
    dlx_release_defer(&request);
    dlx_stream_release(fake_stream_at(0));
    dlx_event_release(event_of_parent);
    CHECK_EQ(dlx_reap(10), 0);
    CHECK_EQ(dlx_drain(0), 1); /* the parent's, never to be dropped here */
    dlx_driver_reset();
    dlx_stop();
    dlx_counters_read(&c);
    CHECK_EQ(c.leaked, 2);
    CHECK_EQ(atomic_load(&n_drops), 0);
    CHECK_EQ(fake_calls(), 0);
    CHECK_EQ(fcntl(fd_of_parent, F_GETFD), -1);
}

static void
test_a_forked_child_makes_no_driver_call_drops_nothing_and_ends(void)
{
    fake_install();
    fd_of_parent = dup(STDERR_FILENO);
    CHECK_EQ(dlx_fork_fd_add(fd_of_parent), DLX_OK);
    fake_block(fake_stream_at(1), true);
    CHECK_EQ(dlx_event_record(fake_stream_at(0), &event_of_parent, NULL), DLX_OK);
    CHECK_EQ(park_on(fake_stream_at(1)), DLX_RELEASE_LATER);
    CHECK(passes_in_child(use_everything_in_the_child));
    /* The parent is as it was. */
    CHECK(fcntl(fd_of_parent, F_GETFD) != -1);
    fake_block(fake_stream_at(1), false);
    CHECK_EQ(dlx_drain(10000000000u), 0);
    CHECK_EQ(atomic_load(&n_drops), 1);
    dlx_event_release(event_of_parent);
    dlx_fork_fd_remove(fd_of_parent);
    close(fd_of_parent);
}

static void
use_a_driver_in_the_child(void)
{
    fake_install();
    CHECK(!dlx_is_stopped());
    CHECK_EQ(dlx_push(fake_stream_at(0), fake_stream_at(1), 0, NULL), DLX_OK);
    CHECK_EQ(fcntl(fd_of_parent, F_GETFD), -1);
}

static void
test_a_child_forked_before_any_driver_was_loaded_is_free_to_load_one(void)
{
    fd_of_parent = dup(STDERR_FILENO);
    CHECK_EQ(dlx_fork_fd_add(fd_of_parent), DLX_OK);
    CHECK(passes_in_child(use_a_driver_in_the_child));
}

static void
test_no_more_descriptors_than_there_is_room_for(void)
{
    for (int i = 0; i < 64; i++) {
        CHECK_EQ(dlx_fork_fd_add(1000 + i), DLX_OK);
    }
    CHECK_EQ(dlx_fork_fd_add(2000), DLX_NO_MEMORY);
    dlx_fork_fd_remove(1010);
    CHECK_EQ(dlx_fork_fd_add(2000), DLX_OK);
}

static void
test_after_a_stop_everything_is_leaked_and_counted(void)
{
    dlx_counters c;
    dlx_error err;
    fake_install();
    fake_block(fake_stream_at(1), true);
    CHECK_EQ(park_on(fake_stream_at(1)), DLX_RELEASE_LATER);
    dlx_stop();
    fake_forget();
    CHECK(dlx_is_stopped());
    CHECK_EQ(park_on(fake_stream_at(1)), DLX_RELEASE_LEAKED);
    CHECK_EQ(dlx_push(fake_stream_at(0), fake_stream_at(1), 0, &err), DLX_STOPPED);
    dlx_release_request request = {NULL, 0, NO_PRODUCER, 0, drop, NULL};
    dlx_release_defer(&request);
    dlx_stop();
    dlx_counters_read(&c);
    CHECK_EQ(c.leaked, 3);
    CHECK_EQ(c.parked, 0);
    CHECK_EQ(c.events_in_use, 0);
    CHECK_EQ(atomic_load(&n_drops), 0);
    CHECK_EQ(fake_calls(), 0);
}

static void
test_a_stop_without_anything_to_stop_ends(void)
{
    dlx_stop();
    CHECK(dlx_is_stopped());
}

static pthread_mutex_t gil = PTHREAD_MUTEX_INITIALIZER;

static _Atomic int n_wanting_gil;

static bool
take_gil(void)
{
    atomic_fetch_add(&n_wanting_gil, 1);
    pthread_mutex_lock(&gil);
    return true;
}

static void
give_gil(void)
{
    pthread_mutex_unlock(&gil);
}

/* The stand-in for the GIL is held by the thread that exits, and released for the stop.
 */
static void
test_a_stop_waits_for_the_drop_that_waits_for_the_lock(void)
{
    fake_install();
    dlx_reaper_configure(take_gil, give_gil);
    pthread_mutex_lock(&gil);
    CHECK_EQ(park_on(fake_stream_at(1)), DLX_RELEASE_LATER);
    CHECK_EVENTUALLY(atomic_load(&n_wanting_gil) == 1);
    CHECK_EQ(atomic_load(&n_drops), 0);
    dlx_reaper_configure(take_gil, give_gil); /* a second import waits for nobody */
    CHECK_EQ(dlx_reap(10), 0);                /* nor does a call that comes by */
    pthread_mutex_unlock(&gil);
    dlx_stop();
    dlx_counters c;
    dlx_counters_read(&c);
    CHECK_EQ(c.leaked + (uint64_t)atomic_load(&n_drops), 1);
    CHECK_EQ(c.parked, 0);
}

const check_test process_tests[] = {
#define T(name) {#name, name}
    T(test_a_forked_child_makes_no_driver_call_drops_nothing_and_ends),
    T(test_a_child_forked_before_any_driver_was_loaded_is_free_to_load_one),
    T(test_no_more_descriptors_than_there_is_room_for),
    T(test_after_a_stop_everything_is_leaked_and_counted),
    T(test_a_stop_without_anything_to_stop_ends),
    T(test_a_stop_waits_for_the_drop_that_waits_for_the_lock),
    {0},
};
