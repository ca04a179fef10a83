/* SPDX-License-Identifier: Apache-2.0
 *
 * One door for the memory of our own structs, so that tests can fail the n-th
 * allocation. Release with free(). No Python.h; any thread.
 */
#ifndef DLX_ALLOC_H_
#define DLX_ALLOC_H_

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Counts down to the allocation that fails; 0 means none does. */
extern atomic_long dlx_alloc_countdown;

static inline void *
dlx_alloc(size_t nbytes)
{
    if (atomic_load_explicit(&dlx_alloc_countdown, memory_order_relaxed) > 0 &&
        atomic_fetch_sub(&dlx_alloc_countdown, 1) == 1) {
        return NULL;
    }
    return malloc(nbytes);
}

static inline void *
dlx_alloc_zeroed(size_t nbytes)
{
    void *memory = dlx_alloc(nbytes);
    return memory != NULL ? memset(memory, 0, nbytes) : NULL;
}

/* For data: aligned to 64 bytes, which every consumer of the field accepts as is. */
static inline void *
dlx_alloc_aligned(size_t nbytes)
{
    if (atomic_load_explicit(&dlx_alloc_countdown, memory_order_relaxed) > 0 &&
        atomic_fetch_sub(&dlx_alloc_countdown, 1) == 1) {
        return NULL;
    }
    return aligned_alloc(64, (nbytes / 64 + 1) * 64);
}

#endif
