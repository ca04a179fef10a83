/* SPDX-License-Identifier: Apache-2.0
 *
 * Functions of dlexchange._core that speak to the driver layer. GIL: held; released
 * around driver calls.
 */
#include "module_driver.h"

#include "driver.h"
#include "lease.h"
#include "mutant.h"
#include "order.h"
#include "raise.h"
#include "stream_type.h"
#include "tensor.h"

/* push(src, dst): both dlexchange.Stream. */
PyObject *
dlx_py_push(PyObject *module, PyObject *args)
{
    dlx_state *state = PyModule_GetState(module);
    PyObject *from, *to;
    dlx_error error;
    dlx_status status;
    if (!PyArg_ParseTuple(args, "O!O!", state->stream_type, &from, state->stream_type,
                          &to)) {
        return NULL;
    }
    if (DLX_MUTATED(named_push)) {
        Py_RETURN_NONE;
    }
    Py_BEGIN_ALLOW_THREADS
    status =
        dlx_push(((dlx_stream_object *)from)->stream, ((dlx_stream_object *)to)->stream,
                 DLX_PUSH_CONSUMER_NAMED, &error);
    Py_END_ALLOW_THREADS
    if (status != DLX_OK) {
        return dlx_raise_driver(state, &error);
    }
    Py_RETURN_NONE;
}

/* work_stream(type, device_type, device_id): the current stream of an exchange API. */
PyObject *
dlx_py_work_stream(PyObject *module, PyObject *args)
{
    dlx_state *state = PyModule_GetState(module);
    PyObject *type;
    int device_type, device_id;
    void *handle = NULL;
    dlx_stream stream;
    dlx_error error;
    if (!PyArg_ParseTuple(args, "O!ii", &PyType_Type, &type, &device_type,
                          &device_id)) {
        return NULL;
    }
    const dlx_entry *entry = dlx_entry_resolve(state, (PyTypeObject *)type);
    if (entry == NULL) {
        return NULL;
    }
    if (entry->api == NULL) {
        Py_RETURN_NONE;
    }
    if (entry->api->current_work_stream((DLDeviceType)device_type, device_id,
                                        &handle) != 0) {
        return NULL;
    }
    if (dlx_stream_init(&stream, device_type, device_id, (uintptr_t)handle, &error) !=
        DLX_OK) {
        return dlx_raise_driver(state, &error);
    }
    return dlx_stream_object_new(state, stream, NULL, false);
}

/* record_stream(address, stream): how many leases know the address. */
PyObject *
dlx_py_record_stream(PyObject *module, PyObject *args)
{
    dlx_state *state = PyModule_GetState(module);
    PyObject *stream;
    unsigned long long address;
    dlx_stream_ref consumer;
    bool vouched;
    if (!PyArg_ParseTuple(args, "KO!", &address, state->stream_type, &stream)) {
        return NULL;
    }
    dlx_stream raw = ((dlx_stream_object *)stream)->stream;
    DLDevice on = {(DLDeviceType)raw.device_type, raw.device_id};
    if (dlx_stream_read(state, stream, on, &vouched, &consumer) < 0) {
        return NULL;
    }
    int found = dlx_lease_record_stream(state, (uintptr_t)address, &consumer);
    dlx_stream_ref_clear(&consumer);
    return found < 0 ? NULL : PyLong_FromLong(found);
}

/* read_stream(x, device_type, device_id): whatever may be given as a stream, as one. */
PyObject *
dlx_py_read_stream(PyObject *module, PyObject *args)
{
    dlx_state *state = PyModule_GetState(module);
    PyObject *object;
    int device_type, device_id;
    dlx_stream_ref found;
    bool vouched;
    if (!PyArg_ParseTuple(args, "Oii", &object, &device_type, &device_id)) {
        return NULL;
    }
    DLDevice on = dlx_order_device((DLDevice){(DLDeviceType)device_type, device_id});
    if (dlx_stream_read(state, object, on, &vouched, &found) < 0) {
        return NULL;
    }
    if (vouched) {
        return dlx_raise(state->StreamError, "-1 is not a stream to work on");
    }
    return found.owner != NULL /* a dx.Stream, which keeps the handle's owner */
               ? found.owner
               : dlx_stream_object_new(state, found.stream, NULL, false);
}

