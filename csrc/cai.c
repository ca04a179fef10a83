/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of cai.h.
 */
#include "cai.h"

#include "mutant.h"
#include "order.h"
#include "raise.h"
#include "tensor.h"

static int
read_dims(dlx_source *source, PyObject *shape, PyObject *strides)
{
    Py_ssize_t ndim = PyTuple_Size(shape);
    if (ndim < 0 || ndim > DLX_MAX_NDIM) {
        PyErr_Format(PyExc_ValueError, "shape of %zd dimensions", ndim);
        return -1;
    }
    if (strides != Py_None &&
        (!PyTuple_Check(strides) || PyTuple_GET_SIZE(strides) != ndim)) {
        PyErr_Format(PyExc_ValueError, "strides %R for %zd dimensions", strides, ndim);
        return -1;
    }
    source->view.ndim = (int32_t)ndim;
    source->view.shape = source->shape;
    source->view.strides = strides != Py_None ? source->strides : NULL;
    for (Py_ssize_t i = 0; i < ndim; i++) {
        source->shape[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(shape, i));
        source->strides[i] =
            strides != Py_None ? PyLong_AsLongLong(PyTuple_GET_ITEM(strides, i)) : 0;
    }
    return PyErr_Occurred() ? -1 : 0;
}

int
dlx_cai_open(dlx_state *state, PyObject *x, const dlx_request *request,
             dlx_source *source)
{
    PyObject *read = NULL, *shape, *strides, *stream;
    unsigned long long address;
    int code, bits, read_only, device_id, status = -1;
    dlx_order *order = &source->order;
    bool vouched;

    read = PyObject_CallMethod(state->adapters, "read_cuda_array_interface", "O", x);
    if (read == NULL ||
        !PyArg_ParseTuple(read, "KO!O(ii)piO", &address, &PyTuple_Type, &shape,
                          &strides, &code, &bits, &read_only, &device_id, &stream)) {
        goto fail;
    }
    source->framework = "cuda_array_interface";
    if (device_id < 0) { /* the interface does not say, and the library neither */
        device_id = dlx_device_of_address((uintptr_t)address);
    }
    source->flags = read_only ? DLPACK_FLAG_BITMASK_READ_ONLY : 0;
    source->view = (DLTensor){.data = (void *)(uintptr_t)address,
                              .device = {kDLCUDA, device_id},
                              .dtype = {(uint8_t)code, (uint8_t)bits, 1}};
    if (read_dims(source, shape, strides) < 0) {
        dlx_raise(state->ExchangeError,
                  "malformed __cuda_array_interface__ of %s; see the "
                  "cause above",
                  Py_TYPE(x)->tp_name);
        goto fail;
    }
    if (dlx_source_check(state, source) < 0 ||
        dlx_order_begin(state, source->view.device, request, source) < 0) {
        goto fail;
    }
    if (stream == Py_None) {
        order->nothing_pending = true;
    } else if (order->producer.stream.device_type == 0) {
        if (dlx_stream_read(state, stream, order->streams_on, &vouched,
                            &order->producer) < 0) {
            goto fail;
        }
        order->producer.is_owned = true; /* it lives at least as long as x */
        order->edge = !dlx_stream_is_per_thread(order->producer.stream);
    }
    dlx_hold_set_object(&source->hold, x);
    status = 0;
fail:
    Py_XDECREF(read);
    return status;
}

/* One stream for each Tensor, whoever asks and however often: it waits for the data,
 * and consumers put their work back into it. */
static int
export_stream(dlx_tensor *tensor, dlx_lease *lease)
{
    dlx_stream_ref mine = {.is_owned = false};
    dlx_status status;
    dlx_error error;
    if (lease->exported.device_type != 0) {
        return 0;
    }
    Py_BEGIN_ALLOW_THREADS
    status = dlx_stream_acquire(kDLCUDA, tensor->view.device.device_id, &mine.stream,
                                &error);
    if (status == DLX_OK) {
        mine.is_owned = mine.is_pooled = true;
        if (!DLX_MUTATED(interface_wait)) {
            status = dlx_event_wait(lease->ready, mine.stream, &error);
        }
    }
    Py_END_ALLOW_THREADS
    if (status != DLX_OK) {
        dlx_stream_ref_clear(&mine);
        dlx_raise_driver(tensor->state, &error);
        return -1;
    }
    if (lease->exported.device_type != 0) { /* another thread was quicker */
        dlx_stream_ref_clear(&mine);
        return 0;
    }
    dlx_stream stream = mine.stream;
    if (DLX_MUTATED(interface_return)) {
        lease->exported = stream;
        return 0;
    }
    if (dlx_lease_add_consumer(tensor->state, lease, &mine) < 0) {
        dlx_stream_ref_clear(&mine);
        return -1;
    }
    lease->exported = stream;
    return 0;
}

PyObject *
dlx_tensor_cuda_array_interface(PyObject *self, void *closure)
{
    (void)closure;
    dlx_tensor *tensor = (dlx_tensor *)self;
    dlx_state *state = tensor->state;
    dlx_lease *lease = tensor->hold.lease;
    PyObject *interface = NULL;
    if (tensor->closed) {
        PyErr_SetString(PyExc_ValueError, "this Tensor has been closed");
        return NULL;
    }
    if (tensor->view.device.device_type != kDLCUDA &&
        tensor->view.device.device_type != kDLCUDAManaged) {
        PyErr_SetString(PyExc_AttributeError,
                        "__cuda_array_interface__ shows CUDA memory only");
        return NULL;
    }
    tensor->exports++; /* close() in another thread must not take the lease away */
    if (lease == NULL || lease->ready == NULL) { /* nothing pending that we know of */
        interface = PyObject_CallMethod(state->adapters, "show_cuda_array_interface",
                                        "OO", self, Py_None);
    } else if (export_stream(tensor, lease) == 0) {
        interface =
            PyObject_CallMethod(state->adapters, "show_cuda_array_interface", "OK",
                                self, (unsigned long long)lease->exported.handle);
    }
    tensor->lent = tensor->lent || interface != NULL;
    dlx_tensor_export_end(tensor);
    return interface;
}
