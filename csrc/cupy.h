/* SPDX-License-Identifier: Apache-2.0
 *
 * CuPy: it has no C exchange API, but a C function tells a thread's current stream.
 * This makes a table of it. GIL: held.
 */
#ifndef DLX_CUPY_H_
#define DLX_CUPY_H_

#include "state.h"

/* Take what cupy_backends.cuda.stream.__pyx_capi__ has as get_stream_ptr. Returns a
 * capsule with a C exchange API whose work stream is CuPy's current one and that
 * exports nothing; None where that is a function of another kind. */
DLX_GIVE PyObject *dlx_cupy_streams(PyObject *module, PyObject *function);

#endif
