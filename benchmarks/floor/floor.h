/* SPDX-License-Identifier: Apache-2.0
 *
 * The floor: the least that a hand-off between two frameworks can cost from Python,
 * one METH_O function a pair that calls the frameworks' own C functions and releases.
 * No guard of values, dtypes or devices, no dispatch on the type of the argument, one
 * interpreter, globals: never a library, only the line that ours is measured against.
 * Every function needs the GIL unless its comment says otherwise.
 */
#ifndef DLX_BENCH_FLOOR_H_
#define DLX_BENCH_FLOOR_H_

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlexchange/dlpack_abi.h>

#define FLOOR_MAX_NDIM 8

/* A numpy array exported by us. Given back to a freelist by its deleter, which takes
 * the GIL: torch and jax call it without. */
typedef struct floor_export {
    union {
        DLManagedTensorVersioned versioned;
        DLManagedTensor legacy;
    } head;
    PyObject *array;
    int64_t shape[FLOOR_MAX_NDIM];
    int64_t strides[FLOOR_MAX_NDIM];
    struct floor_export *next;
} floor_export;

/* The owner that a row "X -> Tensor" returns; recycled, not seen by the collector. */
typedef struct floor_owner {
    PyObject_HEAD
    DLManagedTensorVersioned *managed; /* released by dealloc, or NULL */
    DLManagedTensor *legacy;           /* the same, unversioned */
    PyObject *array;                   /* of an embedded numpy export */
    DLTensor tensor;
    int64_t shape[FLOOR_MAX_NDIM];
    int64_t strides[FLOOR_MAX_NDIM];
    struct floor_owner *next;
} floor_owner;

/* What the frameworks gave us at set-up: their C exchange API and their functions. */
typedef struct {
    const DLPackExchangeAPI *torch;
    PyObject *tvm_dlpack;     /* tvm_ffi.Tensor.__dlpack__, unbound */
    PyObject *tvm_kwnames;    /* ("max_version",) */
    PyObject *tvm_version;    /* (1, 3) */
    PyObject *jax_shard;      /* ArrayImpl._fully_replicated_shard */
    PyObject *jax_to_capsule; /* buffer_to_dlpack_managed_tensor */
    PyObject *jax_of_capsule; /* dlpack_managed_tensor_to_buffer */
    PyObject *jax_device;
    PyObject *(*cupy_to_capsule)(PyObject *, int, int, int); /* Cython's _toDlpack */
    PyObject *cupy_of_capsule; /* cupy.from_dlpack, which takes capsules too */
    PyObject *one;             /* kDLCPU as jax's fifth argument */
} floor_frameworks;

extern floor_frameworks floor_fw;
extern PyTypeObject floor_owner_type;

/* numpy.c */
int floor_numpy_init(void);
int floor_numpy_describe(PyObject *array, DLTensor *tensor, int64_t *shape,
                         int64_t *strides);
PyObject *floor_numpy_new(const DLTensor *tensor, PyObject *base);

/* owner.c */
floor_owner *floor_owner_new(void);
floor_export *floor_export_new(PyObject *array);
floor_export *floor_export_new_legacy(PyObject *array);
void floor_export_free(floor_export *export);

/* capsule.c */
PyObject *floor_jax_capsule(PyObject *array);
PyObject *floor_tvm_capsule(PyObject *tensor);
PyObject *floor_tvm_capsule_legacy(PyObject *tensor);
PyObject *floor_cupy_capsule(PyObject *array);
PyObject *floor_cupy_import(DLManagedTensorVersioned *managed);
PyObject *floor_jax_import(DLManagedTensor *managed);
PyObject *floor_jax_import_capsule(PyObject *capsule);
DLManagedTensor *floor_steal_legacy(PyObject *capsule);
DLManagedTensorVersioned *floor_steal_versioned(PyObject *capsule);
DLManagedTensor *floor_downgrade(DLManagedTensorVersioned *managed);
DLManagedTensorVersioned *floor_upgrade(DLManagedTensor *managed);

/* pairs.c */
extern PyMethodDef floor_pair_methods[];

#endif