PyObject *
dlx_py_driver_info(PyObject *module, PyObject *device_type)
{
    (void)module;
    dlx_driver_info info;
    long type = PyLong_AsLong(device_type);
    if (type == -1 && PyErr_Occurred()) {
        return NULL;
    }
    dlx_driver_describe((int32_t)type, &info);
    return Py_BuildValue(
        "{s:N,s:N,s:N,s:i,s:i,s:s}", "is_loaded", PyBool_FromLong(info.is_loaded),
        "is_loadable", PyBool_FromLong(info.is_loadable), "is_simulated",
        PyBool_FromLong(info.is_simulated), "version", (int)info.version,
        "device_count", (int)info.device_count, "library", info.library);
}

PyObject *
dlx_py_driver_presence(PyObject *module, PyObject *device_type)
{
    (void)module;
    long type = PyLong_AsLong(device_type);
    if (type == -1 && PyErr_Occurred()) {
        return NULL;
    }
    return PyLong_FromLong(dlx_driver_presence((int32_t)type));
}

PyObject *
dlx_py_driver_load(PyObject *module, PyObject *device_type)
{
    dlx_state *state = PyModule_GetState(module);
    dlx_error error;
    dlx_status status;
    long type = PyLong_AsLong(device_type);
    if (type == -1 && PyErr_Occurred()) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    status = dlx_driver_load((int32_t)type, &error);
    Py_END_ALLOW_THREADS
    if (status != DLX_OK) {
        return dlx_raise_driver(state, &error);
    }
    Py_RETURN_NONE;
}

PyObject *
dlx_py_driver_reset(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    Py_BEGIN_ALLOW_THREADS
    dlx_driver_reset();
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyObject *
dlx_py_host_waits(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyLong_FromUnsignedLongLong(dlx_host_waits_here());
}

/* _park(tensor): for memory whose producer's stream must not wait for its consumers. */
PyObject *
dlx_py_park(PyObject *module, PyObject *x)
{
    dlx_state *state = PyModule_GetState(module);
    if (Py_TYPE(x) != state->tensor_type) {
        return PyErr_Format(PyExc_TypeError, "expected Tensor, not %s",
                            Py_TYPE(x)->tp_name);
    }
    dlx_lease *lease = ((dlx_tensor *)x)->hold.lease;
    if (lease != NULL) {
        lease->edge = false;
    }
    Py_RETURN_NONE;
}

PyObject *
dlx_py_drain(PyObject *module, PyObject *args)
{
    (void)module;
    double limit = 5.0;
    size_t left;
    if (!PyArg_ParseTuple(args, "|d", &limit)) {
        return NULL;
    }
    if (!(limit >= 0 && limit < 1e9)) {
        return PyErr_Format(PyExc_ValueError,
                            "a time limit is between 0 and 10^9 seconds");
    }
    uint64_t limit_ns = (uint64_t)(limit * 1e9);
    Py_BEGIN_ALLOW_THREADS
    left = dlx_drain(limit_ns);
    Py_END_ALLOW_THREADS
    return PyLong_FromSize_t(left);
}

PyObject *
dlx_py_stop(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    Py_BEGIN_ALLOW_THREADS
    dlx_stop();
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

int
dlx_counters_into(PyObject *dict)
{
    dlx_counters c;
    dlx_counters_read(&c);
    const struct {
        const char *name;
        uint64_t value;
    } fields[] = {
        {"pushes", c.pushes},
        {"elided", c.elided},
        {"waits", c.waits},
        {"edges", c.edges},
        {"parked", c.parked},
        {"parked_ever", c.parked_ever},
        {"reaped", c.reaped},
        {"held", c.held},
        {"deferred", c.deferred},
        {"refused", c.refused},
        {"quarantined", c.quarantined},
        {"events_created", c.events_created},
        {"events_in_use", c.events_in_use},
        {"streams_created", c.streams_created},
        {"capture_queries", c.capture_queries},
        {"notifications", c.notifications},
        {"pinned_bytes", c.pinned_bytes},
        {"leaked_by_driver", c.leaked},
        {"host_waits_by_driver", c.host_waits},
        {"copies_by_driver", c.copies},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        PyObject *value = PyLong_FromUnsignedLongLong(fields[i].value);
        if (value == NULL || PyDict_SetItemString(dict, fields[i].name, value) < 0) {
            Py_XDECREF(value);
            return -1;
        }
        Py_DECREF(value);
    }
    return 0;
}
