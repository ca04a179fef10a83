/* SPDX-License-Identifier: Apache-2.0
 *
 * What a Tensor speaks: __dlpack__, the buffer protocol, __array_interface__.
 * GIL: held.
 */
#include <string.h>

#include "arguments.h"
#include "capsule.h"
#include "mutant.h"
#include "order.h"
#include "produce.h"
#include "raise.h"
#include "tensor.h"

/* ---- __dlpack__ ---- */

/* Whether another device is asked for. 1, 0, or -1 with an error set where that is not
 * the host, or needs a copy that is forbidden. Clauses: K03, K06-K08, S22. */
static int
moves_to_host(const dlx_tensor *tensor, const dlx_export_arguments *asked)
{
    DLDevice here = tensor->view.device, there = asked->device;
    PyObject *error = tensor->state->ExchangeError;
    const char *why = "";
    if (!asked->has_device ||
        (there.device_type == here.device_type && there.device_id == here.device_id)) {
        return 0;
    }
    if (there.device_type == kDLCPU && dlx_order_device(here).device_type != 0) {
        if (asked->stream != NULL && asked->stream != Py_None) {
            error = tensor->state->StreamError;
            why = " on a stream: the host has none";
        } else if (asked->copy == 0) {
            error = tensor->state->CopyError;
            why = " without a copy, and copy=False forbids it";
        } else {
            return 1;
        }
    }
    dlx_raise(error,
              "this Tensor is on device (%d, %d) and cannot be exported to (%d, %d)%s",
              (int)here.device_type, (int)here.device_id, (int)there.device_type,
              (int)there.device_id, why);
    return -1;
}

/* Copy to host memory of our own, behind the ready event. Blocks: until it is there. */
static int
copy_to_host(dlx_tensor *tensor, dlx_source *source)
{
    const dlx_lease *lease = tensor->hold.lease;
    source->order = (dlx_order){.is_active = true,
                                .streams_on = dlx_order_device(tensor->view.device),
                                .ready = lease != NULL ? lease->ready : NULL};
    return dlx_order_copy_to_host(tensor->state, source);
}

/* Make the consumer's stream wait for the ready event, or the host where that reads the
 * memory. As a plain producer we use the stream during the call only. Clauses: S06-S13,
 * S17, S36. */
static int
order_for(dlx_tensor *tensor, PyObject *value, bool copies)
{
    dlx_state *state = tensor->state;
    DLDevice on = dlx_order_device(tensor->view.device);
    dlx_lease *lease = tensor->hold.lease;
    dlx_stream_ref consumer = {.is_owned = false};
    dlx_error error;
    dlx_status status = DLX_OK;
    bool is_host = dlx_device_is_host(tensor->view.device.device_type);
    bool vouched = false, waits = is_host && copies;
    if (tensor->view.device.device_type == kDLCPU) {
        if (value == NULL || value == Py_None) {
            return 0;
        }
        dlx_raise(state->StreamError,
                  "host memory has no stream: pass stream=None, not %R", value);
        return -1;
    }
    if (value != NULL && value != Py_None) {
        if (dlx_stream_read(state, value, on, &vouched, &consumer) < 0) {
            return -1;
        }
    } else if (is_host) {
        waits = true; /* the host may read as soon as we return */
    } else if (dlx_stream_default(state, on, &consumer) < 0) {
        return -1;
    }
    if (!vouched && lease != NULL && lease->ready != NULL &&
        !DLX_MUTATED(export_wait)) {
        dlx_event *ready = dlx_event_keep(lease->ready);
        Py_BEGIN_ALLOW_THREADS
        status = waits ? dlx_event_synchronize(ready, &error)
                       : dlx_event_wait(ready, consumer.stream, &error);
        Py_END_ALLOW_THREADS
        dlx_event_release(ready);
    }
    dlx_stream_ref_clear(&consumer);
    if (status != DLX_OK) {
        dlx_raise_driver(state, &error);
        return -1;
    }
    return 0;
}

PyObject *
dlx_tensor_dlpack(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    dlx_tensor *tensor = (dlx_tensor *)self;
    dlx_state *state = tensor->state;
    dlx_export_arguments asked;
    PyObject *capsule = NULL;
    dlx_source source;

    if (dlx_export_arguments_read(state, args, nargs, kwnames, &asked) < 0) {
        return NULL;
    }
    int moves = moves_to_host(tensor, &asked);
    if (moves < 0 || dlx_tensor_open(state, self, &source) < 0) {
        return NULL;
    }
    if (moves ? copy_to_host(tensor, &source) == 0
              : order_for(tensor, asked.stream, asked.copy == 1) == 0 &&
                    (asked.copy != 1 || dlx_source_copy(state, &source) == 0)) {
        capsule = dlx_source_export(state, &source, asked.versioned);
    }
    dlx_source_close(&source);
    return capsule;
}

