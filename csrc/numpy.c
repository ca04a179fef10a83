/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of numpy.h.
 */
#include "numpy.h"

#include "numpy_dtype.h"
#include "produce.h"
#include "tensor.h"

static bool loaded;

int
dlx_numpy_load(dlx_state *state)
{
    (void)state;
    if (!loaded) {
        if (_import_array() < 0 || dlx_numpy_dtypes_load() < 0) {
            return -1;
        }
        loaded = true;
    }
    return 0;
}

int
dlx_numpy_has_type(dlx_state *state, PyTypeObject *type)
{
    if (!loaded) {
        PyObject *modules = PyImport_GetModuleDict();
        if (PyDict_GetItemString(modules, "numpy") == NULL) {
            return 0;
        }
        if (dlx_numpy_load(state) < 0) {
            if (!PyErr_ExceptionMatches(PyExc_Exception)) {
                return -1;
            }
            PyErr_Clear(); /* half imported or broken: then it has no arrays either */
            return 0;
        }
    }
    return PyType_IsSubtype(type, &PyArray_Type);
}

/* numpy counts strides in bytes, DLPack in elements. False where they do not divide and
 * somebody would step by them. */
static bool
read_strides(PyArrayObject *array, size_t itemsize, int64_t *strides)
{
    const npy_intp *shape = PyArray_DIMS(array), *steps = PyArray_STRIDES(array);
    int shift = __builtin_ctzll(itemsize);
    npy_intp rest = 0;
    bool empty = false;
    for (int i = 0; i < PyArray_NDIM(array); i++) {
        rest |= shape[i] > 1 ? steps[i] : 0;
        empty = empty || shape[i] == 0;
        strides[i] = steps[i] >> shift;
    }
    return empty || (rest & (npy_intp)(itemsize - 1)) == 0;
}

/* Values that are not what a DLTensor could show: made plain by numpy when the caller
 * asked for a copy, else refused. */
static int
open_through_copy(dlx_state *state, PyArrayObject *array, const dlx_request *request,
                  const char *why, dlx_source *source)
{
    PyObject *plain = NULL;
    PyArray_Descr *native = NULL;
    int status = -1;
    if (request->copy != 1) {
        dlx_raise(request->copy == 0 ? state->CopyError : state->ExchangeError,
                  "numpy array of dtype %R: %s; pass copy=True for a plain copy",
                  PyArray_DESCR(array), why);
        goto fail;
    }
    native = PyArray_DescrNewByteorder(PyArray_DESCR(array), NPY_NATIVE);
    if (native == NULL) {
        goto fail;
    }
    plain = PyArray_NewCopy(array, NPY_CORDER);
    if (plain != NULL) {
        Py_SETREF(plain, PyArray_CastToType((PyArrayObject *)plain, native, 0));
        native = NULL; /* stolen */
    }
    if (plain == NULL) {
        goto fail;
    }
    state->counts.copies++;
    status = dlx_numpy_open(state, plain, request, source);
    source->flags |= DLPACK_FLAG_BITMASK_IS_COPIED;
fail:
    Py_XDECREF(native);
    Py_XDECREF(plain);
    return status;
}

int
dlx_numpy_open(dlx_state *state, PyObject *x, const dlx_request *request,
               dlx_source *source)
{
    PyArrayObject *array = (PyArrayObject *)x;
    PyArray_Descr *descr = PyArray_DESCR(array);
    int num = descr->type_num;
    int ndim = PyArray_NDIM(array);

    source->flags = 0;
    source->framework = "numpy";
    if (dlx_numpy_is_plain(num)) {
        source->view.dtype = dlx_numpy_plain_dtypes[num];
    } else if (dlx_numpy_read_rare_dtype(state, descr, source) < 0) {
        return -1;
    }
    if (!PyArray_ISNBO(descr->byteorder)) {
        return open_through_copy(state, array, request,
                                 "non-native byte order, which DLPack cannot express",
                                 source);
    }
    size_t itemsize = ((size_t)source->view.dtype.bits + 7) / 8;
    if (!read_strides(array, itemsize, source->strides)) {
        return open_through_copy(state, array, request,
                                 "its strides are not multiples of the element size",
                                 source);
    }
    source->view.data = PyArray_DATA(array);
    source->view.device = (DLDevice){kDLCPU, 0};
    source->view.ndim = ndim;
    source->view.shape = (int64_t *)PyArray_DIMS(array);
    source->view.strides = source->strides;
    source->view.byte_offset = 0;
    if (!(PyArray_FLAGS(array) & NPY_ARRAY_WRITEABLE)) {
        source->flags |= DLPACK_FLAG_BITMASK_READ_ONLY;
    }
    dlx_hold_set_object(&source->hold, x);
    return 0;
}

/* Describe an array that needs no closer look in place, with `dims` for its shape and
 * strides. False where dtype, extents or strides need one. */
