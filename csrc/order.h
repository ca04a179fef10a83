/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a hand-off meets streams: which stream the producer's work runs on, which one the
 * consumer will use, and the push between them. GIL: held; released around driver calls.
 */
#ifndef DLX_ORDER_H_
#define DLX_ORDER_H_

#include "source.h"

/* The `stream` to pass to a producer that has only __dlpack__: a Python object, or NULL
 * where it is left out. 0, or -1 with StreamError set. */
int dlx_order_stream_for(dlx_state *state, DLDevice device, const dlx_request *request,
                         DLX_GIVE PyObject **stream);

/* Order the source's memory for its consumer. 0, or -1 with an error set. */
int dlx_order_source(dlx_state *state, PyObject *x, const dlx_request *request,
                     dlx_source *source);

#endif
