/* SPDX-License-Identifier: Apache-2.0
 *
 * A source is a producer's memory during one hand-off: what it looks like, what keeps
 * it alive, and how it was reached. It lives on the C stack of one call. GIL: held.
 */
#ifndef DLX_SOURCE_H_
#define DLX_SOURCE_H_

#include "lease.h"
#include "layout.h"

/* Who consumes; the numbers are known to dlexchange.adapters. */
typedef enum dlx_consumer {
    DLX_TO_TENSOR,
    DLX_TO_NUMPY,
    DLX_TO_TORCH,
    DLX_TO_JAX,
    DLX_TO_EXCHANGE, /* through the C exchange API in the request */
    DLX_TO_ADAPTER,  /* a Tensor, ordered for whom an adapter gives it to */
    DLX_TO_CUPY,     /* a Tensor where CuPy does not take the memory (cupy.h) */
} dlx_consumer;

/* What the caller of a hand-off asked for. */
typedef struct dlx_request {
    PyObject *stream; /* borrowed; NULL: nothing was said */
    bool is_current;  /* `stream` is the consumer's current one: nobody named it */
    int copy;         /* -1: if needed, 0: never, 1: always */
    bool managed;     /* a managed tensor is wanted where the producer has one */
    dlx_consumer consumer;
    const DLPackExchangeAPI *api; /* of DLX_TO_EXCHANGE, else NULL */
    PyObject *current_stream;     /* of DLX_TO_CUPY: its function; borrowed */
} dlx_request;

/* What a hand-off of device memory knows of streams (order.c). */
typedef struct dlx_order {
    bool is_active;            /* the fields below are filled */
    bool vouched;              /* stream=-1: no driver call */
    bool producer_ordered;     /* __dlpack__(stream=C) has done it */
    bool nothing_pending;      /* the producer says so (CAI with stream None) */
    bool edge;                 /* P is the allocation's stream, and lives on */
    bool producer_is_borrowed; /* P is a stream of ours for this call only */
    DLDevice streams_on;
    dlx_stream_ref producer, consumer;
    dlx_event *ready;        /* of the Tensor that is the source; borrowed */
    struct dlx_lease *lease; /* of the Tensor that is the source; borrowed */
} dlx_order;

typedef struct dlx_source {
    DLTensor view; /* shape and strides may belong to the producer: copy to keep */
    uint64_t flags;
    dlx_hold hold;
    dlx_route route;
    const char *framework; /* for messages; static storage */
    dlx_order order;
    int64_t shape[DLX_MAX_NDIM]; /* room for a copy's; uninitialised otherwise */
    int64_t strides[DLX_MAX_NDIM];
} dlx_source;

static inline bool
dlx_source_is_padded(const dlx_source *source)
{
    return (source->flags & DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED) != 0;
}

static inline bool
dlx_source_is_read_only(const dlx_source *source)
{
    return (source->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0;
}

/* True where the first element lies at a multiple of its own size. */
bool dlx_source_is_aligned(const dlx_source *source);

/* Reach the memory of `x`. 0, or -1 with an error set and nothing taken. */
int dlx_source_open(dlx_state *state, PyObject *x, const dlx_request *request,
                    DLX_GIVE dlx_source *source);

/* Let go of whatever the source still holds. */
static inline void
dlx_source_close(dlx_source *source)
{
    dlx_hold_end(&source->hold);
}

/* Copy the shape and strides, which may go once the GIL is released. */
static inline void
dlx_source_own_dims(dlx_source *source)
{
    dlx_dims_copy(source->shape, source->view.shape, source->view.ndim);
    dlx_dims_copy(source->strides, source->view.strides, source->view.ndim);
    source->view.shape = source->shape;
    source->view.strides = source->strides;
}

/* Replace host memory by a row-major copy of our own, aligned to 64 bytes. Counted in
 * stats().copies. Blocks: for the time of the copy, without the GIL when it is large.
 */
int dlx_source_copy(dlx_state *state, dlx_source *source);

/* For consumers that need another layout: copy where `request` allows it, else raise
 * CopyError saying `why`. */
int dlx_source_copy_because(dlx_state *state, dlx_source *source,
                            const dlx_request *request, const char *why);

/* Raise ExchangeError that names the framework and the fault. Always -1. */
int dlx_source_refuse(dlx_state *state, const char *framework, dlx_fault fault,
                      const DLTensor *tensor);

/* Fill in strides where they are NULL, and check everything. 0 or -1 with an error set.
 */
int dlx_source_check(dlx_state *state, dlx_source *source);

#endif
