/* SPDX-License-Identifier: Apache-2.0
 *
 * The sweep: one look at every task that waits. Whoever holds the lock sweeps and owns
 * the tasks; new ones come through a lock-free inbox, so that a driver's callback, a
 * deleter or a drop can add some at any time. No GIL, except inside drops: `enter`
 * takes it, once a batch. Threads: any.
 */
#include <sched.h>
#include <time.h>

#include "reaper.h"

enum { BATCH = DLX_REAPER_BATCH, N_LANES = 64 };
static const int64_t WATCH_NS = 1000000000, REAP_NS = 100000;

/* Tasks of one key in order, so that the first to be kept ends the lane. Lane 0 takes
 * all others, in any order: a sweep costs the number of lanes, not of tasks that wait.
 */
typedef struct lane {
    uintptr_t key;
    dlx_task *first;
    dlx_task *last;
} lane;

static pthread_mutex_t sweeping = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(dlx_task *) inbox; /* newest first */
static lane lanes[N_LANES];       /* under `sweeping`, as are the next two */
static int64_t next_watch;
static size_t next_lane;          /* behind it the next dlx_reap begins */
static _Atomic int64_t next_reap; /* when another one is worth its queries */
static bool (*_Atomic enter_drops)(void);
static void (*_Atomic leave_drops)(void);

/* Without a lock: the caller may hold the GIL, for which a sweeper may wait. */
void
dlx_reaper_configure(bool (*enter)(void), void (*leave)(void))
{
    atomic_store(&leave_drops, leave);
    atomic_store(&enter_drops, enter);
}

/* ---- Tasks ---- */

void
dlx_task_count_as(dlx_task *task, size_t gauge)
{
    atomic_fetch_add(&dlx_counts[gauge], 1);
    atomic_fetch_sub(&dlx_counts[task->gauge], 1);
    task->gauge = gauge;
}

/* Counted until nothing is left of it: dlx_drain goes by that. */
static void
finish_task(dlx_task *task, bool is_leaked)
{
    size_t gauge = task->gauge;
    if (is_leaked && task->drop != NULL) {
        DLX_COUNT(leaked);
    }
    task->destroy(task);
    atomic_fetch_sub(&dlx_counts[gauge], 1);
}

void
dlx_inbox_push(dlx_task *task)
{
    task->next = atomic_load_explicit(&inbox, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&inbox, &task->next, task)) {
    }
}

bool
dlx_inbox_is_empty(void)
{
    return atomic_load(&inbox) == NULL;
}

/* Under `sweeping`. */
static void
append(dlx_task *task)
{
    lane *own = &lanes[1 + (task->key >> 4) % (N_LANES - 1)];
    if (task->key == 0 || (own->first != NULL && own->key != task->key)) {
        own = &lanes[0];
    }
    own->key = task->key;
    task->next = NULL;
    if (own->first == NULL) {
        own->first = task;
    } else {
        own->last->next = task;
    }
    own->last = task;
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
    while (oldest != NULL) {
        dlx_task *next = oldest->next;
        append(oldest);
        oldest = next;
    }
}

/* ---- The sweep ---- */

static bool
enter_home(const dlx_task *task, int *saved)
{
    dlx_context *home = task->home;
    return home != NULL && task->generation == dlx_gpu_generation() &&
           home->gpu->contexts->enter(home, saved) == DLX_GPU_SUCCESS;
}

/* Under `sweeping`. Several drops share one taking of the GIL, but not without end, and
 * one context, entered before: no driver call of ours is made with the GIL. */
