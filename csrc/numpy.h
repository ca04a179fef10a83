/* SPDX-License-Identifier: Apache-2.0
 *
 * numpy's arrays, read and made through numpy's own C API, which is looked up when
 * numpy is there. GIL: held.
 */
#ifndef DLX_NUMPY_H_
#define DLX_NUMPY_H_

#include "block.h"
#include "source.h"

/* 1 where `type` is numpy's array type or derives from it, 0 where not (also when numpy
 * has not been imported), -1 with an error set. Never imports numpy. */
int dlx_numpy_has_type(dlx_state *state, PyTypeObject *type);

/* Import numpy's C API. 0 or -1 with ImportError set. */
int dlx_numpy_load(dlx_state *state);

/* Read an array; the source holds a reference to it. 0, or -1 with ExchangeError set.
 */
int dlx_numpy_open(dlx_state *state, PyObject *array, const dlx_request *request,
                   DLX_GIVE dlx_source *source);

/* The short way to a Tensor for plain arrays of few dimensions, filled in place. NULL
 * without an error where the array needs the long way, also for want of memory. */
DLX_GIVE PyObject *dlx_numpy_short_way(dlx_state *state, PyObject *array);

/* The same for a managed tensor that any consumer takes: also aligned, writable, and
 * without negative strides. */
DLX_GIVE dlx_block *dlx_numpy_short_block(dlx_state *state, PyObject *array);

/* Make an array over the memory of a source on the host.
 * Owns: the array's base keeps the source's hold. On failure nothing is taken. */
DLX_GIVE PyObject *dlx_numpy_make(dlx_state *state, DLX_TAKE dlx_source *source);

#endif
