/* SPDX-License-Identifier: Apache-2.0
 *
 * The reaper's thread, its inbox, and the sweep. Whoever sweeps owns the list of
 * waiting tasks; new ones come through a lock-free inbox, so that a driver's callback,
 * a deleter or a drop can add some at any time. No GIL, except inside drops: `enter`
 * takes it, once a batch. It sleeps without a limit while nothing waits, and longer and
 * longer while nothing moves.
 */
#include "reaper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 256 };
static const int64_t SECOND = 1000000000;
static const int64_t SHORTEST_NAP = 100000;  /* ns; about one kernel */
static const int64_t LONGEST_NAP = 20000000; /* ns; what memory may come back late */

/* ---- State ---- */

static _Atomic(dlx_task *) inbox; /* newest first */
static pthread_mutex_t sweeping = PTHREAD_MUTEX_INITIALIZER;
static dlx_task *waiting; /* oldest first; owned by the sweeper, as is next_watch */
static int64_t next_watch;
static bool (*_Atomic enter_drops)(void);
static void (*_Atomic leave_drops)(void);

enum { AWAKE, NAPPING, ASLEEP }; /* napping ends soon by itself */
static _Atomic int rest = AWAKE;
static _Atomic int wake_fd = -1;
static _Atomic bool is_stopping;
static _Atomic bool is_running;
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;
static pthread_t thread; /* under `starting` */

/* Without a lock: the caller may hold the GIL, for which a sweeper may wait. */
void
dlx_reaper_configure(bool (*enter)(void), void (*leave)(void))
{
    atomic_store(&leave_drops, leave);
    atomic_store(&enter_drops, enter);
}

static int64_t
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

static uint64_t
read_gauge(size_t gauge)
{
    return atomic_load_explicit(&dlx_counts[gauge], memory_order_acquire);
}

static uint64_t
count_brisk(void)
{
    return read_gauge(DLX_GAUGE(parked)) + read_gauge(DLX_GAUGE(held)) +
           read_gauge(DLX_GAUGE(deferred));
}

/* ---- Tasks ---- */

void
dlx_task_count_as(dlx_task *task, size_t gauge)
{
    atomic_fetch_add(&dlx_counts[gauge], 1);
    atomic_fetch_sub(&dlx_counts[task->gauge], 1);
    task->gauge = gauge;
}

static void
finish_task(dlx_task *task, bool is_leaked)
{
    if (is_leaked && task->drop != NULL) {
        DLX_COUNT(leaked);
    }
    atomic_fetch_sub(&dlx_counts[task->gauge], 1);
    task->destroy(task);
}

/* Under `sweeping`: put what is in the inbox behind what waits, oldest first. */
static void
adopt_inbox(void)
{
    dlx_task *oldest = NULL;
    dlx_task *task = atomic_exchange(&inbox, NULL);
    while (task != NULL) {
        dlx_task *next = task->next;
        task->next = oldest;
        oldest = task;
        task = next;
    }
    dlx_task **end = &waiting;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = oldest;
}

/* ---- The sweep ---- */

/* Under `sweeping`. Several drops share one taking of the GIL, but not without end. */
static void
run_drops(dlx_task *due)
{
    while (due != NULL) {
        bool (*enter)(void) = atomic_load(&enter_drops);
        void (*leave)(void) = atomic_load(&leave_drops);
        bool may_drop = enter == NULL || enter();
        for (int i = 0; i < BATCH && due != NULL; i++) {
            dlx_task *task = due;
            due = task->next;
            if (may_drop) {
                task->drop(task->arg);
            }
            finish_task(task, !may_drop);
        }
        if (may_drop && leave != NULL) {
            leave();
        }
    }
}

static void
leave_context(dlx_sweep *sweep)
{
    if (sweep->inside != NULL) {
        sweep->inside->gpu->contexts->leave(sweep->inside, sweep->saved);
        sweep->inside = NULL;
    }
}

/* The whole sweep is in relaxed mode, and stays in a context until it needs another. */
dlx_status
dlx_sweep_query(dlx_sweep *sweep, dlx_event *event)
{
    dlx_context *context = event->context;
    if (dlx_event_is_done(event)) {
        return DLX_OK;
    }
    if (sweep->inside != context) {
        leave_context(sweep);
        int code = context->gpu->contexts->enter(context, &sweep->saved);
        if (code != DLX_GPU_SUCCESS) {
            return dlx_gpu_status(code);
        }
        sweep->inside = context;
    }
    return dlx_gpu_status(context->gpu->call.event_query(event->native));
}

/* Under `sweeping`. Moves what is due from `waiting` to the returned list. */
static dlx_task *
examine_all(size_t limit, size_t *n_done, size_t *n_due)
{
    dlx_sweep sweep = {0};
    dlx_task *due = NULL, **due_end = &due;
    dlx_task **place = &waiting;
    int64_t time = now();
    if (time >= next_watch) {
        sweep.is_watch_due = true;
        next_watch = time + SECOND;
    }
    while (*place != NULL && *n_due < limit) {
        dlx_task *task = *place;
        bool is_orphan = task->generation != dlx_gpu_generation();
        dlx_task_verdict verdict = task->examine(task, &sweep, is_orphan);
        if (verdict == DLX_TASK_KEEP) {
            place = &task->next;
            continue;
        }
        *place = task->next;
        task->next = NULL;
        *n_done += 1;
        if (verdict == DLX_TASK_DROP) {
            *due_end = task;
            due_end = &task->next;
            *n_due += 1;
        } else {
            finish_task(task, verdict == DLX_TASK_LEAK);
        }
    }
    leave_context(&sweep);
    return due;
}

