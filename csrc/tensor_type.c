/* SPDX-License-Identifier: Apache-2.0
 *
 * What Python sees of a Tensor: attributes, methods, the type. Its life is in tensor.c,
 * its protocols in protocol.c.
 */
#include "tensor.h"

#include "cai.h"
#include "capsule.h"
#include "order.h"
#include "show.h"
#include "stream_type.h"

static PyObject *
tensor_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return Py_NewRef(self);
}

static PyObject *
tensor_exit(PyObject *self, PyObject *args)
{
    (void)args;
    return dlx_tensor_close(self, NULL);
}

/* ---- attributes ---- */

static PyObject *
get_shape(PyObject *self, void *closure)
{
    (void)closure;
    dlx_tensor *tensor = (dlx_tensor *)self;
    return dlx_show_dims(tensor->view.ndim, tensor->view.shape);
}

static PyObject *
get_strides(PyObject *self, void *closure)
{
    (void)closure;
    dlx_tensor *tensor = (dlx_tensor *)self;
    return dlx_show_dims(tensor->view.ndim, tensor->view.strides);
}

static PyObject *
get_ndim(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromLong(((dlx_tensor *)self)->view.ndim);
}

static PyObject *
get_dtype(PyObject *self, void *closure)
{
    (void)closure;
    return dlx_show_dtype(((dlx_tensor *)self)->view.dtype);
}

static PyObject *
get_device(PyObject *self, void *closure)
{
    (void)closure;
    return dlx_show_device(((dlx_tensor *)self)->view.device);
}

static PyObject *
get_data_ptr(PyObject *self, void *closure)
{
    (void)closure;
    dlx_tensor *tensor = (dlx_tensor *)self;
    if (tensor->closed) {
        PyErr_SetString(PyExc_ValueError, "this Tensor has been closed");
        return NULL;
    }
    return PyLong_FromVoidPtr(dlx_layout_first(&tensor->view));
}

static bool
is_padded(const dlx_tensor *tensor)
{
    return (tensor->flags & DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED) != 0;
}

static PyObject *
get_nbytes(PyObject *self, void *closure)
{
    (void)closure;
    dlx_tensor *tensor = (dlx_tensor *)self;
    if (dlx_layout_check(&tensor->view) == DLX_FAULT_OVERFLOW) {
        PyErr_SetString(PyExc_OverflowError,
                        "this Tensor shows more bytes than an address can count");
        return NULL;
    }
    return PyLong_FromSize_t(dlx_layout_nbytes(&tensor->view, is_padded(tensor)));
}

static PyObject *
get_flag(PyObject *self, void *closure)
{
    return PyBool_FromLong((((dlx_tensor *)self)->flags & (uintptr_t)closure) != 0);
}

static PyObject *
get_closed(PyObject *self, void *closure)
{
    (void)closure;
    return PyBool_FromLong(((dlx_tensor *)self)->closed);
}

static PyObject *
get_ready_event(PyObject *self, void *closure)
{
    (void)closure;
    dlx_tensor *tensor = (dlx_tensor *)self;
    dlx_lease *lease = tensor->hold.lease;
    if (lease == NULL || lease->ready == NULL) {
        Py_RETURN_NONE;
    }
    dlx_event *event = dlx_event_keep(lease->ready);
    PyObject *object = dlx_event_object_new(tensor->state, event);
    if (object == NULL) {
        dlx_event_release(event);
    }
    return object;
}

/* Add a stream to those that the release waits for. */
static PyObject *
tensor_record_stream(PyObject *self, PyObject *stream)
{
    dlx_tensor *tensor = (dlx_tensor *)self;
    dlx_stream_ref consumer;
    bool vouched;
    DLDevice on = dlx_order_device(tensor->view.device);
    if (on.device_type == 0) {
        return dlx_raise(tensor->state->StreamError,
                         "this Tensor is in memory that no stream uses");
    }
    if (dlx_stream_read(tensor->state, stream, on, &vouched, &consumer) < 0) {
        return NULL;
    }
    if (tensor->closed) { /* only now: reading a stream may run anything */
        dlx_stream_ref_clear(&consumer);
        PyErr_SetString(PyExc_ValueError, "this Tensor has been closed");
        return NULL;
    }
    if (vouched) {
        return dlx_raise(tensor->state->StreamError, "there is no stream -1 to record");
    }
    if (tensor->hold.lease == NULL) {
        tensor->hold.lease = dlx_lease_new();
    }
    if (tensor->hold.lease == NULL ||
        dlx_lease_add_named(tensor->state, tensor->hold.lease, &consumer) < 0) {
        dlx_stream_ref_clear(&consumer);
        return NULL;
    }
    dlx_stream_ref_clear(&consumer);
    Py_RETURN_NONE;
}

