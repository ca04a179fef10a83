/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of a DLTensor as Python is shown them, by whatever type shows one.
 * GIL: held.
 */
#ifndef DLX_SHOW_H_
#define DLX_SHOW_H_

#include "state.h"

/* A tuple of extents or strides. NULL with MemoryError set. */
DLX_GIVE PyObject *dlx_show_dims(int32_t n, const int64_t *values);

/* A dlexchange.DType, or a dlexchange.Device. NULL with an error set. */
DLX_GIVE PyObject *dlx_show_dtype(DLDataType dtype);
DLX_GIVE PyObject *dlx_show_device(DLDevice device);

#endif
