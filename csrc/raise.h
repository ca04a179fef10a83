/* SPDX-License-Identifier: Apache-2.0
 *
 * From the driver layer's errors to Python's.
 */
#ifndef DLX_RAISE_H_
#define DLX_RAISE_H_

#include "driver.h"
#include "state.h"

/* Raise what `error` says: StreamError, CaptureError, DeviceLost, DriverError,
 * ExchangeError or MemoryError. Always returns NULL. GIL: held. */
PyObject *dlx_raise_driver(dlx_state *state, const dlx_error *error);

/* Warn, once a process, that memory had to be leaked. Never raises. */
void dlx_warn_leak(const dlx_error *error, bool attached);

#endif