static inline bool
describe_plain(PyArrayObject *array, DLTensor *view, int64_t *dims)
{
    const PyArray_Descr *descr = PyArray_DESCR(array);
    const npy_intp *shape = PyArray_DIMS(array), *steps = PyArray_STRIDES(array);
    int num = descr->type_num, ndim = PyArray_NDIM(array);
    if (!dlx_numpy_is_plain(num) || !PyArray_ISNBO(descr->byteorder)) {
        return false;
    }
    int shift = __builtin_ctz((unsigned)dlx_numpy_plain_dtypes[num].bits) - 3;
    npy_intp rest = 0;
    bool plain = true;
    for (int i = 0; i < ndim; i++) {
        dims[i] = shape[i];
        dims[ndim + i] = steps[i] >> shift;
        rest |= steps[i];
        plain = plain && shape[i] > 1;
    }
    view->data = PyArray_DATA(array);
    view->device = (DLDevice){kDLCPU, 0};
    view->ndim = ndim;
    view->dtype = dlx_numpy_plain_dtypes[num];
    view->shape = dims;
    view->strides = dims + ndim;
    view->byte_offset = 0;
    return plain && (rest & (((npy_intp)1 << shift) - 1)) == 0;
}

PyObject *
dlx_numpy_short_way(dlx_state *state, PyObject *x)
{
    PyArrayObject *array = (PyArrayObject *)x;
    if (PyArray_NDIM(array) > DLX_INLINE_NDIM) {
        return NULL;
    }
    dlx_tensor *tensor = dlx_tensor_blank(state);
    if (tensor == NULL) {
        PyErr_Clear(); /* the long way says so */
        return NULL;
    }
    if (!describe_plain(array, &tensor->view, tensor->dims)) {
        Py_DECREF(tensor);
        return NULL;
    }
    tensor->flags =
        PyArray_FLAGS(array) & NPY_ARRAY_WRITEABLE ? 0 : DLPACK_FLAG_BITMASK_READ_ONLY;
    dlx_hold_set_object(&tensor->hold, x);
    return (PyObject *)tensor;
}

dlx_block *
dlx_numpy_short_block(dlx_state *state, PyObject *x)
{
    PyArrayObject *array = (PyArrayObject *)x;
    const int needed = NPY_ARRAY_WRITEABLE | NPY_ARRAY_ALIGNED;
    int ndim = PyArray_NDIM(array);
    if (ndim > DLX_INLINE_NDIM || (PyArray_FLAGS(array) & needed) != needed) {
        return NULL;
    }
    dlx_block *block = dlx_block_blank(state);
    if (block == NULL) {
        PyErr_Clear(); /* the long way says so */
        return NULL;
    }
    bool plain =
        describe_plain(array, &block->managed.versioned.dl_tensor, block->dims);
    for (int i = 0; i < ndim && plain; i++) {
        plain = block->dims[ndim + i] >= 0;
    }
    if (!plain) {
        dlx_block_undo(state, block, &(dlx_hold){.kind = DLX_HOLD_NOTHING});
        return NULL;
    }
    dlx_hold_set_object(&block->hold, x);
    return block;
}

/* What keeps the memory of an array: the producer's object itself, or a Tensor. */
static DLX_GIVE PyObject *
base_for(dlx_state *state, dlx_source *source)
{
    if (source->hold.kind == DLX_HOLD_OBJECT) {
        source->hold.kind = DLX_HOLD_NOTHING;
        return source->hold.what;
    }
    return dlx_tensor_new(state, source);
}

PyObject *
dlx_numpy_make(dlx_state *state, dlx_source *source)
{
    PyObject *array = NULL, *base = NULL;
    PyArray_Descr *descr = NULL;
    npy_intp byte_strides[DLX_MAX_NDIM];
    const DLTensor *view = &source->view;
    char *data = dlx_layout_first(view);
    int32_t ndim = view->ndim;

    if (dlx_numpy_load(state) < 0) {
        goto fail;
    }
    descr = dlx_numpy_descr(state, source);
    if (descr == NULL) {
        goto fail;
    }
#if NPY_MAXDIMS_LEGACY_ITERS < DLX_MAX_NDIM
    if (ndim > NPY_MAXDIMS_LEGACY_ITERS &&
        PyArray_RUNTIME_VERSION < NPY_2_0_API_VERSION) {
        dlx_raise(state->ExchangeError,
                  "this numpy shows at most %d dimensions, not %d",
                  NPY_MAXDIMS_LEGACY_ITERS, (int)ndim);
        goto fail;
    }
#endif
    npy_intp itemsize = (npy_intp)((view->dtype.bits + 7) / 8);
    for (int32_t i = 0; i < ndim; i++) {
        /* unsigned: an empty array may have any stride, which nobody steps by */
        byte_strides[i] = (npy_intp)((npy_uintp)view->strides[i] * (npy_uintp)itemsize);
    }
    int flags = dlx_source_is_read_only(source) ? 0 : NPY_ARRAY_WRITEABLE;
    if (data == NULL) { /* no elements: any address that stays readable will do */
        data = (char *)dlx_numpy_plain_dtypes;
    }
    array = PyArray_NewFromDescr(&PyArray_Type, descr, ndim, (npy_intp *)view->shape,
                                 byte_strides, data, flags, NULL);
    descr = NULL; /* stolen, also on failure */
    if (array == NULL) {
        dlx_consumer_refused(state, "numpy", source);
        goto fail;
    }
    base = base_for(state, source);
    if (base == NULL) {
        goto fail;
    }
    if (PyArray_SetBaseObject((PyArrayObject *)array, base) < 0) { /* steals base */
        goto fail;
    }
    return array;

fail:
    Py_XDECREF(descr);
    Py_XDECREF(array);
    return NULL;
}
