/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a hand-off meets streams: which stream the producer's work runs on (P), which
 * one the consumer will use (C), the push between them, and the lease for the way back.
 * GIL: held; released once around the driver calls of a hand-off.
 */
#ifndef DLX_ORDER_H_
#define DLX_ORDER_H_

#include "lease.h"
#include "source.h"

/* The device whose streams order memory of `device`: pinned and managed memory are
 * ordered by the streams of their driver's device. device_type 0: no backend. */
DLDevice dlx_order_device(DLDevice device);

/* Read what people pass as `stream`: a dx.Stream, an object of a framework, or the
 * protocol's integers. 0, or -1 with StreamError or TypeError set. -1 (the caller
 * vouches) gives device_type 0 and *vouched true. Clauses: S07-S12, S37. */
int dlx_stream_read(dlx_state *state, PyObject *object, DLDevice streams_on,
                    bool *vouched, DLX_GIVE dlx_stream_ref *out);

/* The stream of a native handle, where 0 means the default stream. Only that is owned.
 * 0, or -1 with an error set. */
int dlx_stream_of_handle(dlx_state *state, DLDevice on, uintptr_t handle,
                         dlx_stream_ref *out);

/* What stream=None means to a producer: the default stream of the device. 0, or -1 with
 * an error set. Clauses: S06. */
int dlx_stream_default(dlx_state *state, DLDevice on, DLX_GIVE dlx_stream_ref *out);

/* What a producer's __dlpack__ is given for a stream; device_type 0: for none, which is
 * -1, or NULL (leave it out) where streams are no numbers. 0 or -1 with an error set.
 */
int dlx_stream_argument(DLDevice on, dlx_stream stream, DLX_GIVE PyObject **out);

/* Start: read the request's stream, and find C where the consumer's framework shows it.
 * 0, or -1 with StreamError set. */
int dlx_order_begin(dlx_state *state, DLDevice device, const dlx_request *request,
                    dlx_source *source);

/* Before a producer with only __dlpack__ is called: decide what to pass as `stream`, a
 * Python object, or NULL to leave it out. 0, or -1 with StreamError set. */
int dlx_order_before_dlpack(dlx_state *state, const dlx_entry *entry, PyObject *x,
                            DLDevice device, const dlx_request *request,
                            dlx_source *source, DLX_GIVE PyObject **stream);

/* After the memory was reached: order it for its consumer, and give the source's hold a
 * lease. 0, or -1 with an error set. */
int dlx_order_source(dlx_state *state, const dlx_entry *entry, PyObject *x,
                     const dlx_request *request, dlx_source *source);

/* 0 where the host may read the memory where it is; -1 with CopyError set. */
int dlx_order_require_readable(dlx_state *state, const dlx_source *source);

/* StreamError for device memory of a producer that orders nothing, where the caller has
 * not named its stream. Always -1. */
int dlx_refuse_silent_producer(dlx_state *state, const char *framework);

/* Copy device memory to the host and wait for it: the source becomes host memory of our
 * own. Blocks: until the copy is done; counted in host_waits. */
int dlx_order_copy_to_host(dlx_state *state, dlx_source *source);

/* Let go of what ordering kept, on failure and at the end. */
void dlx_order_clear(dlx_order *order);

#endif
