/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of block.h: the freelist, the deleters, and the list of blocks that
 * were dropped where the GIL could not be waited for.
 */
#include "block.h"

#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "driver.h"
#include "layout.h"
#include "lease.h"

static _Atomic(dlx_block *) deferred;

bool
dlx_deferred_waiting(void)
{
    return atomic_load_explicit(&deferred, memory_order_relaxed) != NULL;
}

/* GIL: held. */
static void
block_free(dlx_state *state, dlx_block *block)
{
    free(block->far_dims);
    state->counts.blocks--;
    if (state->free_blocks_count < DLX_FREELIST) {
        block->next = state->free_blocks;
        state->free_blocks = block;
        state->free_blocks_count++;
    } else {
        free(block);
    }
}

/* Without the GIL the freelist is out of reach. */
static void
free_unlocked(dlx_state *state, dlx_block *block)
{
    free(block->far_dims);
    free(block);
    atomic_fetch_add(&state->counts.blocks_unlocked, 1);
}

static void
drop_attached(dlx_state *state, dlx_block *block)
{
    dlx_hold hold;
    dlx_hold_move(&hold, &block->hold);
    block_free(state, block); /* first: the hold may run anything, also us */
    dlx_hold_end(&hold);
}

void
dlx_deferred_drain(dlx_state *state)
{
    dlx_block *block = atomic_exchange(&deferred, NULL);
    while (block != NULL) {
        dlx_block *next = block->next;
        drop_attached(state, block);
        block = next;
    }
}

/* On the reaper's thread, which holds the GIL here. */
static void
drain_on_reaper(void *unused)
{
    (void)unused;
    dlx_deferred_drain(dlx_the_state);
}

/* No lock of Python's, no GIL: also inside a driver's callback. Py_AddPendingCall would
 * not do: called from a foreign thread it does not wake the main thread before 3.13.
 * The next use of the library drains too. */
static void
defer(dlx_block *block)
{
    dlx_block *head = atomic_load(&deferred);
    do {
        block->next = head;
    } while (!atomic_compare_exchange_weak(&deferred, &head, block));
    if (head == NULL) {
        dlx_release_defer(&(dlx_release_request){.drop = drain_on_reaper});
    }
}

void
dlx_block_drop(dlx_block *block)
{
    dlx_state *state = dlx_the_state;
    if (block->dropped != NULL) {
        *block->dropped = true;
    }
    if (block->hold.epoch != dlx_epoch) {
        atomic_fetch_add(&state->counts.leaked_unlocked, 1);
        return;
    }
    switch (dlx_thread_kind()) {
        case DLX_THREAD_ATTACHED:
            drop_attached(state, block);
            break;
        case DLX_THREAD_DETACHED:
            if (block->hold.lease !=
                NULL) { /* drive first, then take the GIL if need be */
                dlx_hold hold = block->hold;
                free_unlocked(state, block);
                dlx_lease_release(hold.lease, &hold, false);
            } else if (block->hold.kind == DLX_HOLD_OBJECT ||
                       block->hold.kind == DLX_HOLD_EXPORT) {
                PyEval_RestoreThread(PyGILState_GetThisThreadState());
                drop_attached(state, block);
                (void)PyEval_SaveThread();
            } else { /* a C deleter needs no GIL; neither do we */
                dlx_hold hold = block->hold;
                free_unlocked(state, block);
                dlx_hold_drop_detached(&hold);
            }
            break;
        case DLX_THREAD_FOREIGN:
            if (block->hold.lease != NULL) { /* it may be a driver's callback */
                dlx_hold hold = block->hold;
                free_unlocked(state, block);
                dlx_lease_defer(hold.lease, &hold);
            } else {
                defer(block);
            }
            break;
        case DLX_THREAD_LATE:
            atomic_fetch_add(&state->counts.leaked_unlocked, 1);
            break;
    }
}

static void
versioned_deleter(DLManagedTensorVersioned *self)
{
    dlx_block_drop(self->manager_ctx);
}

static void
legacy_deleter(DLManagedTensor *self)
{
    dlx_block_drop(self->manager_ctx);
}

/* Strides nobody steps by, of extents 1 and of empty tensors: some consumers still look
 * at them. True where the tensor is empty. */
