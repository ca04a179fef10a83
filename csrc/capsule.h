/* SPDX-License-Identifier: Apache-2.0
 *
 * PyCapsules that carry managed tensors: claiming other people's, making our own.
 * GIL: held.
 */
#ifndef DLX_CAPSULE_H_
#define DLX_CAPSULE_H_

#include "block.h"
#include "source.h"

/* Claim the managed tensor in `capsule`, versioned or legacy: the capsule is renamed
 * and the source holds the tensor, in one step. A tensor of another major version is
 * deleted unread and refused. 0, or -1 with ExchangeError set: then either the capsule
 * is as it was, or the deleter has run. Clauses: C08, C09, C10, V05, V06. */
int dlx_capsule_claim(dlx_state *state, DLX_KEEP PyObject *capsule,
                      DLX_GIVE dlx_source *source);

/* The same for a capsule that is known to be unversioned; else ValueError. */
int dlx_capsule_claim_legacy(dlx_state *state, DLX_KEEP PyObject *capsule,
                             DLX_GIVE dlx_source *source);

/* Hold and read a versioned managed tensor, as dlx_capsule_claim does. It is taken also
 * on failure: its deleter has run then. */
int dlx_managed_take(dlx_state *state, DLX_TAKE DLManagedTensorVersioned *managed,
                     DLX_GIVE dlx_source *source);

/* Refuse what an unversioned capsule cannot say: that small elements lie one a byte. */
int dlx_capsule_legacy_check(dlx_state *state, const dlx_source *source);

/* Wrap a block. The capsule deletes it if nobody claims it. On failure nothing is
 * taken. Clauses: C01-C05. */
DLX_GIVE PyObject *dlx_capsule_new(DLX_TAKE dlx_block *block, bool versioned);

/* Wrap a managed tensor that is not a block. Its deleter is kept from an exception that
 * is on its way. On failure nothing is taken. */
DLX_GIVE PyObject *dlx_capsule_of(DLX_TAKE void *managed, bool versioned);

/* Hand a source out in a capsule. Refuses what an unversioned capsule cannot say. NULL
 * with an error set: then nothing is taken. */
DLX_GIVE PyObject *dlx_source_export(dlx_state *state, DLX_TAKE dlx_source *source,
                                     bool versioned);

#endif
