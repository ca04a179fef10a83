/* SPDX-License-Identifier: Apache-2.0
 *
 * The consuming frameworks: where a source is made into somebody's array. GIL: held.
 */
#ifndef DLX_PRODUCE_H_
#define DLX_PRODUCE_H_

#include "block.h"
#include "source.h"

/* One hand-off from any producer to a framework with a route in C. */
DLX_GIVE PyObject *dlx_hand_off(dlx_state *state, PyObject *x,
                                const dlx_request *request);

/* Import through a framework's C exchange API, which may have run the deleter of what
 * it refuses. NULL with an error set; then the source is closed or still the caller's.
 */
DLX_GIVE PyObject *dlx_exchange_import(dlx_state *state, const DLPackExchangeAPI *api,
                                       DLX_TAKE dlx_source *source);

/* The same with a block of our own, of which the consumer takes possession. Where it
 * fails and has not run the deleter, the hold comes back in `hold`, which was empty. */
DLX_GIVE PyObject *dlx_block_import(dlx_state *state, const DLPackExchangeAPI *api,
                                    DLX_TAKE dlx_block *block, DLX_GIVE dlx_hold *hold);

/* Turn what a consuming framework raised into an ExchangeError that says what it was
 * given. MemoryError and BaseExceptions stay as they are. */
void dlx_consumer_refused(dlx_state *state, const char *consumer,
                          const dlx_source *source);

/* Warn, once a process, that the consumer cannot keep memory read-only. In strict mode
 * an ExchangeError. 0 or -1. */
/* `level`: how many Python frames up is the caller of dlexchange. */
int dlx_warn_read_only(dlx_state *state, const char *producer, const char *consumer,
                       Py_ssize_t level);

/* The C exchange API of torch; imports torch. 0, or -1 with an error set. */
int dlx_torch_load(dlx_state *state);

#endif