PyObject *
dlx_tensor_dlpack_device(PyObject *self, PyObject *unused)
{
    (void)unused;
    DLDevice device = ((dlx_tensor *)self)->view.device;
    return Py_BuildValue("(ii)", (int)device.device_type, (int)device.device_id);
}

/* ---- host protocols ---- */

static int
require_host(const dlx_tensor *tensor, PyObject *error, const char *what)
{
    if (tensor->closed) {
        PyErr_SetString(PyExc_ValueError, "this Tensor has been closed");
        return -1;
    }
    if (tensor->view.device.device_type != kDLCPU) {
        PyErr_Format(error,
                     "%s shows plain host memory only; this Tensor is on device %d",
                     what, (int)tensor->view.device.device_type);
        return -1;
    }
    return 0;
}

/* Letters of the struct module; NULL where it has none. */
static const char *
buffer_format(DLDataType dtype)
{
    int code = dtype.lanes == 1 ? dtype.code : UINT8_MAX;
    switch (code << 8 | dtype.bits) {
        case kDLBool << 8 | 8:
            return "?";
        case kDLInt << 8 | 8:
            return "b";
        case kDLUInt << 8 | 8:
            return "B";
        case kDLInt << 8 | 16:
            return "h";
        case kDLUInt << 8 | 16:
            return "H";
        case kDLInt << 8 | 32:
            return "i";
        case kDLUInt << 8 | 32:
            return "I";
        case kDLInt << 8 | 64:
            return "q";
        case kDLUInt << 8 | 64:
            return "Q";
        case kDLFloat << 8 | 16:
            return "e";
        case kDLFloat << 8 | 32:
            return "f";
        case kDLFloat << 8 | 64:
            return "d";
        case kDLComplex << 8 | 64:
            return "Zf";
        case kDLComplex << 8 | 128:
            return "Zd";
        default:
            return NULL;
    }
}

/* The order a request insists on: C, Fortran, any of both, or none (0). */
static char
required_order(int flags)
{
    if ((flags & PyBUF_C_CONTIGUOUS) == PyBUF_C_CONTIGUOUS) {
        return 'C';
    }
    if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS) {
        return 'F';
    }
    if ((flags & PyBUF_ANY_CONTIGUOUS) == PyBUF_ANY_CONTIGUOUS) {
        return 'A';
    }
    return (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? 0 : 'C';
}

