/* SPDX-License-Identifier: Apache-2.0
 *
 * The type behind dlexchange.Producer: the interfaces beside __dlpack__, and the C
 * exchange API table. GIL: held; released around driver calls.
 */
#include "order.h"
#include "producer.h"
#include "tensor.h"

static PyObject *
producer_dlpack_device(PyObject *self, PyObject *unused)
{
    (void)unused;
    dlx_description *said = dlx_producer_describe(dlx_the_state, self);
    if (said == NULL) {
        return NULL;
    }
    DLDevice device = said->view.device;
    Py_DECREF(said);
    return Py_BuildValue("(ii)", (int)device.device_type, (int)device.device_id);
}
/* ---- array interfaces ---- */

/* The stream it names carries all pending work: the others are joined into the first.
 * Clauses: A01-A08. */
static PyObject *
producer_cuda_array_interface(PyObject *self, void *closure)
{
    (void)closure;
    dlx_state *state = dlx_the_state;
    PyObject *stream = NULL, *result = NULL;
    dlx_description *said = dlx_producer_describe(state, self);
    if (said == NULL) {
        return NULL;
    }
    if (said->view.device.device_type != kDLCUDA &&
        said->view.device.device_type != kDLCUDAManaged) {
        PyErr_SetString(PyExc_AttributeError,
                        "__cuda_array_interface__ shows CUDA memory only");
        goto fail;
    }
    if (said->complete) {
        stream = Py_NewRef(Py_None);
    } else {
        dlx_stream first = said->streams[0].stream;
        if (said->n_streams > 1 && dlx_producer_push(state, said, first) < 0) {
            goto fail;
        }
        stream = PyLong_FromUnsignedLongLong((unsigned long long)first.handle);
    }
    if (stream != NULL) {
        result = PyObject_CallMethod(state->adapters, "show_cuda_array_interface", "OO",
                                     (PyObject *)said, stream);
    }
fail:
    Py_XDECREF(stream);
    Py_DECREF(said);
    return result;
}

/* A Tensor over host memory, which speaks the host's protocols. `error` where the
 * memory is elsewhere. */
static DLX_GIVE PyObject *
host_tensor(PyObject *self, PyObject *error, const char *protocol)
{
    dlx_source source;
    PyObject *tensor = NULL;
    dlx_description *said = dlx_producer_describe(dlx_the_state, self);
    if (said == NULL) {
        return NULL;
    }
    if (said->view.device.device_type != kDLCPU) {
        PyErr_Format(error, "%s shows plain host memory only; this %s is on device %d",
                     protocol, Py_TYPE(self)->tp_name,
                     (int)said->view.device.device_type);
        goto fail;
    }
    dlx_producer_source(said, self, &source);
    tensor = dlx_tensor_new(dlx_the_state, &source);
    dlx_source_close(&source);
fail:
    Py_DECREF(said);
    return tensor;
}

static PyObject *
producer_array_interface(PyObject *self, void *closure)
{
    PyObject *tensor = host_tensor(self, PyExc_AttributeError, "__array_interface__");
    PyObject *result =
        tensor != NULL ? dlx_tensor_array_interface(tensor, closure) : NULL;
    Py_XDECREF(tensor);
    return result;
}

/* The buffer belongs to the Tensor, which holds the memory and is asked to release it.
 */
static int
producer_getbuffer(PyObject *self, Py_buffer *buffer, int flags)
{
    buffer->obj = NULL;
    PyObject *tensor = host_tensor(self, PyExc_BufferError, "the buffer protocol");
    int status = tensor != NULL ? PyObject_GetBuffer(tensor, buffer, flags) : -1;
    Py_XDECREF(tensor);
    return status;
}

/* ---- the C exchange API ---- */

/* The table can order nothing, so device memory must be complete. */
static int
api_from_object(void *object, DLManagedTensorVersioned **out)
{
    dlx_state *state = dlx_the_state;
    dlx_block *block = NULL;
    dlx_source source;
    if (!PyObject_TypeCheck((PyObject *)object, state->producer_type)) {
        PyErr_Format(PyExc_TypeError, "expected a dlexchange.Producer, not %s",
                     Py_TYPE((PyObject *)object)->tp_name);
        return -1;
    }
    dlx_description *said = dlx_producer_describe(state, object);
    if (said == NULL) {
        return -1;
    }
    if (!said->complete) {
        dlx_raise(
            state->ExchangeError,
            "the C exchange API cannot order pending device work: use __dlpack__ with "
            "a stream, or describe the memory with stream=-1 once it is complete");
    } else {
        dlx_producer_source(said, object, &source);
        block = dlx_block_new(state, &source.view, source.flags, &source.hold, true);
        dlx_source_close(&source);
    }
    Py_DECREF(said);
    if (block == NULL) {
        return -1;
    }
    *out = &block->managed.versioned;
    return 0;
}

/* The rest is Tensor's: what is imported becomes a Tensor, and the host has no stream.
 * Borrowing is not offered: a description may not outlive the call. */
static DLPackExchangeAPI api;

int
dlx_producer_setup(dlx_state *state)
{
    const DLPackExchangeAPI *tensors =
        PyCapsule_GetPointer(state->exchange_api_capsule, "dlpack_exchange_api");
    if (tensors == NULL) {
        return -1;
    }
    api = *tensors;
    api.managed_tensor_from_py_object_no_sync = api_from_object;
    api.dltensor_from_py_object_no_sync = NULL;
    PyObject *capsule = PyCapsule_New(&api, "dlpack_exchange_api", NULL);
    PyObject *pool = dlx_pool_capsule();
    PyObject *names = state->producer_type->tp_dict;
    int status = -1;
    if (capsule != NULL && pool != NULL &&
        PyDict_SetItem(names, state->names.__dlpack_c_exchange_api__, capsule) == 0) {
        status = PyDict_SetItemString(names, "_event_pool", pool);
    }
    Py_XDECREF(capsule);
    Py_XDECREF(pool);
    if (status == 0) { /* the instance's description, or True: not fixed by default */
        status = PyDict_SetItem(state->producer_type->tp_dict,
                                state->names._dlexchange_fixed, Py_None);
    }
    PyType_Modified(state->producer_type);
    return status;
}

static PyMethodDef methods[] = {
    {"__dlpack__", (PyCFunction)(void (*)(void))dlx_producer_dlpack,
     METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None,"
               " copy=None)\n--\n\n"
               "Export the memory as a DLPack capsule (versioned where `max_version`\n"
               "allows it), behind all pending work.")},
    DLX_ARRAY_METHOD,
    {"__dlpack_device__", producer_dlpack_device, METH_NOARGS,
     PyDoc_STR("__dlpack_device__($self, /)\n--\n\nReturn (device_type, device_id).")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"__cuda_array_interface__", producer_cuda_array_interface, NULL,
     "The CUDA Array Interface, version 3. CUDA memory only.", NULL},
    {"__array_interface__", producer_array_interface, NULL,
     "numpy's array interface, version 3. Host memory only.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "The protocols of dlexchange.Producer; inherit from that."},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_bf_getbuffer, producer_getbuffer},
    {0, NULL},
};

/* No fields, so that it mixes with any other base. */
PyType_Spec dlx_producer_spec = {
    .name = "dlexchange._core.Protocols",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};
