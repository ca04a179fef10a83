/* SPDX-License-Identifier: Apache-2.0
 *
 * tvm-ffi: its library exports tensors from C, but its Python type has no table that
 * says so. This makes one. GIL: held.
 */
#ifndef DLX_TVM_FFI_H_
#define DLX_TVM_FFI_H_

#include "state.h"

/* Find where tvm-ffi's Python objects keep their handle, by comparing specimens: a pair
 * of the address of TVMFFITensorToDLPackVersioned and a list of (tensor, handle).
 * Returns a capsule with a C exchange API over that function; None where not exactly
 * one place explains all specimens; NULL with TypeError set. */
DLX_GIVE PyObject *dlx_tvm_ffi_locate(PyObject *module, PyObject *args);

#endif
