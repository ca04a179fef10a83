/* SPDX-License-Identifier: Apache-2.0
 *
 * The CUDA Array Interface, version 3, both ways. GIL: held.
 */
#ifndef DLX_CAI_H_
#define DLX_CAI_H_

#include "source.h"

/* Read an object that has only __cuda_array_interface__. The stream it names is P,
 * owned by the object; the release is an edge back to it, as the interface demands of
 * consumers. 0, or -1 with an error set. Clauses: A01-A17. */
int dlx_cai_open(dlx_state *state, PyObject *x, const dlx_request *request,
                 DLX_GIVE dlx_source *source);

/* __cuda_array_interface__ of a Tensor: the stream it names is one of ours that waits
 * for the ready event, kept until the Tensor is released behind it. AttributeError for
 * memory that is not CUDA's. */
DLX_GIVE PyObject *dlx_tensor_cuda_array_interface(PyObject *self, void *closure);

#endif
