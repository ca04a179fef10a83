/* SPDX-License-Identifier: Apache-2.0
 *
 * Producers that are reached by their Python methods, __dlpack_device__ and __dlpack__,
 * with the keywords that each knows. GIL: held.
 */
#ifndef DLX_CONSUME_DLPACK_H_
#define DLX_CONSUME_DLPACK_H_

#include "source.h"

/* Call x.__dlpack__ and claim what it gives. 0, or -1 with an error set. `known` is a
 * copy: the calls may evict the entry. */
int dlx_dlpack_open(dlx_state *state, dlx_entry known, PyObject *x,
                    const dlx_request *request, DLX_GIVE dlx_source *source);

/* Turn a producer's BufferError into an ExchangeError, which is one, that names it; any
 * other exception of a producer stays as it is. Always -1. Clauses: K14, R16. */
int dlx_producer_refused(dlx_state *state, const char *framework);

#endif
