/* The driver's own thread: host functions and stream callbacks run on it, while the
 * thread that caused them to run keeps sim.lock. So a callback that needs the GIL
 * deadlocks with a thread that has the GIL and calls the driver, as it does on a real
 * one. When the driver has been idle for a while, the thread also runs the ancestors of
 * pending host functions by itself: no call of the host would ever force them.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "entry.h"

struct job {
    void (*function)(void *);
    void *argument;
    bool is_done;
};

struct orphan {
    CUstreamCallback function;
    CUstream stream;
    CUresult status;
    void *user;
    struct orphan *next;
};

/* mailbox guards the job; orphans are guarded by sim.lock. Order: sim.lock, then
 * mailbox. */
static pthread_mutex_t mailbox = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t posted = PTHREAD_COND_INITIALIZER;
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;
static struct job *job;
static pthread_t driver_thread;
static bool is_started, has_idle_work;
static unsigned idle_ms;
static struct orphan *orphans;

/* Host functions are not put off for longer, even if the driver is called all the time.
 */
enum { MAX_BUSY_TICKS = 20 };

static void
run_here(void (*function)(void *), void *argument)
{
    struct sim_thread *thread = sim_thread_self();
    thread->in_host_function = true;
    function(argument);
    thread->in_host_function = false;
}

static void
run_orphan(void *argument)
{
    const struct orphan *orphan = argument;
    orphan->function(orphan->stream, orphan->status, orphan->user);
}

/* Lock: held by this thread. */
static void
work_while_idle(uint64_t *last_call, unsigned *busy_ticks)
{
    while (orphans != NULL) {
        struct orphan *orphan = orphans;
        orphans = orphan->next;
        run_here(run_orphan, orphan);
        free(orphan);
    }
    *busy_ticks = *last_call == sim.last_call ? 0 : *busy_ticks + 1;
    *last_call = sim.last_call;
    if (sim.config.idle_ms > 0 && *busy_ticks % MAX_BUSY_TICKS == 0) {
        sim_run_for_host_functions();
    }
    has_idle_work = sim.host_functions_pending > 0 ||
                    (sim.config.policy == SIMCUDA_EAGER && sim.is_initialized);
}

static void
wait_for_post(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    unsigned ms = idle_ms == 0 ? 5 : idle_ms;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += (time_t)(ms / 1000);
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    if (has_idle_work) {
        pthread_cond_timedwait(&posted, &mailbox, &until);
    } else {
        pthread_cond_wait(&posted, &mailbox);
    }
}

static void *
serve(void *unused)
{
    (void)unused;
    uint64_t last_call = 0;
    unsigned busy_ticks = 0;
    pthread_mutex_lock(&mailbox);
    for (;;) {
        if (job != NULL) {
            struct job *current = job;
            job = NULL;
            pthread_mutex_unlock(&mailbox);
            run_here(current->function, current->argument);
            pthread_mutex_lock(&mailbox);
            current->is_done = true;
            pthread_cond_broadcast(&answered);
            continue;
        }
        wait_for_post();
        if (job == NULL) {
            /* Never wait for the lock here: its owner may be about to post a job. */
            pthread_mutex_unlock(&mailbox);
            bool is_locked = pthread_mutex_trylock(&sim.lock) == 0;
            if (is_locked) {
                work_while_idle(&last_call, &busy_ticks);
                pthread_mutex_unlock(&sim.lock);
            }
            pthread_mutex_lock(&mailbox);
        }
    }
    return NULL;
}

void
sim_driver_thread_needed(void)
{
    pthread_mutex_lock(&mailbox);
    has_idle_work = true;
    idle_ms = sim.config.idle_ms;
    if (!is_started) {
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        is_started = pthread_create(&driver_thread, &attributes, serve, NULL) == 0;
        pthread_attr_destroy(&attributes);
        if (!is_started) {
            fprintf(stderr, "simulated CUDA driver: no thread for host functions\n");
            abort();
        }
    }
    pthread_cond_broadcast(&posted);
    pthread_mutex_unlock(&mailbox);
}

void
sim_call_on_driver_thread(void (*function)(void *), void *argument)
{
    if (is_started && pthread_equal(pthread_self(), driver_thread)) {
        run_here(function, argument);
        return;
    }
    struct job mine = {function, argument, false};
    sim_driver_thread_needed();
    pthread_mutex_lock(&mailbox);
    job = &mine;
    pthread_cond_broadcast(&posted);
    while (!mine.is_done) {
        pthread_cond_wait(&answered, &mailbox);
    }
    pthread_mutex_unlock(&mailbox);
}

void
sim_callback_later(CUstreamCallback function, CUstream stream, CUresult status,
                   void *user)
{
    struct orphan *orphan = sim_alloc(sizeof(*orphan));
    *orphan = (struct orphan){function, stream, status, user, NULL};
    struct orphan **last = &orphans;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = orphan;
    sim_driver_thread_needed();
}
