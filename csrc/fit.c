/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of fit.h.
 */
#include "fit.h"

#include "tensor.h"

static bool
fits(const dlx_source *source, long needs, size_t alignment)
{
    const DLTensor *view = &source->view;
    bool refused =
        (needs & DLX_FIT_KEEPS_READ_ONLY) == 0 && dlx_source_is_read_only(source);
    refused |= (needs & DLX_FIT_KEEPS_PADDING) == 0 && dlx_source_is_padded(source);
    if (refused || view->device.device_type != kDLCPU) {
        return false;
    }
    if (dlx_layout_size(view) == 0) {
        return true;
    }
    if (alignment == 0 ? !dlx_source_is_aligned(source)
                       : (uintptr_t)dlx_layout_first(view) % alignment != 0) {
        return false;
    }
    return (needs & DLX_FIT_COMPACT) != 0   ? dlx_layout_is_c_contiguous(view)
           : (needs & DLX_FIT_FORWARD) != 0 ? !dlx_layout_has_negative_stride(view)
                                            : true;
}

static PyObject *
refused_by(dlx_state *state, PyObject *name, PyObject *tensor)
{
    if (PyErr_ExceptionMatches(PyExc_Exception) &&
        !PyErr_ExceptionMatches(PyExc_MemoryError) &&
        !PyErr_ExceptionMatches(state->ExchangeError)) {
        dlx_raise(state->ExchangeError, "%U refused %R; see the cause above", name,
                  tensor);
    }
    return NULL;
}

PyObject *
dlx_fit_hand_off(dlx_state *state, PyObject *x, PyObject *consumer)
{
    const dlx_request request = {.copy = -1, .consumer = DLX_TO_TENSOR};
    PyObject *make, *to, *name, *otherwise, *tensor = NULL, *result = NULL;
    long needs;
    Py_ssize_t alignment;
    dlx_source source;
    if (!PyArg_ParseTuple(consumer, "lnOOUO", &needs, &alignment, &make, &to, &name,
                          &otherwise) ||
        dlx_source_open(state, x, &request, &source) < 0) {
        return NULL;
    }
    bool as_it_is = fits(&source, needs, (size_t)alignment);
    tensor = dlx_tensor_new(state, &source);
    if (tensor == NULL) {
        goto fail;
    }
    if (as_it_is) {
        PyObject *args[2] = {tensor, to};
        result = PyObject_Vectorcall(make, args, 2, NULL);
        if (result == NULL) {
            refused_by(state, name, tensor);
        }
    } else {
        result = PyObject_CallFunction(otherwise, "OOOs", tensor, Py_None, Py_None,
                                       source.framework);
    }
fail:
    Py_XDECREF(tensor);
    dlx_source_close(&source);
    return result;
}
