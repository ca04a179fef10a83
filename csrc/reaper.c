/* SPDX-License-Identifier: Apache-2.0
 *
 * The reaper's thread: when it sleeps, what wakes it, how it starts and ends. It sleeps
 * without a limit while nothing waits, and longer and longer while nothing moves.
 * No GIL; see sweep.c for what it does when awake.
 */
#include "reaper.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const int64_t SECOND = 1000000000;
static const int64_t SHORTEST_NAP = 100000;  /* ns; about one kernel */
static const int64_t LONGEST_NAP = 20000000; /* ns; what memory may come back late */

enum { AWAKE, NAPPING, ASLEEP }; /* napping ends soon by itself */
static _Atomic int rest = AWAKE;
static _Atomic int wake_fd = -1;
static _Atomic bool is_stopping;
static _Atomic bool is_running;
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;
static pthread_t thread; /* under `starting` */

void
dlx_reaper_kick(bool is_urgent)
{
    int state = atomic_load(&rest);
    bool is_due = state == ASLEEP || (is_urgent && state == NAPPING);
    if (is_due && !dlx_is_forked() && atomic_exchange(&rest, AWAKE) != AWAKE) {
        uint64_t one = 1;
        ssize_t written = write(atomic_load(&wake_fd), &one, sizeof(one));
        (void)written; /* a full counter wakes as well */
    }
}

/* Sleep until kicked, at most `nap` nanoseconds; -1: no limit. The state is set before
 * the inbox is looked at, and a pusher does it the other way round: one sees the other.
 */
static void
take_rest(int state, int64_t nap)
{
    int fd = atomic_load(&wake_fd);
    uint64_t count;
    struct pollfd wake = {.fd = fd, .events = POLLIN};
    struct timespec limit = {nap / SECOND, nap % SECOND};
    atomic_store(&rest, state);
    if (dlx_inbox_is_empty() && !atomic_load(&is_stopping)) {
        ppoll(&wake, 1, nap < 0 ? NULL : &limit, NULL);
    }
    if (atomic_exchange(&rest, AWAKE) == AWAKE) {
        /* A kick that is still on its way is not read here: it wakes us once for
         * nothing. */
        ssize_t n = read(fd, &count, sizeof(count));
        (void)n;
    }
}

static void *
run_reaper(void *unused)
{
    int64_t nap = SHORTEST_NAP;
    (void)unused;
    while (!atomic_load(&is_stopping)) {
        bool is_fresh = !dlx_inbox_is_empty();
        bool has_moved = dlx_sweep_run() != 0;
        nap = is_fresh || has_moved ? SHORTEST_NAP : nap * 2;
        nap = nap < LONGEST_NAP ? nap : LONGEST_NAP;
        if (dlx_tasks_waiting() != 0) {
            take_rest(NAPPING, nap);
        } else {
            bool is_watching = atomic_load(&dlx_counts[DLX_GAUGE(notifications)]) != 0;
            take_rest(ASLEEP, is_watching ? SECOND : -1);
        }
    }
    return NULL;
}

/* Under `starting`. */
static bool
start_locked(void)
{
    sigset_t all, before;
    dlx_fork_guard();
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return false;
    }
    atomic_store(&wake_fd, fd);
    /* Signals are for the threads of Python. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&thread, NULL, run_reaper, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) {
        close(fd);
        return false;
    }
    pthread_setname_np(thread, "dlx-reaper");
    dlx_fork_fd_add(fd);
    return true;
}

/* Start the thread at first need. Never waits: whoever holds the lock is starting it,
 * or stops it for good. Where no thread can be had, tasks wait for the next push,
 * dlx_reap or dlx_drain. */
static void
start(void)
{
    if (atomic_load(&is_running) || pthread_mutex_trylock(&starting) != 0) {
        return;
    }
    if (!atomic_load(&is_running) && !dlx_is_stopped()) {
        atomic_store(&is_running, start_locked());
    }
    pthread_mutex_unlock(&starting);
}

void
dlx_task_push(dlx_task *task, size_t gauge, bool is_urgent)
{
    task->gauge = gauge;
    task->generation = dlx_gpu_generation();
    uint64_t n = atomic_fetch_add(&dlx_counts[gauge], 1);
    dlx_inbox_push(task);
    start();
    /* A flood of tasks must not wait for the end of a nap. */
    dlx_reaper_kick(is_urgent || n % DLX_REAPER_BATCH == DLX_REAPER_BATCH - 1);
}

void
dlx_stop(void)
{
    if (dlx_is_forked()) {
        return;
    }
    pthread_mutex_lock(&starting);
    dlx_mark_stopped();
    atomic_store(&is_stopping, true);
    if (atomic_load(&is_running)) {
        dlx_reaper_kick(true);
        pthread_join(thread, NULL);
        atomic_store(&is_running, false);
    }
    pthread_mutex_unlock(&starting);
    dlx_sweep_abandon();
}
