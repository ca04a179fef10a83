/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of adapt.h.
 */
#include "adapt.h"

#include "capsule.h"
#include "produce.h"
#include "tensor.h"

int
dlx_adapt_ask(PyObject *prepare, PyObject *x)
{
    if (prepare == NULL) {
        return 0;
    }
    Py_INCREF(prepare); /* the call may evict the entry that keeps it */
    PyObject *answer = PyObject_CallOneArg(prepare, x);
    Py_DECREF(prepare);
    Py_XDECREF(answer);
    return answer != NULL ? 0 : -1;
}

PyObject *
dlx_adapt_legacy_capsule(PyObject *module, PyObject *tensor)
{
    dlx_state *state = PyModule_GetState(module);
    dlx_source source;
    dlx_block *block = NULL;
    PyObject *capsule = NULL;
    if (Py_TYPE(tensor) != state->tensor_type) {
        PyErr_Format(PyExc_TypeError, "expected dlexchange.Tensor, not %s",
                     Py_TYPE(tensor)->tp_name);
        return NULL;
    }
    if (dlx_tensor_open(state, tensor, &source) < 0) {
        return NULL;
    }
    if (source.view.device.device_type != kDLCPU) { /* nothing would order it */
        dlx_raise(state->ExchangeError, "only host memory is given out this way");
        goto fail;
    }
    if (dlx_capsule_legacy_check(state, &source) < 0) {
        goto fail;
    }
    block = dlx_block_new(state, &source.view, 0, &source.hold, false);
    if (block == NULL) {
        goto fail;
    }
    capsule = dlx_capsule_new(block, false);
    if (capsule == NULL) {
        dlx_block_undo(state, block, &source.hold);
        goto fail;
    }
    return capsule;

fail:
    dlx_source_close(&source);
    return NULL;
}

PyObject *
dlx_adapt_managed_capsule(PyObject *module, PyObject *args)
{
    (void)module;
    unsigned long long address;
    int versioned;
    if (!PyArg_ParseTuple(args, "Kp", &address, &versioned)) {
        return NULL;
    }
    return dlx_capsule_of((void *)(uintptr_t)address, versioned != 0);
}

PyObject *
dlx_adapt_count_copy(PyObject *module, PyObject *unused)
{
    (void)unused;
    dlx_state *state = PyModule_GetState(module);
    state->counts.copies++;
    Py_RETURN_NONE;
}

PyObject *
dlx_adapt_count_host_wait(PyObject *module, PyObject *unused)
{
    (void)unused;
    dlx_state *state = PyModule_GetState(module);
    state->counts.host_waits++;
    Py_RETURN_NONE;
}

PyObject *
dlx_adapt_warn_read_only(PyObject *module, PyObject *args)
{
    const char *producer, *consumer;
    Py_ssize_t level;
    if (!PyArg_ParseTuple(args, "ssn", &producer, &consumer, &level) ||
        dlx_warn_read_only(PyModule_GetState(module), producer, consumer, level) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}
