/* SPDX-License-Identifier: Apache-2.0
 *
 * CuPy: it has no C exchange API, but a C function tells a thread's current stream.
 * This makes a table of it. As a consumer CuPy gets a capsule, ordered into its current
 * stream, where nothing else was asked for. GIL: held.
 */
#ifndef DLX_CUPY_H_
#define DLX_CUPY_H_

#include "source.h"

/* Take what cupy_backends.cuda.stream.__pyx_capi__ has as get_stream_ptr. Returns a
 * capsule with a C exchange API whose work stream is CuPy's current one and that
 * exports nothing; None where that is a function of another kind. */
DLX_GIVE PyObject *dlx_cupy_streams(PyObject *module, PyObject *function);

/* True for the memory of devices; the rest CuPy has copied, where it may. */
bool dlx_cupy_takes(DLDevice device);

/* CuPy's current stream, as its function says and owned by its object. 0, or -1 with an
 * error set. */
int dlx_cupy_stream(dlx_state *state, PyObject *current_stream, DLDevice on,
                    DLX_GIVE dlx_stream_ref *out);

/* Hand x over to `consumer`: (current_stream, from_dlpack, otherwise), CuPy's functions
 * and what does for a Tensor of memory that CuPy does not take: otherwise(tensor,
 * stream, copy, producer). `copy` is not 1. */
DLX_GIVE PyObject *dlx_cupy_hand_off(dlx_state *state, PyObject *x, PyObject *consumer,
                                     int copy);

#endif
