/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of description.h: the object. Its fields are read in
 * description_read.c.
 */
#include "description.h"

#include "arguments.h"
#include "show.h"

/* ---- the object ---- */

/* A description seldom outlives the export it was made for. */
#define MAX_SPARE 8
static dlx_description *spare[MAX_SPARE];
static int n_spare;

static DLX_GIVE dlx_description *
description_alloc(PyTypeObject *type)
{
    dlx_description *self;
    if (n_spare > 0) {
        self = (dlx_description *)PyObject_Init((PyObject *)spare[--n_spare], type);
    } else {
        self = PyObject_GC_New(dlx_description, type);
        if (self != NULL) {
            self->layout_is_known = false;
        }
    }
    if (self != NULL) {
        self->owner = NULL;
        self->far_dims = NULL;
        self->streams = NULL;
        self->n_streams = 0;
        self->allocation = (dlx_stream_ref){.is_owned = false};
        self->complete = false;
        self->view.byte_offset = 0;
    }
    return self;
}

static int
description_clear(PyObject *self)
{
    dlx_description *mine = (dlx_description *)self;
    Py_CLEAR(mine->owner);
    return 0;
}

static int
description_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((dlx_description *)self)->owner);
    return 0;
}

static void
description_dealloc(PyObject *self)
{
    dlx_description *mine = (dlx_description *)self;
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_GC_IsTracked(self)) {
        PyObject_GC_UnTrack(self);
    }
    (void)description_clear(self);
    for (size_t i = 0; i < mine->n_streams; i++) {
        dlx_stream_ref_clear(&mine->streams[i]);
    }
    dlx_stream_ref_clear(&mine->allocation);
    free(mine->streams);
    free(mine->far_dims);
    if (n_spare < MAX_SPARE) {
        spare[n_spare++] = mine; /* with the layout it has read */
    } else {
        dlx_description_forget_layout(mine);
        PyObject_GC_Del(self);
    }
    Py_DECREF(type);
}

#define N_POSITIONAL 3

/* Sort the arguments into fields, in the order of the docstring. */
static int
read_fields(dlx_state *state, PyObject *const *args, Py_ssize_t nargs,
            PyObject *kwnames, PyObject **fields)
{
    const dlx_keyword known[DLX_N_FIELDS] = {
        {state->names.data_ptr, &fields[DLX_FIELD_DATA_PTR]},
        {state->names.shape, &fields[DLX_FIELD_SHAPE]},
        {state->names.dtype, &fields[DLX_FIELD_DTYPE]},
        {state->names.strides, &fields[DLX_FIELD_STRIDES]},
        {state->names.device, &fields[DLX_FIELD_DEVICE]},
        {state->names.readonly, &fields[DLX_FIELD_READONLY]},
        {state->names.owner, &fields[DLX_FIELD_OWNER]},
        {state->names.stream, &fields[DLX_FIELD_STREAM]},
        {state->names.allocation_stream, &fields[DLX_FIELD_ALLOCATION_STREAM]},
    };
    if (nargs > N_POSITIONAL) {
        PyErr_Format(PyExc_TypeError,
                     "Description() takes 3 positional arguments but %zd were given",
                     nargs);
        return -1;
    }
    if (dlx_keywords_read("Description", args + nargs, kwnames, known, DLX_N_FIELDS) <
        0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < N_POSITIONAL; i++) {
        PyObject **field = known[i].value;
        if (i < nargs && *field == NULL) {
            *field = args[i];
        } else if (i < nargs || *field == NULL) {
            PyErr_Format(PyExc_TypeError, "Description() got %s for argument '%U'",
                         i < nargs ? "two values" : "nothing", known[i].name);
            return -1;
        }
    }
    return 0;
}

static PyObject *
description_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf,
                       PyObject *kwnames)
{
    dlx_state *state = dlx_the_state;
    PyObject *fields[DLX_N_FIELDS] = {NULL};
    dlx_description *self = NULL;
    if (read_fields(state, args, PyVectorcall_NARGS(nargsf), kwnames, fields) < 0) {
        return NULL;
    }
    self = description_alloc((PyTypeObject *)type);
    if (self == NULL) {
        return NULL;
    }
    if (dlx_description_read(state, self, fields) < 0) {
        goto fail;
    }
    if (self->owner != NULL) {
        PyObject_GC_Track(self); /* nothing else it holds can come back to it */
    }
    return (PyObject *)self;

fail:
    Py_DECREF(self);
    return NULL;
}