static PyObject *
tensor_repr(PyObject *self)
{
    PyObject *shape = NULL, *dtype = NULL, *device = NULL, *repr = NULL;
    dlx_tensor *tensor = (dlx_tensor *)self;
    shape = get_shape(self, NULL);
    dtype = get_dtype(self, NULL);
    device = get_device(self, NULL);
    if (shape != NULL && dtype != NULL && device != NULL) {
        bool read_only = (tensor->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0;
        repr = PyUnicode_FromFormat("<dlexchange.Tensor %S %S on %S%s%s>", shape, dtype,
                                    device, read_only ? ", read-only" : "",
                                    tensor->closed ? ", closed" : "");
    }
    Py_XDECREF(shape);
    Py_XDECREF(dtype);
    Py_XDECREF(device);
    return repr;
}

/* For libraries that take the raw capsule; nothing is ordered here. */
static PyObject *
tensor_to_managed_capsule(PyObject *self, PyObject *unused)
{
    (void)unused;
    dlx_source source;
    PyObject *capsule = NULL;
    if (dlx_tensor_open(dlx_the_state, self, &source) == 0) {
        capsule = dlx_source_export(dlx_the_state, &source, true);
        dlx_source_close(&source);
    }
    return capsule;
}

static PyGetSetDef getset[] = {
    {"shape", get_shape, NULL, "Extents of the dimensions, in elements.", NULL},
    {"strides", get_strides, NULL,
     "Steps between neighbours of each dimension, in elements (not bytes).", NULL},
    {"ndim", get_ndim, NULL, "Number of dimensions.", NULL},
    {"dtype", get_dtype, NULL, "Element type, a DType.", NULL},
    {"device", get_device, NULL, "Where the memory is, a Device.", NULL},
    {"data_ptr", get_data_ptr, NULL,
     "Address of element zero, with every offset applied. 0 for some empty tensors.",
     NULL},
    {"nbytes", get_nbytes, NULL, "Bytes the values take when stored without gaps.",
     NULL},
    {"readonly", get_flag, NULL, "True where the memory must not be written to.",
     (void *)DLPACK_FLAG_BITMASK_READ_ONLY},
    {"is_copied", get_flag, NULL, "True where the memory is a copy that only we own.",
     (void *)DLPACK_FLAG_BITMASK_IS_COPIED},
    {"closed", get_closed, NULL, "True after close().", NULL},
    {"__array_interface__", dlx_tensor_array_interface, NULL,
     "numpy's array interface, version 3. Host memory only.", NULL},
    {"__cuda_array_interface__", dlx_tensor_cuda_array_interface, NULL,
     "The CUDA Array Interface, version 3. CUDA memory only; the stream it names is one of\n"
     "ours, behind the work that made the data.",
     NULL},
    {"ready_event", get_ready_event, NULL,
     "Event of the work that made the data; None where there is none.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef methods[] = {
    {"close", dlx_tensor_close, METH_NOARGS,
     PyDoc_STR(
         "close($self, /)\n--\n\n"
         "Let go of the memory as soon as nobody uses it through this Tensor.\n\n"
         "Idempotent. Exports that are still alive keep the memory; new ones are\n"
         "refused with ValueError.\n\n"
         "Ownership\n---------\n"
         "The producer's memory is released when the last export ends; where its\n"
         "address was given out (`__array_interface__`), when the Tensor dies.")},
    {"record_stream", tensor_record_stream, METH_O,
     PyDoc_STR(
         "record_stream($self, stream, /)\n--\n\n"
         "Note that work on a further stream uses the memory.\n\n"
         "Parameters\n----------\n"
         "stream : stream\n    One that somebody owns.\n\n"
         "Synchronization\n---------------\n"
         "The memory is released behind all work queued on `stream` by then. The\n"
         "host does not block.")},
    {"to_managed_capsule", tensor_to_managed_capsule, METH_NOARGS,
     PyDoc_STR(
         "to_managed_capsule($self, /)\n--\n\n"
         "Return a versioned DLPack capsule, for libraries that take one.\n\n"
         "Synchronization\n---------------\n"
         "None: order the memory first, with ``dx.consume(x, stream=...)``.\n\n"
         "Ownership\n---------\n"
         "The capsule keeps the memory until it is consumed and its deleter has run.")},
    {"__enter__", tensor_enter, METH_NOARGS, NULL},
    {"__exit__", tensor_exit, METH_VARARGS, NULL},
    {"__dlpack__", (PyCFunction)(void (*)(void))dlx_tensor_dlpack,
     METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None,"
               " copy=None)\n--\n\n"
               "Export the memory as a DLPack capsule (versioned where `max_version`\n"
               "allows it).")},
    DLX_ARRAY_METHOD,
    {"__dlpack_device__", dlx_tensor_dlpack_device, METH_NOARGS,
     PyDoc_STR("__dlpack_device__($self, /)\n--\n\nReturn (device_type, device_id).")},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    tensor_doc,
    "A neutral owner and view of a tensor's memory.\n\n"
    "Made by :func:`from_dlpack`. Speaks ``__dlpack__``, the DLPack C exchange\n"
    "API, the buffer protocol and ``__array_interface__`` (host memory).\n\n"
    "Ownership\n---------\n"
    "Keeps the producer's memory alive until it is closed or collected, and\n"
    "every export has ended. The cycle collector does not see into it: an array\n"
    "that keeps a Tensor of itself lives until that is closed.");

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)tensor_doc},
    {Py_tp_dealloc, dlx_tensor_dealloc},
    {Py_tp_repr, tensor_repr},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_bf_getbuffer, dlx_tensor_getbuffer},
    {Py_bf_releasebuffer, dlx_tensor_releasebuffer},
    {0, NULL},
};

PyType_Spec dlx_tensor_spec = {
    .name = "dlexchange.Tensor",
    .basicsize = sizeof(dlx_tensor),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};
