/* SPDX-License-Identifier: Apache-2.0
 *
 * Fake: a managed tensor whose every field, deleter and capsule destructor the caller
 * chooses, wrong ones included, and which counts what is done to it. Its block outlives
 * the Python object for as long as a deleter may still come.
 */
#include "block.h"

#include <stdlib.h>
#include <string.h>

static const char *const deleter_names[] = {
    "right", "null", "leaky", "raises", "needs-gil", "refuses-gil", "needs-interpreter",
};
static const char *const destructor_names[] = {"right", "never", "always",
                                               "twice", "eats",  "none"};

typedef struct {
    PyObject_HEAD
    block *block;
} fake;

static int
named(const char *const *names, size_t count, const char *name, int *out)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            *out = (int)i;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "no such kind: %s", name);
    return -1;
}

/* A tuple of ints as a malloc'ed array; None is NULL, as is the empty tuple. */
static int
dims(PyObject *tuple, int64_t **out)
{
    if (tuple == Py_None) {
        return 0;
    }
    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "shape and strides are tuples or None");
        return -1;
    }
    Py_ssize_t ndim = PyTuple_GET_SIZE(tuple);
    int64_t *allocation = calloc((size_t)ndim + 1, sizeof(int64_t));
    if (allocation == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *out = allocation + 1;
    for (Py_ssize_t i = 0; i < ndim; i++) {
        (*out)[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i));
        if ((*out)[i] == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    return 0;
}

typedef struct {
    int versioned;
    unsigned major, minor;
    unsigned long long flags;
    void *data;
    int device_type, device_id;
    int ndim;
    unsigned char code, bits;
    unsigned short lanes;
    PyObject *shape, *strides, *owner;
    unsigned long long byte_offset;
    const char *deleter, *destructor;
    int poison;
} fields;

static int
fields_parse(fields *to, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {
        "versioned", "version",    "flags", "data",    "device",
        "ndim",      "dtype",      "shape", "strides", "byte_offset",
        "deleter",   "destructor", "owner", "poison",  NULL,
    };
    return PyArg_ParseTupleAndKeywords(
        args, kwargs, "|$p(II)KO&(ii)i(bbH)OOKssOp", keywords, &to->versioned,
        &to->major, &to->minor, &to->flags, probe_address, &to->data, &to->device_type,
        &to->device_id, &to->ndim, &to->code, &to->bits, &to->lanes, &to->shape,
        &to->strides, &to->byte_offset, &to->deleter, &to->destructor, &to->owner,
        &to->poison);
}

static void
block_fill(block *self, const fields *from)
{
    DLTensor *tensor = from->versioned ? &self->managed.versioned.dl_tensor
                                       : &self->managed.legacy.dl_tensor;
    self->is_versioned = from->versioned;
    if (from->versioned) {
        DLManagedTensorVersioned *managed = &self->managed.versioned;
        managed->version = (DLPackVersion){from->major, from->minor};
        managed->manager_ctx = self;
        managed->deleter =
            self->deleter == DELETER_NULL ? NULL : probe_versioned_delete;
        managed->flags = from->flags;
    } else {
        self->managed.legacy.manager_ctx = self;
        self->managed.legacy.deleter =
            self->deleter == DELETER_NULL ? NULL : probe_legacy_delete;
    }
    tensor->data = from->data;
    tensor->device =
        (DLDevice){(DLDeviceType)from->device_type, (int32_t)from->device_id};
    tensor->ndim = from->ndim;
    tensor->dtype = (DLDataType){from->code, from->bits, from->lanes};
    tensor->shape = self->shape;
    tensor->strides = self->strides;
    tensor->byte_offset = from->byte_offset;
    if (from->poison) {
        memset(tensor, 0x5a, sizeof(DLTensor));
    }
}

static block *
block_new(fields *from)
{
    block *self = calloc(1, sizeof(block));
    int deleter, destructor;
    if (self == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (dims(from->shape, &self->shape) < 0 ||
        dims(from->strides, &self->strides) < 0 ||
        named(deleter_names, 7, from->deleter, &deleter) < 0 ||
        named(destructor_names, 6, from->destructor, &destructor) < 0) {
        goto fail;
    }
    if (from->ndim == INT32_MIN) {
        from->ndim = from->shape == Py_None ? 0 : (int)PyTuple_GET_SIZE(from->shape);
    }
    self->deleter = (deleter_kind)deleter;
    self->destructor = (destructor_kind)destructor;
    self->owner = from->owner == Py_None ? NULL : Py_NewRef(from->owner);
    atomic_init(&self->holders, 2);
    block_fill(self, from);
    return self;
fail:
    probe_dims_free(self->shape);
    probe_dims_free(self->strides);
    free(self);
    return NULL;
}

static PyObject *
fake_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    fields given = {
        .versioned = 1,
        .major = 1,
        .minor = 3,
        .device_type = kDLCPU,
        .code = kDLFloat,
        .bits = 32,
        .lanes = 1,
        .ndim = INT32_MIN,
        .shape = Py_None,
        .strides = Py_None,
        .owner = Py_None,
        .deleter = "right",
        .destructor = "right",
    };
    if (!fields_parse(&given, args, kwargs)) {
        return NULL;
    }
    fake *self = (fake *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->block = block_new(&given);
    if (self->block == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void
fake_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    block *self = ((fake *)object)->block;
    if (self != NULL) {
        probe_block_release(self);
    }
    type->tp_free(object);
    Py_DECREF(type);
}

/* capsule(name=None, static=True): None is the right name. */
static PyObject *
fake_capsule(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"name", "static", NULL};
    block *self = ((fake *)object)->block;
    const char *name = self->is_versioned ? "dltensor_versioned" : "dltensor";
    const char *given = NULL;
    int is_static = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|zp", keywords, &given,
                                     &is_static)) {
        return NULL;
    }
    const char *kept = probe_name(given != NULL ? given : name, is_static);
    if (kept == NULL) {
        return NULL;
    }
    PyCapsule_Destructor destroy =
        self->destructor == DESTRUCTOR_NONE ? NULL : probe_capsule_destroy;
    PyObject *capsule = PyCapsule_New(&self->managed, kept, destroy);
    if (capsule != NULL && PyCapsule_SetContext(capsule, self) == 0) {
        atomic_fetch_add(&self->holders, 1);
    }
    return capsule;
}

