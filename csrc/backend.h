/* SPDX-License-Identifier: Apache-2.0
 *
 * Device types that Python packages bring (dlexchange.backends): the driver layer calls
 * up into them. Never on the way of CUDA, ROCm or host memory. GIL: held, but for the
 * calls the driver layer makes, which take it.
 */
#ifndef DLX_BACKEND_H_
#define DLX_BACKEND_H_

#include "order.h"

/* True where memory of this device is ordered by a registered backend; the one for SYCL
 * registers itself here, at the first need. */
bool dlx_backend_drives(dlx_state *state, int32_t device_type);

/* The Stream of a backend's own stream object; NULL: of the device's default one, which
 * stream=None means. NULL with StreamError or TypeError set. */
DLX_GIVE PyObject *dlx_backend_stream(dlx_state *state, DLDevice on,
                                      DLX_NULL PyObject *object);

/* What to pass as `stream` to a producer's __dlpack__: the backend's object for a
 * stream, NULL (leave it out) for none. 0 or -1 with an error set. */
int dlx_backend_argument(dlx_stream stream, DLX_GIVE PyObject **out);

/* 1 where the host may read that memory at its address, 0 where not; -1 with an error
 * set. */
int dlx_backend_is_host(DLDevice device, uintptr_t address);

/* _core._backend_install(device_type, name, table): from now on the driver layer drives
 * that type through `table` (dlexchange.backends.table). */
DLX_GIVE PyObject *dlx_py_backend_install(PyObject *module, PyObject *args);

#endif