/* Under `sweeping`. Look once at everything that waits, and run what is due. Returns
 * how many tasks ended; *n_due says how many of them were dropped. */
static size_t
sweep_locked(size_t limit, size_t *n_due)
{
    static const int32_t types[] = {kDLCUDA, kDLROCM};
    dlx_gpu *gpus[2];
    int modes[2];
    size_t n_done = 0;
    *n_due = 0;
    adopt_inbox();
    if (waiting == NULL || dlx_is_stopped()) {
        return 0;
    }
    for (int i = 0; i < 2; i++) {
        gpus[i] = dlx_gpu_peek(types[i]);
        if (gpus[i] != NULL) {
            dlx_relaxed_enter(gpus[i], &modes[i]);
        }
    }
    dlx_task *due = examine_all(limit, &n_done, n_due);
    for (int i = 0; i < 2; i++) {
        if (gpus[i] != NULL) {
            dlx_relaxed_leave(gpus[i], modes[i]);
        }
    }
    run_drops(due);
    return n_done;
}

/* For callers that come by: nothing, where somebody is sweeping already. */
static size_t
try_sweep(size_t limit, size_t *n_due)
{
    *n_due = 0;
    if (pthread_mutex_trylock(&sweeping) != 0) {
        return 0;
    }
    size_t n_done = sweep_locked(limit, n_due);
    pthread_mutex_unlock(&sweeping);
    return n_done;
}

size_t
dlx_reap(size_t limit)
{
    size_t n_due = 0;
    if (count_brisk() != 0 && !dlx_is_stopped()) {
        try_sweep(limit, &n_due);
    }
    return n_due;
}

/* ---- The thread ---- */

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
    if (atomic_load(&inbox) == NULL && !atomic_load(&is_stopping)) {
        ppoll(&wake, 1, nap < 0 ? NULL : &limit, NULL);
    }
    if (atomic_exchange(&rest, AWAKE) == AWAKE) {
        ssize_t n = read(fd, &count, sizeof(count));
        (void)
            n; /* EAGAIN: the kick is still on its way, and wakes us once for nothing */
    }
}

static void *
run_reaper(void *unused)
{
    int64_t nap = SHORTEST_NAP;
    (void)unused;
    while (!atomic_load(&is_stopping)) {
        size_t n_due;
        bool is_fresh = atomic_load(&inbox) != NULL;
        pthread_mutex_lock(&sweeping);
        bool has_moved = sweep_locked(SIZE_MAX, &n_due) != 0;
        pthread_mutex_unlock(&sweeping);
        nap = is_fresh || has_moved ? SHORTEST_NAP : nap * 2;
        nap = nap < LONGEST_NAP ? nap : LONGEST_NAP;
        if (count_brisk() != 0) {
            take_rest(NAPPING, nap);
        } else {
            take_rest(ASLEEP, read_gauge(DLX_GAUGE(notifications)) != 0 ? SECOND : -1);
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
    task->next = atomic_load_explicit(&inbox, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&inbox, &task->next, task)) {
    }
    start();
    /* A flood of tasks must not wait for the end of a nap. */
    dlx_reaper_kick(is_urgent || n % BATCH == BATCH - 1);
}

/* ---- Drain, reset, stop ---- */

size_t
dlx_drain(uint64_t timeout_ns)
{
    int64_t nap = SHORTEST_NAP;
    int64_t end =
        now() + (timeout_ns < INT64_MAX / 2 ? (int64_t)timeout_ns : INT64_MAX / 2);
    for (;;) {
        size_t n_due;
        bool has_moved = !dlx_is_stopped() && try_sweep(SIZE_MAX, &n_due) != 0;
        uint64_t left = count_brisk() + read_gauge(DLX_GAUGE(notifications));
        if (left == 0 || now() >= end || dlx_is_stopped()) {
            return (size_t)left;
        }
        nap = has_moved ? SHORTEST_NAP : (nap < LONGEST_NAP ? nap * 2 : nap);
        struct timespec pause = {0, nap};
        nanosleep(&pause, NULL);
    }
}

/* Under one lock, so that no sweep sees a driver go. */
void
dlx_driver_reset(void)
{
    size_t n_due;
    if (dlx_is_forked()) {
        return;
    }
    pthread_mutex_lock(&sweeping);
    dlx_gpu_retire_all();
    sweep_locked(SIZE_MAX, &n_due);
    pthread_mutex_unlock(&sweeping);
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
    pthread_mutex_lock(&sweeping);
    adopt_inbox();
    while (waiting != NULL) {
        dlx_task *task = waiting;
        waiting = task->next;
        finish_task(task, true);
    }
    pthread_mutex_unlock(&sweeping);
}
