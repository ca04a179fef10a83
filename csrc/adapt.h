/* SPDX-License-Identifier: Apache-2.0
 *
 * What the adapters in Python need of the core beside the public functions. Methods of
 * dlexchange._core; upper half, GIL held.
 */
#ifndef DLX_ADAPT_H_
#define DLX_ADAPT_H_

#include "state.h"

/* Ask the adapter of `x` whether its memory is its values, where it has a say
 * (`prepare` of a route that reads memory). 0, or -1 with an error set. */
int dlx_adapt_ask(PyObject *prepare, PyObject *x);

/* A legacy capsule of a Tensor, also of read-only memory: the adapter knows that this
 * consumer does not write, or has warned. */
PyObject *dlx_adapt_legacy_capsule(PyObject *module, PyObject *tensor);

/* A capsule of the managed tensor at an address: (address, versioned). A deleter that
 * is Python's must not run while an exception is set, as a destructor of Python's
 * would. */
PyObject *dlx_adapt_managed_capsule(PyObject *module, PyObject *args);

/* Count a copy that a consuming framework made. */
PyObject *dlx_adapt_count_copy(PyObject *module, PyObject *unused);

/* Count that the host waited for a producer's promise. */
PyObject *dlx_adapt_count_host_wait(PyObject *module, PyObject *unused);

/* Warn, once a process, that a consumer cannot keep memory read-only: (producer,
 * consumer). An ExchangeError in strict mode. */
PyObject *dlx_adapt_warn_read_only(PyObject *module, PyObject *args);

#endif
