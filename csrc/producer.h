/* SPDX-License-Identifier: Apache-2.0
 *
 * dlexchange.Producer: an author's class describes its memory (__dlexchange__), and
 * gets every protocol from here. GIL: held; released around driver calls.
 */
#ifndef DLX_PRODUCER_H_
#define DLX_PRODUCER_H_

#include "description.h"
#include "source.h"

extern PyType_Spec dlx_producer_spec;

/* Put the C exchange API table on the type. 0, or -1 with an error set. */
int dlx_producer_setup(dlx_state *state);

/* True where objects of this type are read by their description: a subclass of Producer
 * that has not written a __dlpack__ of its own. */
bool dlx_producer_has_type(dlx_state *state, PyTypeObject *type);

/* Reach the memory of a Producer, for a hand-off: P are the streams it names. 0, or -1
 * with an error set. */
int dlx_producer_open(dlx_state *state, PyObject *x, const dlx_request *request,
                      DLX_GIVE dlx_source *source);

/* The event pool for dlexchange.h, in a capsule. NULL with an error set. */
DLX_GIVE PyObject *dlx_pool_capsule(void);

/* ---- for producer_type.c ---- */

/* What the array says of its memory now; what a class with fixed memory said once. NULL
 * with an error set. */
DLX_GIVE dlx_description *dlx_producer_describe(dlx_state *state, PyObject *x);

/* Make a source of it. It refers to the description's shape: keep that until the source
 * was published. */
void dlx_producer_source(DLX_KEEP const dlx_description *said, PyObject *x,
                         DLX_GIVE dlx_source *source);

/* Make `to` wait for every stream with pending work. 0, or -1 with an error set. */
int dlx_producer_push(dlx_state *state, const dlx_description *said, dlx_stream to);

/* The method __dlpack__. */
PyObject *dlx_producer_dlpack(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames);

#endif