static void
run_drops(dlx_task *due)
{
    while (due != NULL) {
        int saved;
        dlx_context *home = due->home;
        bool is_inside = enter_home(due, &saved);
        bool (*enter)(void) = atomic_load(&enter_drops);
        void (*leave)(void) = atomic_load(&leave_drops);
        bool may_drop = enter == NULL || enter();
        for (int i = 0; i < BATCH && due != NULL && due->home == home; i++) {
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
        if (is_inside) {
            home->gpu->contexts->leave(home, saved);
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

/* Examine a lane; move what is due behind *due_end, which is returned anew. */
static dlx_task **
examine_lane(lane *own, dlx_sweep *sweep, size_t limit, dlx_task **due_end)
{
    dlx_task **place = &own->first;
    dlx_task *kept = NULL;
    while (*place != NULL && sweep->n_examined < limit) {
        dlx_task *task = *place;
        sweep->n_examined++;
        bool is_orphan = task->generation != dlx_gpu_generation();
        dlx_task_verdict verdict = task->examine(task, sweep, is_orphan);
        if (verdict == DLX_TASK_KEEP) {
            if (own != &lanes[0]) {
                break;
            }
            kept = task;
            place = &task->next;
            continue;
        }
        *place = task->next;
        task->next = NULL;
        if (task == own->last) {
            own->last = kept;
        }
        sweep->n_done++;
        if (verdict == DLX_TASK_DROP) {
            *due_end = task;
            due_end = &task->next;
            sweep->n_due++;
        } else {
            finish_task(task, verdict == DLX_TASK_LEAK);
        }
    }
    return due_end;
}

static int64_t
now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Under `sweeping`. Examine at most `limit` tasks; return what is to be dropped. */
static dlx_task *
examine_all(dlx_sweep *sweep, size_t limit)
{
    dlx_task *due = NULL, **due_end = &due;
    int64_t now = now_ns();
    if (now >= next_watch) {
        sweep->is_watch_due = true;
        next_watch = now + WATCH_NS;
    }
    for (size_t i = 0; i < N_LANES && sweep->n_examined < limit; i++) {
        next_lane = (next_lane + 1) % N_LANES;
        due_end = examine_lane(&lanes[next_lane], sweep, limit, due_end);
    }
    leave_context(sweep);
    return due;
}

static bool
has_tasks(void)
{
    for (size_t i = 0; i < N_LANES; i++) {
        if (lanes[i].first != NULL) {
            return true;
        }
    }
    return false;
}

static void
sweep_locked(dlx_sweep *sweep, size_t limit)
{
    static const int32_t types[] = {kDLCUDA, kDLROCM};
    dlx_gpu *gpus[2];
    int modes[2];
    adopt_inbox();
    if (!has_tasks() || dlx_is_stopped()) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        gpus[i] = dlx_gpu_peek(types[i]);
        if (gpus[i] != NULL) {
            dlx_relaxed_enter(gpus[i], &modes[i]);
        }
    }
    run_drops(examine_all(sweep, limit)); /* deleters drive, too */
    for (int i = 0; i < 2; i++) {
        if (gpus[i] != NULL) {
            dlx_relaxed_leave(gpus[i], modes[i]);
        }
    }
}

size_t
dlx_sweep_run(void)
{
    dlx_sweep sweep = {0};
    pthread_mutex_lock(&sweeping);
    sweep_locked(&sweep, SIZE_MAX);
    pthread_mutex_unlock(&sweeping);
    return sweep.n_done;
}

/* Nothing, where somebody is sweeping already: it may be the caller. */
static void
try_sweep(dlx_sweep *sweep, size_t limit)
{
    if (!dlx_is_stopped() && pthread_mutex_trylock(&sweeping) == 0) {
        sweep_locked(sweep, limit);
        pthread_mutex_unlock(&sweeping);
    }
}

void
dlx_sweep_abandon(void)
{
    pthread_mutex_lock(&sweeping);
    adopt_inbox();
    for (size_t i = 0; i < N_LANES; i++) {
        while (lanes[i].first != NULL) {
            dlx_task *task = lanes[i].first;
            lanes[i].first = task->next;
            finish_task(task, true);
        }
    }
    pthread_mutex_unlock(&sweeping);
}

/* ---- Entry ---- */

size_t
dlx_reap(size_t limit)
{
    dlx_sweep sweep = {0};
    int64_t now = dlx_tasks_waiting() != 0 ? now_ns() : 0;
    int64_t due = atomic_load_explicit(&next_reap, memory_order_relaxed);
    if (now > due && atomic_compare_exchange_strong(&next_reap, &due, now + REAP_NS)) {
        try_sweep(&sweep, limit);
        DLX_COUNT_BY(reaped, sweep.n_due);
    }
    return sweep.n_due;
}

uint64_t
dlx_tasks_waiting(void)
{
    return atomic_load(&dlx_counts[DLX_GAUGE(parked)]) +
           atomic_load(&dlx_counts[DLX_GAUGE(held)]) +
           atomic_load(&dlx_counts[DLX_GAUGE(deferred)]);
}

/* Under one lock, so that no sweep sees a driver go. */
void
dlx_driver_reset(void)
{
    dlx_sweep sweep = {0};
    if (dlx_is_forked()) {
        return;
    }
    pthread_mutex_lock(&sweeping);
    dlx_gpu_retire_all();
    sweep_locked(&sweep, SIZE_MAX);
    pthread_mutex_unlock(&sweeping);
}

/* Gives way while things move or are about to, then naps longer and longer. */
size_t
dlx_drain(uint64_t timeout_ns)
{
    enum { PATIENCE = 20 };
    static const int64_t SHORTEST = 50000, LONGEST = 10000000;
    int64_t nap = SHORTEST, slept = 0;
    for (int n_idle = 0;;) {
        dlx_sweep sweep = {0};
        try_sweep(&sweep, SIZE_MAX);
        uint64_t left =
            dlx_tasks_waiting() + atomic_load(&dlx_counts[DLX_GAUGE(notifications)]);
        if (left == 0 || (uint64_t)slept >= timeout_ns || dlx_is_stopped()) {
            return (size_t)left;
        }
        n_idle = sweep.n_done != 0 ? 0 : n_idle + 1;
        if (n_idle < PATIENCE) {
            nap = SHORTEST;
            sched_yield();
            continue;
        }
        struct timespec pause = {0, nap};
        nanosleep(&pause, NULL);
        slept += nap;
        nap = nap < LONGEST ? 2 * nap : nap;
    }
}
