/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of hold.h.
 */
#include "hold.h"

#include <pthread.h>
#include <stdlib.h>

#include "lease.h"
#include "tensor.h"

uint32_t dlx_epoch = 1;

static void
after_fork_in_child(void)
{
    dlx_epoch++;
}

int
dlx_hold_setup(void)
{
    static bool registered = false;
    if (!registered && pthread_atfork(NULL, NULL, after_fork_in_child) != 0) {
        PyErr_SetString(PyExc_OSError, "cannot register the fork handler");
        return -1;
    }
    registered = true;
    return 0;
}

static bool
is_finalizing(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

/* The state that holds the GIL (before 3.12 of any thread), or NULL. */
static PyThreadState *
current_thread_state(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyThreadState_GetUnchecked();
#else
    return _PyThreadState_UncheckedGet();
#endif
}

dlx_thread
dlx_thread_kind(void)
{
    if (!Py_IsInitialized() || is_finalizing()) {
        return DLX_THREAD_LATE;
    }
    PyThreadState *mine = PyGILState_GetThisThreadState();
    if (mine == NULL) {
        return DLX_THREAD_FOREIGN;
    }
    return mine == current_thread_state() ? DLX_THREAD_ATTACHED : DLX_THREAD_DETACHED;
}

static void
let_go(const dlx_hold *hold)
{
    switch (hold->kind) {
        case DLX_HOLD_EXPORT:
            dlx_tensor_export_end((dlx_tensor *)hold->what);
            Py_DECREF((PyObject *)hold->what);
            break;
        case DLX_HOLD_OBJECT:
            Py_DECREF((PyObject *)hold->what);
            break;
        case DLX_HOLD_VERSIONED: {
            DLManagedTensorVersioned *managed = hold->what;
            if (managed->deleter != NULL) {
                managed->deleter(managed);
            }
            break;
        }
        case DLX_HOLD_LEGACY: {
            DLManagedTensor *managed = hold->what;
            if (managed->deleter != NULL) {
                managed->deleter(managed);
            }
            break;
        }
        case DLX_HOLD_MEMORY:
            free(hold->what);
            break;
        case DLX_HOLD_PINNED:
            dlx_pinned_free(hold->what);
            break;
        case DLX_HOLD_NOTHING:
            break;
    }
}

void
dlx_hold_drop_detached(dlx_hold *hold)
{
    dlx_hold mine = *hold;
    hold->kind = DLX_HOLD_NOTHING;
    if (mine.kind != DLX_HOLD_NOTHING && mine.epoch != dlx_epoch) {
        /* taken before a fork: it is the parent's */
        atomic_fetch_add(&dlx_the_state->counts.leaked_unlocked, 1);
    } else {
        let_go(&mine);
    }
}

void
dlx_hold_drop(dlx_hold *hold)
{
    PyObject *type = NULL, *value = NULL, *traceback = NULL;
    bool pending = PyErr_Occurred() != NULL;
    if (pending) {
        PyErr_Fetch(&type, &value, &traceback);
    }
    if (hold->lease != NULL && hold->epoch == dlx_epoch) {
        dlx_lease_release(hold->lease, hold, true);
    } else {
        dlx_hold_drop_detached(hold);
    }
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable(NULL);
    }
    if (pending) {
        PyErr_Restore(type, value, traceback);
    }
}
