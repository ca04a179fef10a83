/* SPDX-License-Identifier: Apache-2.0
 *
 * A block is a managed tensor that we hand out: the struct, its shape and strides, and
 * the hold on the memory, in one piece. The consumer frees it through the deleter.
 *
 * Threads: dlx_block_new needs the GIL; the deleters run anywhere.
 */
#ifndef DLX_BLOCK_H_
#define DLX_BLOCK_H_

#include "hold.h"

#define DLX_INLINE_NDIM 8

typedef struct dlx_block {
    union {
        DLManagedTensorVersioned versioned;
        DLManagedTensor legacy;
    } managed;
    dlx_hold hold;
    struct dlx_block *next; /* in the freelist or the deferred list */
    int64_t *far_dims;      /* shape and strides where ndim > DLX_INLINE_NDIM */
    bool *dropped;          /* set when the deleter ran, while somebody watches */
    int64_t dims[2 * DLX_INLINE_NDIM];
} dlx_block;

/* Copy shape and strides of `view` to `dims` (room for 2 * ndim), with byte_offset
 * folded into data, and strides made plain where they mean nothing (extent 1, no
 * elements). True where there are no elements. */
bool dlx_view_publish(DLTensor *out, const DLTensor *view, int64_t *dims);

/* Make a managed tensor over `view`, versioned or legacy, kept alive by `hold`. NULL
 * with MemoryError set; on failure nothing is taken. `view` is copied. Owns: the result
 * owns the hold. */
DLX_GIVE dlx_block *dlx_block_new(dlx_state *state, const DLTensor *view,
                                  uint64_t flags, DLX_TAKE dlx_hold *hold,
                                  bool versioned);

/* The same with nothing filled in but the header: the caller writes the view, over
 * `dims` of up to DLX_INLINE_NDIM dimensions, and the hold. */
DLX_GIVE dlx_block *dlx_block_blank(dlx_state *state);

/* Let go of the memory and of the block: the deleters do this. GIL: any, any thread. */
void dlx_block_drop(DLX_TAKE dlx_block *block);

/* Take the hold out of a block nobody else has seen, and free the block. GIL: held. */
void dlx_block_undo(dlx_state *state, DLX_TAKE dlx_block *block, dlx_hold *hold);

/* Drop what threads that may not wait for the GIL have left behind. GIL: held. */
void dlx_deferred_drain(dlx_state *state);

/* True where there is something to drain: one load. */
bool dlx_deferred_waiting(void);

#endif
