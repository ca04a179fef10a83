/* SPDX-License-Identifier: Apache-2.0
 *
 * torch: its C exchange API, behind guards for what that API exports without a word.
 * GIL: held.
 */
#ifndef DLX_TORCH_H_
#define DLX_TORCH_H_

#include "source.h"

/* Read a torch tensor. With request->managed the source holds torch's managed tensor,
 * else a reference to the tensor itself. 0, or -1 with ExchangeError set. Refuses conj
 * and neg bits (their values are not what lies in memory) and requires_grad. */
int dlx_torch_open(dlx_state *state, const DLPackExchangeAPI *api, PyObject *x,
                   const dlx_request *request, DLX_GIVE dlx_source *source);

/* The guards alone, by torch's own methods: for subclasses that reach us over
 * __dlpack__. 1 where x may be read, 0 where it is lazy, -1 with an error set. */
int dlx_torch_may_read_by_methods(dlx_state *state, PyObject *x);

/* A tensor whose memory is the values of the lazy `x`: a copy, so only where `request`
 * asks for one. NULL with CopyError or ExchangeError set. */
DLX_GIVE PyObject *dlx_torch_resolve(dlx_state *state, PyObject *x,
                                     const dlx_request *request);

/* The short way from plain numpy arrays. NULL without an error where the array needs
 * the long way, also to be told what torch has against it. */
DLX_GIVE PyObject *dlx_torch_of_numpy(dlx_state *state, PyObject *array);

/* Make a torch tensor. On failure nothing is taken. */
DLX_GIVE PyObject *dlx_torch_make(dlx_state *state, const dlx_request *request,
                                  DLX_TAKE dlx_source *source);

/* Find where this torch keeps its conj, neg and autograd state, by comparing specimens:
 * a list of (tensor, cdata, is_conj, is_neg, autograd: 0, 1 or 2 for unknown). True
 * where found; otherwise the guards call torch's methods. Returns a bool, or NULL with
 * an error set. */
DLX_GIVE PyObject *dlx_torch_locate(PyObject *module, PyObject *specimens);

/* What tells of a host tensor the pinned device (type, number) whose current stream may
 * be writing it, or None: from a torch that has a GPU, whose own table calls pinned
 * memory plain. Returns None. */
DLX_GIVE PyObject *dlx_torch_watch_pinned(PyObject *module, PyObject *pinned_on);

/* Call the memory of the host tensor `x` pinned where torch says so. To torch itself it
 * stays what its table says. 0, or -1 with an error set. */
int dlx_torch_note_pinned(PyObject *x, const dlx_request *request, dlx_source *source);

#endif
