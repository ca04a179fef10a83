/* SPDX-License-Identifier: Apache-2.0
 *
 * dlexchange.Tensor: its life. What Python sees of it is in tensor_type.c. GIL: held.
 */
#include "tensor.h"

#include "alloc.h"

/* A Tensor out of the freelist has kept its type, and is as a new one otherwise. */
static inline void
revive(PyObject *self)
{
#if defined(Py_DEBUG) || defined(Py_TRACE_REFS) || defined(Py_GIL_DISABLED)
    _Py_NewReference(self);
#else
    Py_SET_REFCNT(self, 1);
#endif
}

static dlx_tensor *
tensor_alloc(dlx_state *state)
{
    dlx_tensor *tensor = state->free_tensors;
    if (tensor != NULL) {
        state->free_tensors = tensor->next_free;
        state->free_tensors_count--;
        revive((PyObject *)tensor);
    } else {
        tensor = PyObject_New(dlx_tensor, state->tensor_type);
        if (tensor == NULL) {
            return NULL;
        }
        tensor->state = state;
        tensor->exports = 0;
        tensor->closed = false;
        tensor->lent = false;
        tensor->far_dims = NULL;
        tensor->hold = (dlx_hold){.kind = DLX_HOLD_NOTHING};
    }
    state->counts.tensors++;
    return tensor;
}

dlx_tensor *
dlx_tensor_blank(dlx_state *state)
{
    return tensor_alloc(state);
}

PyObject *
dlx_tensor_new(dlx_state *state, dlx_source *source)
{
    int64_t *far_dims = NULL;
    dlx_tensor *tensor = NULL;
    if (source->view.ndim > DLX_INLINE_NDIM) {
        far_dims = dlx_alloc(2 * (size_t)source->view.ndim * sizeof *far_dims);
        if (far_dims == NULL) {
            PyErr_NoMemory();
            goto fail;
        }
    }
    tensor = tensor_alloc(state);
    if (tensor == NULL) {
        goto fail;
    }
    tensor->flags = source->flags;
    dlx_hold_move(&tensor->hold, &source->hold);
    tensor->far_dims = far_dims;
    (void)dlx_view_publish(&tensor->view, &source->view,
                           far_dims != NULL ? far_dims : tensor->dims);
    return (PyObject *)tensor;

fail:
    free(far_dims);
    return NULL;
}

/* Into the freelist, with what `tensor_alloc` relies on; the hold has been
 * taken out. */
static void
put_back(dlx_tensor *tensor)
{
    dlx_state *state = tensor->state;
    if (tensor->far_dims != NULL) {
        free(tensor->far_dims);
        tensor->far_dims = NULL;
    }
    state->counts.tensors--;
    if (state->free_tensors_count < DLX_FREELIST) {
        tensor->closed = false; /* exports are 0: each holds a reference */
        tensor->lent = false;
        tensor->next_free = state->free_tensors;
        state->free_tensors = tensor;
        state->free_tensors_count++;
    } else {
        PyTypeObject *type = Py_TYPE((PyObject *)tensor);
        PyObject_Free(tensor);
        Py_DECREF(type);
    }
}

static void
tensor_end(dlx_tensor *tensor)
{
    if (dlx_hold_is_plain(&tensor->hold)) { /* the common end, field by field */
        PyObject *owner = tensor->hold.what;
        tensor->hold.kind = DLX_HOLD_NOTHING;
        put_back(tensor);
        Py_DECREF(owner); /* last: it may run anything, also us */
    } else {
        dlx_hold hold;
        dlx_hold_move(&hold, &tensor->hold);
        tensor->hold.lease = NULL;
        put_back(tensor);
        dlx_hold_end(&hold);
    }
}

/* Each Tensor may keep the next: a buffer handed to and fro makes a chain. Beyond this
 * depth its end waits for the outermost call, for the C stack is short. */
#define MAX_UNWINDING 64

void
dlx_tensor_dealloc(PyObject *self)
{
    dlx_tensor *tensor = (dlx_tensor *)self;
    dlx_state *state = tensor->state;
    if (state->unwinding >= MAX_UNWINDING) {
        tensor->next_free = state->late_tensors;
        state->late_tensors = tensor;
        return;
    }
    state->unwinding++;
    tensor_end(tensor);
    while (state->unwinding == 1 && state->late_tensors != NULL) {
        tensor = state->late_tensors;
        state->late_tensors = tensor->next_free;
        tensor_end(tensor);
    }
    state->unwinding--;
}

int
dlx_tensor_open(dlx_state *state, PyObject *x, dlx_source *source)
{
    dlx_tensor *tensor = (dlx_tensor *)x;
    (void)state;
    if (tensor->closed) {
        PyErr_SetString(PyExc_ValueError, "this Tensor has been closed");
        return -1;
    }
    source->framework = "dlexchange";
    dlx_view_copy(&source->view, &tensor->view);
    source->flags = tensor->flags & ~(uint64_t)DLPACK_FLAG_BITMASK_IS_COPIED;
    dlx_hold_set(&source->hold, DLX_HOLD_EXPORT, Py_NewRef(x));
    tensor->exports++;
    return 0;
}

void
dlx_tensor_export_end(dlx_tensor *tensor)
{
    tensor->exports--;
    if (tensor->closed && tensor->exports == 0 && !tensor->lent) {
        dlx_hold_end(&tensor->hold);
    }
}

PyObject *
dlx_tensor_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    dlx_tensor *tensor = (dlx_tensor *)self;
    tensor->closed = true;
    if (tensor->exports == 0 && !tensor->lent) {
        dlx_hold_end(&tensor->hold);
    }
    Py_RETURN_NONE;
}
