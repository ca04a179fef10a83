/* SPDX-License-Identifier: Apache-2.0
 *
 * The reaper: one native thread that looks again, later, at what could not be finished
 * at once: parked and held releases, pending notifications. Inside of the driver layer.
 */
#ifndef DLX_REAPER_H_
#define DLX_REAPER_H_

#include "gpu.h"

typedef struct dlx_task dlx_task;
typedef struct dlx_sweep dlx_sweep;

typedef enum dlx_task_verdict {
    DLX_TASK_KEEP, /* look again later */
    DLX_TASK_DROP, /* run drop(arg), then free */
    DLX_TASK_LEAK, /* never run drop; count, then free */
    DLX_TASK_FREE, /* finished; nothing to run */
} dlx_task_verdict;

/* One thing to look at. The first member of what its maker allocates. */
struct dlx_task {
    dlx_task *next;
    /* Called by one thread at a time, without a lock. `is_orphan`: its driver is gone.
     */
    dlx_task_verdict (*examine)(dlx_task *task, dlx_sweep *sweep, bool is_orphan);
    void (*destroy)(dlx_task *task);
    dlx_drop_fn drop; /* NULL: nothing to drop, and nothing leaks with it */
    void *arg;
    size_t gauge;  /* DLX_GAUGE: the counter in which it is counted now */
    uintptr_t key; /* not 0: while one is kept, no later one of that key is examined */
    uint32_t generation;
    dlx_context
        *home; /* current while drop runs: producers free memory there. NULL: any */
};

/* One round of looking: what it has learnt and done, and the context it is in. */
struct dlx_sweep {
    bool is_watch_due; /* a second has passed: look for lost contexts */
    size_t n_examined;
    size_t n_done;
    size_t n_due; /* of these, with a drop */
    dlx_context *inside;
    int saved;
};

/* Drops that share one taking of the GIL. */
enum { DLX_REAPER_BATCH = 256 };

/* Query an event in a sweep: as dlx_event_query, with fewer driver calls. */
dlx_status dlx_sweep_query(dlx_sweep *sweep, dlx_event *event);

/* Hand a task to the reaper, started if need be. `is_urgent`: it can be finished now.
 * Lock-free and without a driver call; any thread, also a driver's callback. */
void dlx_task_push(DLX_TAKE dlx_task *task, size_t gauge, bool is_urgent);

/* Change what a task is counted as. */
void dlx_task_count_as(dlx_task *task, size_t gauge);

/* Have the reaper look soon. Any thread, also a driver's callback. */
void dlx_reaper_kick(bool is_urgent);

/* ---- Between sweep.c and reaper.c ---- */

void dlx_inbox_push(DLX_TAKE dlx_task *task);
bool dlx_inbox_is_empty(void);

/* Releases that are parked, held or deferred. */
uint64_t dlx_tasks_waiting(void);

/* One sweep; how many tasks ended. Blocks: while another thread sweeps. */
size_t dlx_sweep_run(void);

/* Leak every task that waits. */
void dlx_sweep_abandon(void);

#endif
