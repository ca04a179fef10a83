/* SPDX-License-Identifier: Apache-2.0
 *
 * dlexchange.Description: what an author says of his array's memory, read and checked
 * once, when it is made. Immutable. GIL: held.
 */
#ifndef DLX_DESCRIPTION_H_
#define DLX_DESCRIPTION_H_

#include "block.h"
#include "lease.h"

/* The fields, in the order of the docstring; those of the layout first. */
enum {
    DLX_FIELD_SHAPE,
    DLX_FIELD_STRIDES,
    DLX_FIELD_DTYPE,
    DLX_FIELD_DEVICE,
    DLX_N_LAYOUT_FIELDS,
    DLX_FIELD_DATA_PTR = DLX_N_LAYOUT_FIELDS,
    DLX_FIELD_READONLY,
    DLX_FIELD_OWNER,
    DLX_FIELD_STREAM,
    DLX_FIELD_ALLOCATION_STREAM,
    DLX_N_FIELDS
};

typedef struct dlx_description {
    PyObject_HEAD
    DLTensor view; /* shape and strides in dims or far_dims; strides never NULL */
    uint64_t flags;
    PyObject *owner;           /* keeps the memory alive; NULL: the array described */
    bool complete;             /* no work is pending (stream=-1) */
    size_t n_streams;          /* with pending work; 0 for plain host memory */
    dlx_stream_ref *streams;   /* references of our own */
    dlx_stream_ref allocation; /* device_type 0: not known */
    /* The immutable objects that the layout in `view` was read from, or all NULL. They
     * and the layout outlive the description: its memory may be used for the next one,
     * and the next description of an array tends to give the same objects. */
    PyObject *layout_said[DLX_N_LAYOUT_FIELDS];
    bool layout_is_known, is_empty;
    int64_t *far_dims;
    int64_t dims[2 * DLX_INLINE_NDIM];
} dlx_description;

/* Read fields (NULL where they are left out) into a blank description, and check all of
 * it. 0, or -1 with an error set that names the field. */
int dlx_description_read(dlx_state *state, dlx_description *self,
                         PyObject *const *fields);

/* Let go of the objects that the layout was read from. */
void dlx_description_forget_layout(dlx_description *self);

extern PyType_Spec dlx_description_spec;

/* Make the type callable the fast way; once, after it was made. */
void dlx_description_setup(PyTypeObject *type);

#endif