void
dlx_description_setup(PyTypeObject *type)
{
    type->tp_vectorcall = description_vectorcall;
}

/* For the rare callers that do not use the vectorcall protocol. */
static PyObject *
description_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    return PyVectorcall_Call((PyObject *)type, args, kwargs);
}

/* ---- attributes ---- */

static PyObject *
get_shape(PyObject *self, void *closure)
{
    (void)closure;
    const DLTensor *view = &((dlx_description *)self)->view;
    return dlx_show_dims(view->ndim, view->shape);
}

static PyObject *
get_strides(PyObject *self, void *closure)
{
    (void)closure;
    const DLTensor *view = &((dlx_description *)self)->view;
    return dlx_show_dims(view->ndim, view->strides);
}

static PyObject *
get_dtype(PyObject *self, void *closure)
{
    (void)closure;
    return dlx_show_dtype(((dlx_description *)self)->view.dtype);
}

static PyObject *
get_device(PyObject *self, void *closure)
{
    (void)closure;
    return dlx_show_device(((dlx_description *)self)->view.device);
}

static PyObject *
get_data_ptr(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(
        (unsigned long long)(uintptr_t)((dlx_description *)self)->view.data);
}

static PyObject *
get_readonly(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(((dlx_description *)self)->flags != 0);
}

static PyObject *
get_owner(PyObject *self, void *closure)
{
    (void)closure;
    PyObject *owner = ((dlx_description *)self)->owner;
    return Py_NewRef(owner != NULL ? owner : Py_None);
}

static PyGetSetDef getset[] = {
    {"shape", get_shape, NULL, "Extents of the dimensions, in elements.", NULL},
    {"strides", get_strides, NULL, "Steps, in elements (not bytes).", NULL},
    {"dtype", get_dtype, NULL, "Element type, a DType.", NULL},
    {"device", get_device, NULL, "Where the memory is, a Device.", NULL},
    {"data_ptr", get_data_ptr, NULL, "Address of element zero.", NULL},
    {"readonly", get_readonly, NULL, "True where the memory must not be written to.",
     NULL},
    {"owner", get_owner, NULL, "What keeps the memory alive; None: the array itself.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(
    description_doc,
    "Description(data_ptr, shape, dtype, *, strides=None, device=None, readonly=False,"
    " owner=None, stream=None, allocation_stream=None)\n--\n\n"
    "Say what an array's memory is, for `Producer` to export.\n\n"
    "Checked when it is made; immutable. The error names the field that is wrong.\n\n"
    "Parameters\n----------\n"
    "data_ptr : int\n    Address of element zero; 0 where there are no elements.\n"
    "shape : tuple of int\n    Extents.\n"
    "dtype : str, DType or tuple of int\n    \"float32\", \"bfloat16\", (code, bits), "
    "...\n"
    "strides : tuple of int or None\n    Steps in elements (not bytes). None: "
    "row-major.\n"
    "device : str, Device, tuple of int or None\n    None: host memory.\n"
    "readonly : bool\n    True: consumers must not write.\n"
    "owner : object or None\n    Kept alive while the memory is used. None: the "
    "array.\n"
    "stream : stream, sequence of streams, -1 or None\n"
    "    Streams with pending work on the memory; each is waited for. -1: it is\n"
    "    complete. Host memory has none; device memory must say.\n"
    "allocation_stream : stream or None\n"
    "    The stream whose order the allocator keeps: then releases are ordered by an\n"
    "    event instead of waiting for one.\n\n"
    "Raises\n------\n"
    "ExchangeError\n    A field is wrong.\n"
    "StreamError\n    A stream is ambiguous (0 on CUDA), of another device, or "
    "missing.\n\n"
    "Synchronization\n---------------\nNone; no driver call.\n\n"
    "Ownership\n---------\nKeeps `owner` and the streams' owners.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)description_doc},
    {Py_tp_new, description_new},
    {Py_tp_dealloc, description_dealloc},
    {Py_tp_traverse, description_traverse},
    {Py_tp_clear, description_clear},
    {Py_tp_getset, getset},
    {0, NULL},
};

PyType_Spec dlx_description_spec = {
    .name = "dlexchange.Description",
    .basicsize = sizeof(dlx_description),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
