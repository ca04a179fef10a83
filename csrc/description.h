/* SPDX-License-Identifier: Apache-2.0
 *
 * dlexchange.Description: what an author says of his array's memory, read and checked
 * once, when it is made. Immutable. GIL: held.
 */
#ifndef DLX_DESCRIPTION_H_
#define DLX_DESCRIPTION_H_

#include "block.h"
#include "lease.h"

typedef struct dlx_description {
    PyObject_HEAD
    DLTensor view; /* shape and strides in dims or far_dims; strides never NULL */
    uint64_t flags;
    PyObject *owner;           /* keeps the memory alive; NULL: the array described */
    bool complete;             /* no work is pending (stream=-1) */
    size_t n_streams;          /* with pending work; 0 for plain host memory */
    dlx_stream_ref *streams;   /* references of our own */
    dlx_stream_ref allocation; /* device_type 0: not known */
    int64_t *far_dims;
    int64_t dims[2 * DLX_INLINE_NDIM];
} dlx_description;

/* The fields, in the order of the docstring. */
enum {
    DLX_FIELD_DATA_PTR,
    DLX_FIELD_SHAPE,
    DLX_FIELD_DTYPE,
    DLX_FIELD_STRIDES,
    DLX_FIELD_DEVICE,
    DLX_FIELD_READONLY,
    DLX_FIELD_OWNER,
    DLX_FIELD_STREAM,
    DLX_FIELD_ALLOCATION_STREAM,
    DLX_N_FIELDS
};

/* Read fields (NULL where they are left out) into a blank description, and check all of
 * it. 0, or -1 with an error set that names the field. */
int dlx_description_read(dlx_state *state, dlx_description *self,
                         PyObject *const *fields);

extern PyType_Spec dlx_description_spec;

/* Make the type callable the fast way; once, after it was made. */
void dlx_description_setup(PyTypeObject *type);

#endif