/* Why a buffer cannot be had; NULL where it can. */
static const char *
buffer_fault(const dlx_tensor *tensor, int flags)
{
    bool read_only = (tensor->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0;
    if (buffer_format(tensor->view.dtype) == NULL) {
        return "the buffer protocol has no format for this Tensor's dtype";
    }
    if (dlx_layout_check(&tensor->view) != DLX_FAULT_NONE) {
        return "this Tensor shows more bytes than a buffer can count";
    }
    return read_only && (flags & PyBUF_WRITABLE) ? "this Tensor is read-only" : NULL;
}

int
dlx_tensor_getbuffer(PyObject *self, Py_buffer *buffer, int flags)
{
    dlx_tensor *tensor = (dlx_tensor *)self;
    const DLTensor *view = &tensor->view;
    Py_ssize_t *byte_strides = NULL;

    buffer->obj = NULL;
    if (require_host(tensor, PyExc_BufferError, "the buffer protocol") < 0) {
        return -1;
    }
    const char *fault = buffer_fault(tensor, flags);
    if (fault != NULL) {
        PyErr_SetString(PyExc_BufferError, fault);
        return -1;
    }
    Py_ssize_t itemsize = (Py_ssize_t)dlx_dtype_itemsize(view->dtype, false);
    byte_strides = PyMem_New(Py_ssize_t, (size_t)view->ndim + 1);
    if (byte_strides == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (int32_t i = 0; i < view->ndim; i++) {
        byte_strides[i] = (Py_ssize_t)view->strides[i] * itemsize;
    }
    *buffer = (Py_buffer){
        .buf = view->data,
        .len = (Py_ssize_t)dlx_layout_nbytes(view, false),
        .itemsize = itemsize,
        .readonly = (tensor->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0,
        .ndim = view->ndim,
        .format = flags & PyBUF_FORMAT ? (char *)buffer_format(view->dtype) : NULL,
        .shape = view->ndim > 0 ? (Py_ssize_t *)view->shape : NULL,
        .strides = view->ndim > 0 ? byte_strides : NULL,
        .internal = byte_strides,
    };
    char order = required_order(flags);
    if (order != 0 && !PyBuffer_IsContiguous(buffer, order)) {
        PyErr_Format(PyExc_BufferError, "this Tensor is not %s-contiguous",
                     order == 'A'   ? "C- or F"
                     : order == 'C' ? "C"
                                    : "F");
        PyMem_Free(byte_strides);
        return -1;
    }
    if ((flags & PyBUF_STRIDES) != PyBUF_STRIDES) {
        buffer->strides = NULL;
    }
    if (!(flags & PyBUF_ND)) { /* bytes and nothing else */
        buffer->ndim = 1;
        buffer->shape = NULL;
    }
    buffer->obj = Py_NewRef(self);
    tensor->exports++;
    return 0;
}

void
dlx_tensor_releasebuffer(PyObject *self, Py_buffer *buffer)
{
    PyMem_Free(buffer->internal);
    dlx_tensor_export_end((dlx_tensor *)self);
}

PyObject *
dlx_tensor_array_interface(PyObject *self, void *closure)
{
    (void)closure;
    dlx_tensor *tensor = (dlx_tensor *)self;
    DLDataType dtype = tensor->view.dtype;
    PyObject *shape = NULL, *strides = NULL, *result = NULL;
    static const char kinds[] = {[kDLInt] = 'i',
                                 [kDLUInt] = 'u',
                                 [kDLFloat] = 'f',
                                 [kDLComplex] = 'c',
                                 [kDLBool] = 'b'};
    char typestr[8];

    if (require_host(tensor, PyExc_AttributeError, "__array_interface__") < 0) {
        goto fail;
    }
    if (buffer_format(dtype) == NULL) {
        PyErr_SetString(PyExc_AttributeError,
                        "__array_interface__ cannot name this Tensor's dtype");
        goto fail;
    }
    size_t itemsize = dlx_dtype_itemsize(dtype, false);
    PyOS_snprintf(typestr, sizeof typestr, "%c%c%d", itemsize == 1 ? '|' : '<',
                  kinds[dtype.code], (int)itemsize);
    shape = PyObject_GetAttrString(self, "shape");
    strides = PyTuple_New(tensor->view.ndim);
    if (shape == NULL || strides == NULL) {
        goto fail;
    }
    for (int32_t i = 0; i < tensor->view.ndim; i++) {
        PyObject *step =
            PyLong_FromLongLong(tensor->view.strides[i] * (int64_t)itemsize);
        if (step == NULL) {
            goto fail;
        }
        PyTuple_SET_ITEM(strides, i, step);
    }
    bool read_only = (tensor->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0;
    result =
        Py_BuildValue("{s:O,s:s,s:(NN),s:O,s:i}", "shape", shape, "typestr", typestr,
                      "data", PyLong_FromVoidPtr(tensor->view.data),
                      PyBool_FromLong(read_only), "strides", strides, "version", 3);
    tensor->lent = tensor->lent || result != NULL;
fail:
    Py_XDECREF(shape);
    Py_XDECREF(strides);
    return result;
}

/* What numpy asks where the other two cannot show the memory: it would make an array of
 * one object otherwise. */
PyObject *
dlx_array_method(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    dlx_state *state = dlx_the_state;
    dlx_request request = {.copy = -1, .consumer = DLX_TO_NUMPY};
    PyObject *dtype = nargs > 0 ? args[0] : NULL, *copy = NULL;
    const dlx_keyword known[] = {{state->names.dtype, &dtype},
                                 {state->names.copy, &copy}};
    if (nargs > 1) {
        PyErr_SetString(PyExc_TypeError,
                        "__array__ takes one positional argument, dtype");
        return NULL;
    }
    if (dlx_keywords_read("__array__", args + nargs, kwnames, known, 2) < 0 ||
        dlx_copy_read(copy, &request.copy) < 0) {
        return NULL;
    }
    PyObject *array = dlx_hand_off(state, self, &request);
    if (array == NULL || dtype == NULL || dtype == Py_None) {
        return array;
    }
    PyObject *cast = PyObject_CallMethod(array, "astype", "OssOO", dtype, "K", "unsafe",
                                         Py_True, Py_False);
    if (cast != NULL && cast != array && request.copy == 0) {
        dlx_raise(state->CopyError, "dtype %R needs a copy, and copy=False forbids it",
                  dtype);
        Py_CLEAR(cast);
    }
    Py_DECREF(array);
    return cast;
}
