/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of numpy_dtype.h.
 */
#define NO_IMPORT_ARRAY
#include "numpy_dtype.h"

const DLDataType dlx_numpy_plain_dtypes[DLX_NUMPY_BUILTIN] = {
    [NPY_BOOL] = {kDLBool, 8, 1},
    [NPY_BYTE] = {kDLInt, 8, 1},
    [NPY_UBYTE] = {kDLUInt, 8, 1},
    [NPY_SHORT] = {kDLInt, 16, 1},
    [NPY_USHORT] = {kDLUInt, 16, 1},
    [NPY_INT] = {kDLInt, 32, 1},
    [NPY_UINT] = {kDLUInt, 32, 1},
    [NPY_LONG] = {kDLInt, 8 * sizeof(long), 1},
    [NPY_ULONG] = {kDLUInt, 8 * sizeof(long), 1},
    [NPY_LONGLONG] = {kDLInt, 64, 1},
    [NPY_ULONGLONG] = {kDLUInt, 64, 1},
    [NPY_HALF] = {kDLFloat, 16, 1},
    [NPY_FLOAT] = {kDLFloat, 32, 1},
    [NPY_DOUBLE] = {kDLFloat, 64, 1},
    [NPY_CFLOAT] = {kDLComplex, 64, 1},
    [NPY_CDOUBLE] = {kDLComplex, 128, 1},
};

/* numpy's descriptors of these, kept: by code, and by the logarithm of the bytes. */
#define PLAIN_CODES (kDLBool + 1)
#define PLAIN_SIZES 5
static PyArray_Descr *plain_descrs[PLAIN_CODES][PLAIN_SIZES];

/* The place of a descriptor, or NULL for what can have none. */
static inline PyArray_Descr **
plain_descr(DLDataType dtype)
{
    unsigned size =
        dtype.bits < 8 ? PLAIN_SIZES : (unsigned)__builtin_ctz(dtype.bits) - 3;
    return dtype.lanes == 1 && dtype.code < PLAIN_CODES && size < PLAIN_SIZES &&
                   dtype.bits == 8u << size
               ? &plain_descrs[dtype.code][size]
               : NULL;
}

/* A dtype that numpy shows through another package (ml_dtypes). */
typedef struct extra_dtype {
    DLDataType dtype;
    PyArray_Descr *descr;
} extra_dtype;

#define MAX_EXTRA 32
static extra_dtype extras[MAX_EXTRA];
static int extras_count = -1; /* not looked up yet */

int
dlx_numpy_dtypes_load(void)
{
    for (int num = 0; num < DLX_NUMPY_BUILTIN; num++) {
        PyArray_Descr **place = plain_descr(dlx_numpy_plain_dtypes[num]);
        if (place != NULL && *place == NULL) { /* long before long long */
            *place = PyArray_DescrFromType(num);
            if (*place == NULL) {
                return -1;
            }
        }
    }
    return 0;
}

/* Ask dlexchange.adapters.numpy for (code, bits, dtype) triples. */
static int
extras_load(dlx_state *state)
{
    int status = -1;
    PyObject *list = NULL;
    if (extras_count >= 0) {
        return 0;
    }
    list = PyObject_CallMethod(state->adapters, "extra_numpy_dtypes", NULL);
    if (list == NULL) {
        goto fail;
    }
    Py_ssize_t n = PyList_Size(list);
    int count = 0;
    for (Py_ssize_t i = 0; i < n && i < MAX_EXTRA; i++) {
        int code, bits;
        PyObject *descr;
        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "iiO!", &code, &bits,
                              &PyArrayDescr_Type, &descr)) {
            goto fail;
        }
        extras[count].dtype = (DLDataType){(uint8_t)code, (uint8_t)bits, 1};
        extras[count].descr = (PyArray_Descr *)Py_NewRef(descr);
        count++;
    }
    if (count > 0) { /* without ml_dtypes ask again: it may be imported later */
        extras_count = count;
    }
    status = 0;
fail:
    Py_XDECREF(list);
    return status;
}

static int
refuse_dtype(dlx_state *state, PyArray_Descr *descr, const char *why)
{
    dlx_raise(state->ExchangeError, "numpy array of dtype %R: %s", descr, why);
    return -1;
}

int
dlx_numpy_read_rare_dtype(dlx_state *state, PyArray_Descr *descr, dlx_source *source)
{
    int num = descr->type_num;
    if (num == NPY_OBJECT) {
        return refuse_dtype(
            state, descr,
            "Python objects have no value in memory to exchange; convert "
            "to a numeric dtype first");
    }
    if (num == NPY_LONGDOUBLE || num == NPY_CLONGDOUBLE) {
        return refuse_dtype(state, descr,
                            "an extended format that DLPack cannot name; convert with "
                            ".astype(numpy.float64) or complex128");
    }
    if (PyDataType_HASFIELDS(descr)) {
        return refuse_dtype(
            state, descr,
            "structured values; exchange each field on its own (x['name'])");
    }
    if (extras_load(state) < 0) {
        return -1;
    }
    for (int i = 0; i < extras_count; i++) {
        if (extras[i].descr->type_num == num) {
            source->view.dtype = extras[i].dtype;
            if (extras[i].dtype.bits < 8) { /* one element a byte */
                source->flags |= DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED;
            }
            return 0;
        }
    }
    return refuse_dtype(state, descr, "DLPack has no name for these values");
}

PyArray_Descr *
dlx_numpy_descr(dlx_state *state, const dlx_source *source)
{
    DLDataType dtype = source->view.dtype;
    PyArray_Descr **plain = plain_descr(dtype);
    if (plain != NULL && *plain != NULL) {
        return (PyArray_Descr *)Py_NewRef((PyObject *)*plain);
    }
    if (extras_load(state) < 0) {
        return NULL;
    }
    bool storable =
        dtype.lanes == 1 && (dtype.bits >= 8 || dlx_source_is_padded(source));
    for (int i = 0; storable && i < extras_count; i++) {
        if (extras[i].dtype.code == dtype.code && extras[i].dtype.bits == dtype.bits) {
            return (PyArray_Descr *)Py_NewRef((PyObject *)extras[i].descr);
        }
    }
    dlx_raise(state->ExchangeError,
              "numpy has no dtype for DLPack (code %d, bits %d, lanes %d%s)%s",
              (int)dtype.code, (int)dtype.bits, (int)dtype.lanes,
              dtype.bits < 8 && !dlx_source_is_padded(source) ? ", packed" : "",
              extras_count < 0 ? "; ml_dtypes adds bfloat16, float8 and smaller ones: "
                                 "pip install ml_dtypes"
                               : "");
    return NULL;
}