static PyObject *
fake_get(PyObject *object, void *which)
{
    block *self = ((fake *)object)->block;
    switch (*(const char *)which) {
        case 'a':
            return PyLong_FromVoidPtr(&self->managed);
        case 'd':
            return PyLong_FromLong(atomic_load(&self->deleted));
        case 'c':
            return PyLong_FromLong(self->dropped);
        case 'g':
            return PyBool_FromLong(atomic_load(&self->with_gil));
        case 't':
            return PyBool_FromLong(
                atomic_load(&self->deleted) > 0 &&
                memcmp(&self->at_deletion, &self->managed, sizeof(any_managed)) != 0);
        default:
            return PyBool_FromLong(self->is_versioned);
    }
}

static PyGetSetDef getset[] = {
    {"address", fake_get, NULL, "address of the managed tensor", "a"},
    {"deleted", fake_get, NULL, "calls of the deleter so far", "d"},
    {"dropped", fake_get, NULL, "calls of the capsule destructor so far", "c"},
    {"deleted_with_gil", fake_get, NULL, "whether the last call held the GIL", "g"},
    {"touched_after_delete", fake_get, NULL, "whether the struct changed since then",
     "t"},
    {"versioned", fake_get, NULL, "whether the struct is the versioned one", "v"},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef methods[] = {
    {"capsule", (PyCFunction)(void (*)(void))fake_capsule, METH_VARARGS | METH_KEYWORDS,
     "A capsule over the managed tensor."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, fake_new},
    {Py_tp_dealloc, fake_dealloc},
    {Py_tp_getset, getset},
    {Py_tp_methods, methods},
    {Py_tp_doc, "A managed tensor whose every field can be wrong."},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "dlexchange.conformance._probe.Fake",
    .basicsize = sizeof(fake),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int
probe_add_fake(PyObject *module)
{
    probe_state *state = PyModule_GetState(module);
    state->fake_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    if (state->fake_type == NULL) {
        return -1;
    }
    return PyModule_AddType(module, state->fake_type);
}
