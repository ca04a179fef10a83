/* SPDX-License-Identifier: Apache-2.0
 *
 * The recycled owner of the rows "X -> Tensor", and the recycled export of numpy's
 * memory. Both freelists belong to the GIL.
 */
#include "floor.h"

static floor_owner *free_owners;
static floor_export *free_exports;

floor_owner *
floor_owner_new(void)
{
    floor_owner *owner = free_owners;
    if (owner == NULL) {
        return PyObject_New(floor_owner, &floor_owner_type);
    }
    free_owners = owner->next;
    return (floor_owner *)PyObject_Init((PyObject *)owner, &floor_owner_type);
}

static void
owner_dealloc(PyObject *self)
{
    floor_owner *owner = (floor_owner *)self;
    if (owner->managed != NULL) {
        owner->managed->deleter(owner->managed);
    } else if (owner->legacy != NULL) {
        owner->legacy->deleter(owner->legacy);
    } else {
        Py_XDECREF(owner->array);
    }
    owner->next = free_owners;
    free_owners = owner;
}

static PyObject *
owner_data_ptr(PyObject *self, void *unused)
{
    (void)unused;
    DLTensor *tensor = &((floor_owner *)self)->tensor;
    return PyLong_FromVoidPtr((char *)tensor->data + tensor->byte_offset);
}

static PyObject *
owner_dims(PyObject *self, void *which)
{
    DLTensor *tensor = &((floor_owner *)self)->tensor;
    const int64_t *from = which == NULL ? tensor->shape : tensor->strides;
    PyObject *dims = PyTuple_New(tensor->ndim);
    for (Py_ssize_t i = 0; dims != NULL && i < tensor->ndim; i++) {
        PyObject *value = PyLong_FromLongLong(from[i]);
        if (value == NULL) {
            Py_CLEAR(dims);
        } else {
            PyTuple_SET_ITEM(dims, i, value);
        }
    }
    return dims;
}

static PyGetSetDef owner_getset[] = {
    {"data_ptr", owner_data_ptr, NULL, "Address of element zero.", NULL},
    {"shape", owner_dims, NULL, "Extents.", NULL},
    {"strides", owner_dims, NULL, "Steps, in elements.", (void *)1},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject floor_owner_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "floor.Owner",
    .tp_basicsize = sizeof(floor_owner),
    .tp_dealloc = owner_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_getset = owner_getset,
};

void
floor_export_free(floor_export *export)
{
    PyGILState_STATE gil = PyGILState_Ensure();
    Py_DECREF(export->array);
    export->next = free_exports;
    free_exports = export;
    PyGILState_Release(gil);
}

static void
delete_versioned(DLManagedTensorVersioned *managed)
{
    floor_export_free(managed->manager_ctx);
}

static void
delete_legacy(DLManagedTensor *managed)
{
    floor_export_free(managed->manager_ctx);
}

static floor_export *
take_export(void)
{
    floor_export *export = free_exports;
    if (export != NULL) {
        free_exports = export->next;
        return export;
    }
    export = PyMem_RawMalloc(sizeof(*export));
    if (export == NULL) {
        PyErr_NoMemory();
    }
    return export;
}

floor_export *
floor_export_new(PyObject *array)
{
    floor_export *export = take_export();
    if (export == NULL) {
        return NULL;
    }
    DLManagedTensorVersioned *managed = &export->head.versioned;
    export->array = Py_NewRef(array);
    managed->version = (DLPackVersion){DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
    managed->manager_ctx = export;
    managed->deleter = delete_versioned;
    managed->flags = 0;
    if (floor_numpy_describe(array, &managed->dl_tensor, export->shape,
                             export->strides) < 0) {
        floor_export_free(export);
        return NULL;
    }
    return export;
}

floor_export *
floor_export_new_legacy(PyObject *array)
{
    floor_export *export = take_export();
    if (export == NULL) {
        return NULL;
    }
    DLManagedTensor *managed = &export->head.legacy;
    export->array = Py_NewRef(array);
    managed->manager_ctx = export;
    managed->deleter = delete_legacy;
    if (floor_numpy_describe(array, &managed->dl_tensor, export->shape,
                             export->strides) < 0) {
        floor_export_free(export);
        return NULL;
    }
    return export;
}
