/* SPDX-License-Identifier: Apache-2.0
 *
 * One METH_O function a pair: export, import; the caller's release ends it.
 */
#include "floor.h"

static PyObject *
own_managed(DLManagedTensorVersioned *managed)
{
    if (managed == NULL) {
        return NULL;
    }
    floor_owner *owner = floor_owner_new();
    if (owner == NULL) {
        managed->deleter(managed);
        return NULL;
    }
    owner->managed = managed;
    owner->tensor = managed->dl_tensor;
    return (PyObject *)owner;
}

static PyObject *
own_legacy(DLManagedTensor *managed)
{
    if (managed == NULL) {
        return NULL;
    }
    floor_owner *owner = floor_owner_new();
    if (owner == NULL) {
        managed->deleter(managed);
        return NULL;
    }
    owner->managed = NULL;
    owner->legacy = managed;
    owner->tensor = managed->dl_tensor;
    return (PyObject *)owner;
}

static DLManagedTensorVersioned *
torch_export(PyObject *x)
{
    DLManagedTensorVersioned *managed = NULL;
    if (floor_fw.torch->managed_tensor_from_py_object_no_sync(x, &managed) < 0) {
        return NULL;
    }
    return managed;
}

/* Takes managed; torch takes it too where it fails. */
static PyObject *
torch_import(DLManagedTensorVersioned *managed)
{
    void *tensor = NULL;
    if (managed == NULL ||
        floor_fw.torch->managed_tensor_to_py_object_no_sync(managed, &tensor) < 0) {
        return NULL;
    }
    return tensor;
}

/* The capsule is the base: its destructor releases, so nothing is stolen. */
static PyObject *
numpy_over_capsule(PyObject *capsule)
{
    DLManagedTensor *managed = NULL;
    if (capsule == NULL) {
        return NULL;
    }
    managed = PyCapsule_GetPointer(capsule, "dltensor");
    if (managed == NULL) {
        Py_DECREF(capsule);
        return NULL;
    }
    return floor_numpy_new(&managed->dl_tensor, capsule);
}

static PyObject *
torch_to_tensor(PyObject *self, PyObject *x)
{
    (void)self;
    return own_managed(torch_export(x));
}

static PyObject *
numpy_to_tensor(PyObject *self, PyObject *x)
{
    (void)self;
    floor_owner *owner = floor_owner_new();
    if (owner == NULL) {
        return NULL;
    }
    owner->managed = NULL;
    owner->legacy = NULL;
    owner->array = NULL;
    if (floor_numpy_describe(x, &owner->tensor, owner->shape, owner->strides) < 0) {
        Py_DECREF(owner);
        return NULL;
    }
    owner->array = Py_NewRef(x);
    return (PyObject *)owner;
}

static PyObject *
jax_to_tensor(PyObject *self, PyObject *x)
{
    (void)self;
    PyObject *capsule = floor_jax_capsule(x);
    return capsule == NULL ? NULL : own_legacy(floor_steal_legacy(capsule));
}

static PyObject *
tvm_to_tensor(PyObject *self, PyObject *x)
{
    (void)self;
    PyObject *capsule = floor_tvm_capsule(x);
    return capsule == NULL ? NULL : own_managed(floor_steal_versioned(capsule));
}

/* Borrowed: the array's base is the tensor, as in t.numpy(). */
static PyObject *
torch_to_numpy(PyObject *self, PyObject *x)
{
    (void)self;
    DLTensor tensor;
    if (floor_fw.torch->dltensor_from_py_object_no_sync(x, &tensor) < 0) {
        return NULL;
    }
    return floor_numpy_new(&tensor, Py_NewRef(x));
}

static PyObject *
numpy_to_numpy(PyObject *self, PyObject *x)
{
    (void)self;
    DLTensor tensor;
    int64_t shape[FLOOR_MAX_NDIM];
    int64_t strides[FLOOR_MAX_NDIM];
    if (floor_numpy_describe(x, &tensor, shape, strides) < 0) {
        return NULL;
    }
    return floor_numpy_new(&tensor, Py_NewRef(x));
}

static PyObject *
jax_to_numpy(PyObject *self, PyObject *x)
{
    (void)self;
    return numpy_over_capsule(floor_jax_capsule(x));
}

