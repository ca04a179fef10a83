/* SPDX-License-Identifier: Apache-2.0
 *
 * dlexchange.Tensor: a neutral owner and view of somebody's memory. Not tracked by the
 * cycle collector, from a freelist, shape and strides inside. GIL: held.
 */
#ifndef DLX_TENSOR_H_
#define DLX_TENSOR_H_

#include "block.h"
#include "source.h"

typedef struct dlx_tensor {
    PyObject_HEAD
    dlx_state *state;
    DLTensor view; /* shape and strides in dims or far_dims; NULL strides never */
    uint64_t flags;
    dlx_hold hold;
    Py_ssize_t exports; /* managed tensors and buffers that still use the memory */
    bool closed;        /* no new exports; the memory goes with the last one */
    bool lent;          /* its address was given out where nobody counts */
    int64_t *far_dims;
    struct dlx_tensor *next_free;
    int64_t dims[2 * DLX_INLINE_NDIM];
} dlx_tensor;

extern PyType_Spec dlx_tensor_spec;

/* Make a Tensor of a source. On failure nothing is taken. */
DLX_GIVE PyObject *dlx_tensor_new(dlx_state *state, DLX_TAKE dlx_source *source);

/* Make a Tensor whose view the caller fills in, over its `dims` of at most
 * DLX_INLINE_NDIM dimensions. NULL with MemoryError set. */
DLX_GIVE dlx_tensor *dlx_tensor_blank(dlx_state *state);

/* Read a Tensor as a producer: the source counts as an export. 0, or -1 with ValueError
 * set where it is closed. */
int dlx_tensor_open(dlx_state *state, PyObject *x, DLX_GIVE dlx_source *source);

/* One export less; the memory goes if it was the last of a closed Tensor. */
void dlx_tensor_export_end(dlx_tensor *tensor);

/* The ends of a Tensor: of the object, and of its hold on the memory. */
void dlx_tensor_dealloc(PyObject *self);
PyObject *dlx_tensor_close(PyObject *self, PyObject *unused);

/* The protocols of the type (protocol.c). */
PyObject *dlx_tensor_dlpack(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames);
PyObject *dlx_tensor_dlpack_device(PyObject *self, PyObject *unused);
PyObject *dlx_tensor_array_interface(PyObject *self, void *closure);
PyObject *dlx_array_method(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames); /* of any producer */
#define DLX_ARRAY_METHOD                                                       \
    {"__array__", (PyCFunction)(void (*)(void))dlx_array_method,               \
     METH_FASTCALL | METH_KEYWORDS,                                            \
     PyDoc_STR("__array__($self, dtype=None, *, copy=None)\n--\n\n"            \
               "Return a numpy array, as ``to_numpy`` does, where numpy asks " \
               "for one.")}
int dlx_tensor_getbuffer(PyObject *self, Py_buffer *buffer, int flags);
void dlx_tensor_releasebuffer(PyObject *self, Py_buffer *buffer);

/* The exchange API table of the type, in its capsule (exchange_api.c). */
DLX_GIVE PyObject *dlx_exchange_api_capsule(void);

#endif
