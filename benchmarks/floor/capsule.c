/* SPDX-License-Identifier: Apache-2.0
 *
 * Frameworks that speak in capsules (jax unversioned, tvm-ffi and CuPy both), and the
 * two converters between the unversioned and the versioned struct.
 */
#include "floor.h"

#include <stdlib.h>

typedef struct {
    DLManagedTensor legacy;
    DLManagedTensorVersioned *inner;
} downgraded;

typedef struct {
    DLManagedTensorVersioned versioned;
    DLManagedTensor *inner;
} upgraded;

/* The two calls of jax's own __dlpack__: the export of the array itself, without its
 * shard, would abort the process where the array is deleted before the capsule. */
PyObject *
floor_jax_capsule(PyObject *array)
{
    PyObject *shard = PyObject_Vectorcall(floor_fw.jax_shard, &array, 1, NULL);
    if (shard == NULL) {
        return NULL;
    }
    PyObject *capsule = PyObject_Vectorcall(floor_fw.jax_to_capsule, &shard, 1, NULL);
    Py_DECREF(shard);
    return capsule;
}

PyObject *
floor_tvm_capsule(PyObject *tensor)
{
    PyObject *args[] = {tensor, floor_fw.tvm_version};
    return PyObject_Vectorcall(floor_fw.tvm_dlpack, args, 1, floor_fw.tvm_kwnames);
}

PyObject *
floor_tvm_capsule_legacy(PyObject *tensor)
{
    return PyObject_Vectorcall(floor_fw.tvm_dlpack, &tensor, 1, NULL);
}

/* Versioned, for the device itself, without a copy. */
PyObject *
floor_cupy_capsule(PyObject *array)
{
    return floor_fw.cupy_to_capsule(array, 1, 0, 0);
}

/* Takes managed, also on failure. */
PyObject *
floor_cupy_import(DLManagedTensorVersioned *managed)
{
    PyObject *capsule = PyCapsule_New(managed, "dltensor_versioned", NULL);
    if (capsule == NULL) {
        managed->deleter(managed);
        return NULL;
    }
    PyObject *array = PyObject_Vectorcall(floor_fw.cupy_of_capsule, &capsule, 1, NULL);
    if (array == NULL && PyCapsule_IsValid(capsule, "dltensor_versioned")) {
        managed->deleter(managed);
    }
    Py_DECREF(capsule);
    return array;
}

/* Takes the capsule, also on failure. */
PyObject *
floor_jax_import_capsule(PyObject *capsule)
{
    PyObject *args[] = {capsule, floor_fw.jax_device, Py_None, Py_None, floor_fw.one};
    PyObject *array = PyObject_Vectorcall(floor_fw.jax_of_capsule, args, 5, NULL);
    Py_DECREF(capsule);
    return array;
}

/* Takes managed, also on failure. */
PyObject *
floor_jax_import(DLManagedTensor *managed)
{
    PyObject *capsule = PyCapsule_New(managed, "dltensor", NULL);
    if (capsule == NULL) {
        managed->deleter(managed);
        return NULL;
    }
    Py_INCREF(capsule);
    PyObject *array = floor_jax_import_capsule(capsule);
    if (array == NULL && PyCapsule_IsValid(capsule, "dltensor")) {
        managed->deleter(managed);
    }
    Py_DECREF(capsule);
    return array;
}

/* Nobody else has the capsule: it needs no new name, only to forget its destructor
 * (jaxlib's raises and clears an exception for a name that it does not expect). */
static void
forget_capsule(PyObject *capsule)
{
    (void)PyCapsule_SetDestructor(capsule, NULL);
    Py_DECREF(capsule);
}

/* Takes the capsule, also on failure. */
DLManagedTensor *
floor_steal_legacy(PyObject *capsule)
{
    DLManagedTensor *managed = PyCapsule_GetPointer(capsule, "dltensor");
    forget_capsule(capsule);
    return managed;
}

/* Takes the capsule, also on failure. */
DLManagedTensorVersioned *
floor_steal_versioned(PyObject *capsule)
{
    DLManagedTensorVersioned *managed =
        PyCapsule_GetPointer(capsule, "dltensor_versioned");
    forget_capsule(capsule);
    return managed;
}

/* Without the GIL. */
static void
delete_downgraded(DLManagedTensor *managed)
{
    downgraded *self = managed->manager_ctx;
    self->inner->deleter(self->inner);
    free(self);
}

/* Takes managed, also on failure. */
DLManagedTensor *
floor_downgrade(DLManagedTensorVersioned *managed)
{
    downgraded *self = malloc(sizeof(*self));
    if (self == NULL) {
        managed->deleter(managed);
        PyErr_NoMemory();
        return NULL;
    }
    self->legacy.dl_tensor = managed->dl_tensor;
    self->legacy.manager_ctx = self;
    self->legacy.deleter = delete_downgraded;
    self->inner = managed;
    return &self->legacy;
}

/* Without the GIL. */
static void
delete_upgraded(DLManagedTensorVersioned *managed)
{
    upgraded *self = managed->manager_ctx;
    self->inner->deleter(self->inner);
    free(self);
}

/* Takes managed, also on failure. */
DLManagedTensorVersioned *
floor_upgrade(DLManagedTensor *managed)
{
    upgraded *self = malloc(sizeof(*self));
    if (self == NULL) {
        managed->deleter(managed);
        PyErr_NoMemory();
        return NULL;
    }
    self->versioned.version =
        (DLPackVersion){DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
    self->versioned.manager_ctx = self;
    self->versioned.deleter = delete_upgraded;
    self->versioned.flags = 0;
    self->versioned.dl_tensor = managed->dl_tensor;
    self->inner = managed;
    return &self->versioned;
}
