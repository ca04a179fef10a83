/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of produce.h: one hand-off, from any producer to any consumer.
 */
#include "produce.h"

#include "block.h"
#include "jax.h"
#include "numpy.h"
#include "tensor.h"
#include "torch.h"

void
dlx_consumer_refused(dlx_state *state, const char *consumer, const dlx_source *source)
{
    const DLTensor *view = &source->view;
    if (PyErr_ExceptionMatches(PyExc_Exception) &&
        !PyErr_ExceptionMatches(PyExc_MemoryError) &&
        !PyErr_ExceptionMatches(PyExc_ModuleNotFoundError) &&
        !PyErr_ExceptionMatches(state->ExchangeError)) {
        dlx_raise(
            state->ExchangeError,
            "%s refused a %s tensor (dtype code %d, bits %d, lanes %d; ndim %d); see "
            "the cause above",
            consumer, source->framework, (int)view->dtype.code, (int)view->dtype.bits,
            (int)view->dtype.lanes, (int)view->ndim);
    }
}

int
dlx_warn_read_only(dlx_state *state, const char *producer, const char *consumer,
                   Py_ssize_t level)
{
    if (state->strict) {
        dlx_raise(state->ExchangeError,
                  "this %s array is read-only, which %s cannot express; pass copy=True",
                  producer, consumer);
        return -1;
    }
    if (state->warned_read_only) {
        return 0;
    }
    if (PyErr_WarnFormat(
            state->ReadOnlyWarning, level,
            "a read-only %s array was handed to %s, which cannot express that: "
            "writing to it there is undefined; pass copy=True to be safe (this "
            "warning is given once)",
            producer, consumer) < 0) {
        return -1; /* it was made an error: then it is one every time */
    }
    state->warned_read_only = true;
    return 0;
}

int
dlx_torch_load(dlx_state *state)
{
    PyObject *module = NULL, *type = NULL;
    if (state->torch_api != NULL) {
        return 0;
    }
    module = PyImport_ImportModule("torch");
    type = module != NULL ? PyObject_GetAttrString(module, "Tensor") : NULL;
    if (type != NULL && PyType_Check(type)) {
        const dlx_entry *entry = dlx_entry_resolve(state, (PyTypeObject *)type);
        if (entry != NULL && entry->api == NULL) {
            dlx_raise(state->ExchangeError,
                      "this torch offers no DLPack C exchange API");
        }
        state->torch_api = entry != NULL ? entry->api : NULL;
    }
    Py_XDECREF(module);
    Py_XDECREF(type);
    return state->torch_api != NULL ? 0 : -1;
}

PyObject *
dlx_block_import(dlx_state *state, const DLPackExchangeAPI *api, dlx_block *block,
                 dlx_hold *hold)
{
    void *result = NULL;
    bool dropped = false;
    block->dropped = &dropped;
    int status =
        api->managed_tensor_to_py_object_no_sync(&block->managed.versioned, &result);
    if (!dropped && status == 0) {
        block->dropped = NULL;
    } else if (!dropped) {
        dlx_block_undo(state, block, hold);
    }
    if (status != 0 && !PyErr_Occurred()) {
        dlx_raise(state->ExchangeError,
                  "the consumer's C exchange table failed and set no error: report it "
                  "there");
    }
    return status == 0 ? result : NULL;
}

PyObject *
dlx_exchange_import(dlx_state *state, const DLPackExchangeAPI *api, dlx_source *source)
{
    dlx_block *block =
        dlx_block_new(state, &source->view, source->flags, &source->hold, true);
    return block != NULL ? dlx_block_import(state, api, block, &source->hold) : NULL;
}

PyObject *
dlx_hand_off(dlx_state *state, PyObject *x, const dlx_request *request)
{
    dlx_source source;
    PyObject *result = NULL;
    if (request->consumer == DLX_TO_TORCH && state->torch_api == NULL &&
        dlx_torch_load(state) < 0) {
        return NULL;
    }
    if (dlx_source_open(state, x, request, &source) < 0) {
        return NULL;
    }
    switch (request->consumer) {
        case DLX_TO_TENSOR:
            if (request->copy == 1 && source.view.device.device_type != kDLCPU) {
                dlx_raise(
                    state->CopyError,
                    "a neutral Tensor of device memory cannot be a copy: let the consumer "
                    "copy (to_torch(x, copy=True) and its like)");
                break;
            }
            result = dlx_tensor_new(state, &source);
            break;
        case DLX_TO_CUPY: /* dlx_cupy_hand_off makes its array */
        case DLX_TO_ADAPTER:
            result = dlx_tensor_new(state, &source);
            break;
        case DLX_TO_NUMPY:
            result = dlx_numpy_make(state, &source);
            break;
        case DLX_TO_TORCH:
            result = dlx_torch_make(state, request, &source);
            break;
        case DLX_TO_JAX:
            result = dlx_jax_make(state, request, &source);
            break;
        case DLX_TO_EXCHANGE:
            result = dlx_exchange_import(state, request->api, &source);
            if (result == NULL) {
                dlx_consumer_refused(state, "the consumer", &source);
            }
            break;
    }
    dlx_source_close(&source);
    return result;
}