static bool
plain_strides(int32_t ndim, const int64_t *shape, int64_t *strides)
{
    uint64_t stride = 1; /* nobody steps by it where it grows too large */
    for (int32_t i = 0; i < ndim; i++) {
        if (shape[i] == 0) {
            dlx_layout_compact_strides(ndim, shape, strides);
            return true;
        }
    }
    for (int32_t i = ndim - 1; i >= 0; i--) {
        if (shape[i] == 1) {
            strides[i] = (int64_t)stride;
        } else {
            stride = (uint64_t)(strides[i] < 0 ? -strides[i] : strides[i]) *
                     (uint64_t)shape[i];
        }
    }
    return false;
}

bool
dlx_view_publish(DLTensor *out, const DLTensor *view, int64_t *dims)
{
    int32_t ndim = view->ndim;
    int64_t *shape = dims, *strides = dims + ndim;
    const int64_t *from_shape = view->shape, *from_strides = view->strides;
    bool plain = false;
    dlx_view_copy(out, view);
    out->shape = shape;
    out->strides = strides;
    if (from_strides == NULL) {
        dlx_dims_copy(shape, from_shape, ndim);
        dlx_layout_compact_strides(ndim, shape, strides);
        plain = true;
    } else {
        for (int32_t i = 0; i < ndim; i++) {
            shape[i] = from_shape[i];
            strides[i] = from_strides[i];
            plain = plain || from_shape[i] <= 1;
        }
    }
    bool is_empty = plain && plain_strides(ndim, shape, strides);
    if (view->byte_offset != 0 && dlx_device_has_addresses(view->device.device_type)) {
        out->data = (char *)view->data + view->byte_offset;
        out->byte_offset = 0;
    }
    return is_empty;
}

/* GIL: held. */
static dlx_block *
block_alloc(dlx_state *state)
{
    dlx_block *block = state->free_blocks;
    if (block != NULL) {
        state->free_blocks = block->next;
        state->free_blocks_count--;
    } else {
        block = dlx_alloc(sizeof *block);
    }
    return block;
}

static void
write_header(dlx_block *block, uint64_t flags)
{
    DLManagedTensorVersioned *managed = &block->managed.versioned;
    managed->version.major = DLPACK_MAJOR_VERSION;
    managed->version.minor = DLPACK_MINOR_VERSION;
    managed->manager_ctx = block;
    managed->deleter = versioned_deleter;
    managed->flags = flags;
}

dlx_block *
dlx_block_blank(dlx_state *state)
{
    dlx_block *block = block_alloc(state);
    if (block == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    block->far_dims = NULL;
    block->dropped = NULL;
    block->hold.kind = DLX_HOLD_NOTHING;
    write_header(block, 0);
    state->counts.blocks++;
    return block;
}

dlx_block *
dlx_block_new(dlx_state *state, const DLTensor *view, uint64_t flags, dlx_hold *hold,
              bool versioned)
{
    int64_t *far_dims = NULL;
    dlx_block *block = block_alloc(state);
    if (block == NULL) {
        goto fail;
    }
    if (view->ndim > DLX_INLINE_NDIM) {
        far_dims = dlx_alloc(2 * (size_t)view->ndim * sizeof *far_dims);
        if (far_dims == NULL) {
            goto fail;
        }
    }
    block->far_dims = far_dims;
    block->dropped = NULL;
    int64_t *dims = far_dims != NULL ? far_dims : block->dims;
    DLTensor *out;
    if (versioned) {
        write_header(block, flags);
        out = &block->managed.versioned.dl_tensor;
    } else {
        DLManagedTensor *managed = &block->managed.legacy;
        managed->manager_ctx = block;
        managed->deleter = legacy_deleter;
        out = &managed->dl_tensor;
    }
    if (dlx_view_publish(out, view, dims)) {
        out->data = NULL; /* Clause: T09. */
        out->byte_offset = 0;
    }
    dlx_hold_move(&block->hold, hold);
    state->counts.blocks++;
    return block;

fail:
    free(block);
    PyErr_NoMemory();
    return NULL;
}

void
dlx_block_undo(dlx_state *state, dlx_block *block, dlx_hold *hold)
{
    dlx_hold_move(hold, &block->hold);
    block_free(state, block);
}
