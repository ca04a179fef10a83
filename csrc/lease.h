/* SPDX-License-Identifier: Apache-2.0
 *
 * A lease is what a hold on device memory knows about streams: who wrote the memory,
 * who has used it since, and so how its release is ordered. Host memory has none.
 *
 * Upper half; the functions say which threads may call them.
 */
#ifndef DLX_LEASE_H_
#define DLX_LEASE_H_

#include "driver.h"
#include "hold.h"

/* A stream, and what keeps its handle valid. `owner` is NULL for default streams and
 * for streams that are never destroyed; `is_owned` is false for a bare handle. */
typedef struct dlx_stream_ref {
    dlx_stream stream; /* device_type 0: none */
    PyObject *owner;   /* a reference, or NULL */
    bool is_owned;
    bool is_pooled; /* one of ours, to be put back */
} dlx_stream_ref;

#define DLX_LEASE_INLINE 4

typedef struct dlx_lease {
    dlx_hold hold;           /* filled when the release begins */
    dlx_stream_ref producer; /* device_type 0: nobody knows */
    bool edge;        /* the producer's stream is the allocation's, and lives on */
    dlx_event *ready; /* the producer's work; NULL where there is nothing to wait for */
    uint64_t thread;  /* whose handle 2 is meant; 0: that of several threads */
    dlx_stream exported; /* the stream that __cuda_array_interface__ names */
    size_t n_consumers, room;
    dlx_stream_ref *consumers; /* distinct streams; `inline_consumers` at first */
    dlx_stream *streams;       /* the same as the driver layer takes them */
    dlx_stream_ref inline_consumers[DLX_LEASE_INLINE];
    dlx_stream inline_streams[DLX_LEASE_INLINE];
    uintptr_t address; /* in the registry, else 0 */
    struct dlx_lease *next, **link;
} dlx_lease;

/* Make an empty lease. NULL with MemoryError set. GIL: held. */
DLX_GIVE dlx_lease *dlx_lease_new(void);

/* Note that `consumer` has used the memory. The same stream twice is noted once; a bare
 * handle nobody owns is not noted: its release is the caller's duty (StreamError in
 * strict mode). Takes `consumer->owner` on success. 0 or -1. GIL: held. */
int dlx_lease_add_consumer(dlx_state *state, dlx_lease *lease,
                           DLX_TAKE dlx_stream_ref *consumer);

/* The same for a stream that somebody names for this very purpose: StreamError where
 * nobody owns it. */
int dlx_lease_add_named(dlx_state *state, dlx_lease *lease,
                        DLX_TAKE dlx_stream_ref *consumer);

/* Order the release and let go of `hold`, at once or on the reaper's thread.
 * Any thread but one that Python never saw; releases the GIL around driver calls. */
void dlx_lease_release(DLX_TAKE dlx_lease *lease, DLX_TAKE dlx_hold *hold,
                       bool attached);

/* The same, left to the reaper: for threads that may neither drive nor wait. */
void dlx_lease_defer(DLX_TAKE dlx_lease *lease, DLX_TAKE dlx_hold *hold);

/* Free a lease that orders nothing (a failed hand-off). GIL: held. */
void dlx_lease_free(DLX_TAKE DLX_NULL dlx_lease *lease);

/* ---- from an address back to the lease: for record_stream ---- */

/* Let dlx_lease_find see the lease under the address of its memory. Any thread. */
void dlx_lease_register(dlx_lease *lease, uintptr_t address);

/* Add a consumer to every lease registered under `address`. How many, or -1 with an
 * error set (StreamError where nobody owns the stream: it could not be kept). GIL:
 * held. */
int dlx_lease_record_stream(dlx_state *state, uintptr_t address,
                            const dlx_stream_ref *consumer);

/* Set up the reaper's way to the GIL. 0 or -1 with an error set. */
int dlx_lease_setup(void);

/* Release a reference to a stream. GIL: held. */
void dlx_stream_ref_clear(dlx_stream_ref *ref);

#endif
