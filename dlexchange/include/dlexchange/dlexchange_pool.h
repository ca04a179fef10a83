/* SPDX-License-Identifier: Apache-2.0
 *
 * What dlexchange.h takes from the Python package where that is installed: the push of
 * its event pool. A table of one function, in a capsule. Known to both sides; nothing
 * for authors to call. C11 and C++11; no Python needed.
 */
#ifndef DLEXCHANGE_DLEXCHANGE_POOL_H_
#define DLEXCHANGE_DLEXCHANGE_POOL_H_

#include <stdint.h>

/* Where the capsule is found, and its name: PyCapsule_Import() takes it. The table
 * behind it is static: it stands until the process ends, whatever becomes of the
 * capsule. */
#define DLX_POOL_CAPSULE "dlexchange._core.Protocols._event_pool"

/* Rises when the table changes its meaning. A header of another version leaves the
 * table alone and drives the driver itself: both ways are right, and may be mixed. */
#define DLX_POOL_VERSION 1u

/* What a push of the pool answers. Numbers of their own, because the numbers of either
 * side may grow. */
enum {
    DLX_POOL_OK = 0,
    DLX_POOL_NO_DRIVER = 1,  /* no driver library, or one that lacks a function */
    DLX_POOL_BAD_STREAM = 2, /* a handle that the driver does not know */
    DLX_POOL_CAPTURE = 3,    /* refused: it would have spoiled a capture */
    DLX_POOL_NO_MEMORY = 4,
    DLX_POOL_FAILED = 5, /* a driver call failed, or the process is a forked child */
};

typedef struct dlx_pool {
    uint32_t version; /* DLX_POOL_VERSION of the package */

    /* Make later work of `to` wait for all work now on `from`; both are streams of the
     * device. One record and one wait of a pooled event; nothing is created where an
     * event is free. Orders: `to` after `from`. Blocks: never the host. GIL: not
     * needed; release it. Threads: any. */
    int (*push)(int32_t device_type, int32_t device_id, uintptr_t from, uintptr_t to);
} dlx_pool;

#endif /* DLEXCHANGE_DLEXCHANGE_POOL_H_ */
