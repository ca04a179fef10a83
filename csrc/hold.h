/* SPDX-License-Identifier: Apache-2.0
 *
 * A hold keeps somebody's memory alive, and lets go of it exactly once: on any thread,
 * with or without the GIL, never after finalisation and never in a forked child.
 */
#ifndef DLX_HOLD_H_
#define DLX_HOLD_H_

#include "state.h"

typedef enum dlx_hold_kind {
    DLX_HOLD_NOTHING = 0,
    DLX_HOLD_OBJECT,    /* a reference to a Python object */
    DLX_HOLD_EXPORT,    /* a reference to a Tensor, counted in its exports */
    DLX_HOLD_VERSIONED, /* a DLManagedTensorVersioned whose deleter is ours to call */
    DLX_HOLD_LEGACY,    /* a DLManagedTensor whose deleter is ours to call */
    DLX_HOLD_MEMORY,    /* memory from malloc */
    DLX_HOLD_PINNED,    /* pinned memory from the driver layer */
} dlx_hold_kind;

typedef struct dlx_hold {
    void *what;
    dlx_hold_kind kind;
    uint32_t epoch;          /* the process generation it was taken in */
    struct dlx_lease *lease; /* what its release waits for; NULL for host memory */
} dlx_hold;

/* How this thread stands to the interpreter. */
typedef enum dlx_thread {
    DLX_THREAD_ATTACHED, /* it holds the GIL */
    DLX_THREAD_DETACHED, /* Python knows it; it may wait for the GIL */
    DLX_THREAD_FOREIGN,  /* Python never saw it; it must not wait for the GIL */
    DLX_THREAD_LATE,     /* the interpreter is finalising or gone */
} dlx_thread;

dlx_thread dlx_thread_kind(void);

/* The process generation: rises in a forked child. */
extern uint32_t dlx_epoch;

/* These work a field at a time: a wide load of what has just been stored in parts waits
 * for the stores, and that is a good part of what a hand-off costs. */
static inline void
dlx_hold_set(dlx_hold *hold, dlx_hold_kind kind, DLX_TAKE void *what)
{
    hold->what = what;
    hold->kind = kind;
    hold->epoch = dlx_epoch;
    hold->lease = NULL;
}

static inline void
dlx_hold_set_object(dlx_hold *hold, PyObject *object)
{
    dlx_hold_set(hold, DLX_HOLD_OBJECT, Py_NewRef(object));
}

static inline void
dlx_hold_move(dlx_hold *to, DLX_TAKE dlx_hold *from)
{
    to->what = from->what;
    to->kind = from->kind;
    to->epoch = from->epoch;
    to->lease = from->lease;
    from->kind = DLX_HOLD_NOTHING;
}

/* Let go, after the streams of the lease. Keeps an exception that is set, out of a
 * deleter's sight, and reports one that a deleter leaves behind. Idempotent. GIL: held.
 */
void dlx_hold_drop(dlx_hold *hold);

/* The same for what Python does not own, without a lease: managed tensors and memory.
 * GIL: not held. */
void dlx_hold_drop_detached(dlx_hold *hold);

/* A reference of this process, and no streams: the common case. */
static inline bool
dlx_hold_is_plain(const dlx_hold *hold)
{
    return hold->kind == DLX_HOLD_OBJECT && hold->lease == NULL &&
           hold->epoch == dlx_epoch;
}

/* Let go, in line where that is a plain reference. GIL: held. */
static inline void
dlx_hold_end(dlx_hold *hold)
{
    if (dlx_hold_is_plain(hold)) {
        hold->kind = DLX_HOLD_NOTHING;
        Py_DECREF(
            (PyObject *)hold->what); /* deallocators keep the exception themselves */
    } else if (hold->kind != DLX_HOLD_NOTHING) {
        dlx_hold_drop(hold);
    }
}

/* Register the fork handler. 0 or -1 with an error set. */
int dlx_hold_setup(void);

#endif
