/* SPDX-License-Identifier: Apache-2.0
 *
 * jax: jaxlib's own two functions, called directly where a self-test has shown that
 * they behave (dlexchange.adapters.jax decides), else jax's public ones. GIL: held.
 */
#ifndef DLX_JAX_H_
#define DLX_JAX_H_

#include "source.h"

/* Read a jax array.
 * Blocks: on the host, until the array is ready, without the GIL (jax on the CPU has no
 * stream to order by); a wait of more than 50 us is counted in stats().host_waits. */
int dlx_jax_open(dlx_state *state, PyObject *x, const dlx_request *request,
                 DLX_GIVE dlx_source *source);

/* Make a jax array. On failure nothing is taken. */
DLX_GIVE PyObject *dlx_jax_make(dlx_state *state, const dlx_request *request,
                                DLX_TAKE dlx_source *source);

/* Ask dlexchange.adapters.jax for the fast route, once. 1 where there is one, 0 where
 * not, -1 with an error set. Imports jax. */
int dlx_jax_load(dlx_state *state);

#endif