static PyObject *
tvm_to_numpy(PyObject *self, PyObject *x)
{
    (void)self;
    return numpy_over_capsule(floor_tvm_capsule_legacy(x));
}

static PyObject *
torch_to_torch(PyObject *self, PyObject *x)
{
    (void)self;
    return torch_import(torch_export(x));
}

static PyObject *
numpy_to_torch(PyObject *self, PyObject *x)
{
    (void)self;
    floor_export *export = floor_export_new(x);
    return export == NULL ? NULL : torch_import(&export->head.versioned);
}

static PyObject *
jax_to_torch(PyObject *self, PyObject *x)
{
    (void)self;
    PyObject *capsule = floor_jax_capsule(x);
    DLManagedTensor *managed = capsule == NULL ? NULL : floor_steal_legacy(capsule);
    return managed == NULL ? NULL : torch_import(floor_upgrade(managed));
}

static PyObject *
tvm_to_torch(PyObject *self, PyObject *x)
{
    (void)self;
    PyObject *capsule = floor_tvm_capsule(x);
    return capsule == NULL ? NULL : torch_import(floor_steal_versioned(capsule));
}

static PyObject *
torch_to_jax(PyObject *self, PyObject *x)
{
    (void)self;
    DLManagedTensorVersioned *managed = torch_export(x);
    DLManagedTensor *legacy = managed == NULL ? NULL : floor_downgrade(managed);
    return legacy == NULL ? NULL : floor_jax_import(legacy);
}

static PyObject *
numpy_to_jax(PyObject *self, PyObject *x)
{
    (void)self;
    floor_export *export = floor_export_new_legacy(x);
    return export == NULL ? NULL : floor_jax_import(&export->head.legacy);
}

static PyObject *
jax_to_jax(PyObject *self, PyObject *x)
{
    (void)self;
    PyObject *capsule = floor_jax_capsule(x);
    return capsule == NULL ? NULL : floor_jax_import_capsule(capsule);
}

static PyObject *
tvm_to_jax(PyObject *self, PyObject *x)
{
    (void)self;
    PyObject *capsule = floor_tvm_capsule_legacy(x);
    return capsule == NULL ? NULL : floor_jax_import_capsule(capsule);
}

static PyObject *
torch_to_cupy(PyObject *self, PyObject *x)
{
    (void)self;
    DLManagedTensorVersioned *managed = torch_export(x);
    return managed == NULL ? NULL : floor_cupy_import(managed);
}

static PyObject *
cupy_to_torch(PyObject *self, PyObject *x)
{
    (void)self;
    PyObject *capsule = floor_cupy_capsule(x);
    return capsule == NULL ? NULL : torch_import(floor_steal_versioned(capsule));
}

PyMethodDef floor_pair_methods[] = {
    {"torch_to_tensor", torch_to_tensor, METH_O, NULL},
    {"numpy_to_tensor", numpy_to_tensor, METH_O, NULL},
    {"jax_to_tensor", jax_to_tensor, METH_O, NULL},
    {"tvm_to_tensor", tvm_to_tensor, METH_O, NULL},
    {"torch_to_numpy", torch_to_numpy, METH_O, NULL},
    {"numpy_to_numpy", numpy_to_numpy, METH_O, NULL},
    {"jax_to_numpy", jax_to_numpy, METH_O, NULL},
    {"tvm_to_numpy", tvm_to_numpy, METH_O, NULL},
    {"torch_to_torch", torch_to_torch, METH_O, NULL},
    {"numpy_to_torch", numpy_to_torch, METH_O, NULL},
    {"jax_to_torch", jax_to_torch, METH_O, NULL},
    {"tvm_to_torch", tvm_to_torch, METH_O, NULL},
    {"torch_to_jax", torch_to_jax, METH_O, NULL},
    {"numpy_to_jax", numpy_to_jax, METH_O, NULL},
    {"jax_to_jax", jax_to_jax, METH_O, NULL},
    {"tvm_to_jax", tvm_to_jax, METH_O, NULL},
    {"torch_to_cupy", torch_to_cupy, METH_O, NULL},
    {"cupy_to_torch", cupy_to_torch, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
