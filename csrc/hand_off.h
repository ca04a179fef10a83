/* SPDX-License-Identifier: Apache-2.0
 *
 * The functions of the public surface that hand over: from_dlpack, to_numpy, to_torch,
 * to_jax, convert. Their arguments are read here, produce.h does the rest. GIL: held.
 */
#ifndef DLX_HAND_OFF_H_
#define DLX_HAND_OFF_H_

#include "state.h"

/* METH_FASTCALL | METH_KEYWORDS; what they say to Python stands in docs.h. */
PyObject *dlx_py_from_dlpack(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames);
PyObject *dlx_py_to_numpy(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames);
PyObject *dlx_py_to_torch(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames);
PyObject *dlx_py_to_jax(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames);
PyObject *dlx_py_convert(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames);

/* for_adapter(x, stream, is_current, copy): a Tensor of device memory, ordered for the
 * one consumer that an adapter gives it to, which works on `stream`: without a driver
 * call where that is the producer's own. -1: the caller vouches. */
PyObject *dlx_py_for_adapter(PyObject *module, PyObject *args);

#endif
