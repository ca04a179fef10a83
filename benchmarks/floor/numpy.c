/* SPDX-License-Identifier: Apache-2.0
 *
 * numpy's side of the floor: read a PyArrayObject, make one over foreign memory.
 */
#include "floor.h"

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <numpy/arrayobject.h>

static DLDataType dtype_of[NPY_NTYPES_LEGACY];
static PyArray_Descr *descr_of[8][5]; /* code; log2 of the item's bytes */

static int
add_dtype(int type_num, uint8_t code)
{
    PyArray_Descr *descr = PyArray_DescrFromType(type_num);
    if (descr == NULL) {
        return -1;
    }
    int nbytes = (int)PyDataType_ELSIZE(descr);
    dtype_of[type_num] = (DLDataType){code, (uint8_t)(8 * nbytes), 1};
    descr_of[code][__builtin_ctz((unsigned)nbytes)] = descr;
    return 0;
}

int
floor_numpy_init(void)
{
    static const struct {
        int type_num;
        uint8_t code;
    } known[] = {
        {NPY_INT8, kDLInt},          {NPY_INT16, kDLInt},
        {NPY_INT32, kDLInt},         {NPY_INT64, kDLInt},
        {NPY_UINT8, kDLUInt},        {NPY_UINT16, kDLUInt},
        {NPY_UINT32, kDLUInt},       {NPY_UINT64, kDLUInt},
        {NPY_FLOAT16, kDLFloat},     {NPY_FLOAT32, kDLFloat},
        {NPY_FLOAT64, kDLFloat},     {NPY_BOOL, kDLBool},
        {NPY_COMPLEX64, kDLComplex}, {NPY_COMPLEX128, kDLComplex},
    };
    import_array1(-1);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (add_dtype(known[i].type_num, known[i].code) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Fills tensor from array; shape and strides are the caller's, they outlive it. */
int
floor_numpy_describe(PyObject *array, DLTensor *tensor, int64_t *shape,
                     int64_t *strides)
{
    PyArrayObject *a = (PyArrayObject *)array;
    int ndim = PyArray_NDIM(a);
    PyArray_Descr *descr = PyArray_DESCR(a);
    npy_intp itemsize = PyDataType_ELSIZE(descr);
    const npy_intp *dims = PyArray_DIMS(a);
    const npy_intp *steps = PyArray_STRIDES(a);

    if (ndim > FLOOR_MAX_NDIM) {
        PyErr_SetString(PyExc_ValueError, "the floor holds at most 8 dimensions");
        return -1;
    }
    for (int i = 0; i < ndim; i++) {
        shape[i] = dims[i];
        strides[i] = steps[i] / itemsize;
    }
    tensor->data = PyArray_DATA(a);
    tensor->device = (DLDevice){kDLCPU, 0};
    tensor->ndim = ndim;
    tensor->dtype = dtype_of[descr->type_num];
    tensor->shape = shape;
    tensor->strides = strides;
    tensor->byte_offset = 0;
    return 0;
}

/* Takes base, also on failure. */
PyObject *
floor_numpy_new(const DLTensor *tensor, PyObject *base)
{
    npy_intp strides[NPY_MAXDIMS];
    npy_intp itemsize = tensor->dtype.bits / 8;
    PyArray_Descr *descr =
        descr_of[tensor->dtype.code][__builtin_ctz((unsigned)itemsize)];

    for (int i = 0; tensor->strides != NULL && i < tensor->ndim; i++) {
        strides[i] = tensor->strides[i] * itemsize;
    }
    Py_INCREF(descr);
    PyObject *array = PyArray_NewFromDescr(
        &PyArray_Type, descr, tensor->ndim, (npy_intp *)tensor->shape,
        tensor->strides == NULL ? NULL : strides,
        (char *)tensor->data + tensor->byte_offset, NPY_ARRAY_WRITEABLE, NULL);
    if (array == NULL) {
        Py_DECREF(base);
        return NULL;
    }
    if (PyArray_SetBaseObject((PyArrayObject *)array, base) < 0) {
        Py_DECREF(array);
        return NULL;
    }
    return array;
}
