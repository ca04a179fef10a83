/* SPDX-License-Identifier: Apache-2.0
 *
 * The C exchange API from both sides: calling each function of a subject's table and
 * showing status and error apart, and tables of our own whose functions ask a Python
 * handler (one for the process: the functions are given no context to find another by).
 */
#include "probe.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* --- calling a subject's functions: (status, result, exception or None) */

static PyObject *
outcome(int status, PyObject *result)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    if (result == NULL) {
        result = Py_NewRef(Py_None);
    }
    return Py_BuildValue("(iNN)", status, result, value ? value : Py_NewRef(Py_None));
}

static PyObject *
call_from_py(PyObject *Py_UNUSED(module), PyObject *args)
{
    DLPackManagedTensorFromPyObjectNoSync function;
    PyObject *object;
    if (!PyArg_ParseTuple(args, "O&O", probe_address, &function, &object)) {
        return NULL;
    }
    DLManagedTensorVersioned *out = NULL;
    int status = function(object, &out);
    return outcome(status, status == 0 ? PyLong_FromVoidPtr(out) : NULL);
}

static PyObject *
call_dltensor(PyObject *Py_UNUSED(module), PyObject *args)
{
    DLPackDLTensorFromPyObjectNoSync function;
    PyObject *object;
    if (!PyArg_ParseTuple(args, "O&O", probe_address, &function, &object)) {
        return NULL;
    }
    DLTensor out;
    memset(&out, 0x5a, sizeof(out));
    int status = function(object, &out);
    return outcome(status, status == 0
                               ? PyBytes_FromStringAndSize((char *)&out, sizeof(out))
                               : NULL);
}

static PyObject *
call_to_py(PyObject *Py_UNUSED(module), PyObject *args)
{
    DLPackManagedTensorToPyObjectNoSync function;
    DLManagedTensorVersioned *managed;
    if (!PyArg_ParseTuple(args, "O&O&", probe_address, &function, probe_address,
                          &managed)) {
        return NULL;
    }
    void *out = NULL;
    int status = function(managed, &out);
    return outcome(status, status == 0 ? (PyObject *)out : NULL);
}

static PyObject *
call_work_stream(PyObject *Py_UNUSED(module), PyObject *args)
{
    DLPackCurrentWorkStream function;
    int device_type, device_id;
    if (!PyArg_ParseTuple(args, "O&ii", probe_address, &function, &device_type,
                          &device_id)) {
        return NULL;
    }
    void *out = (void *)0x5a5a5a5a;
    int status = function((DLDeviceType)device_type, device_id, &out);
    return outcome(status, status == 0 ? PyLong_FromVoidPtr(out) : NULL);
}

typedef struct {
    DLPackManagedTensorAllocator function;
    DLTensor prototype;
    DLManagedTensorVersioned *out;
    int status;
    int errors;
    char kind[64];
    char message[256];
} allocation;

static void
set_error(void *context, const char *kind, const char *message)
{
    allocation *self = context;
    self->errors++;
    strncpy(self->kind, kind ? kind : "", sizeof(self->kind) - 1);
    strncpy(self->message, message ? message : "", sizeof(self->message) - 1);
}

static void *
allocate(void *context)
{
    allocation *self = context;
    self->status = self->function(&self->prototype, &self->out, self, set_error);
    return NULL;
}

/* call_allocator(function, dtype, shape, device, on_thread) -> (status, address,
 * number of SetError calls, kind, message). What the allocator may not read is poison.
 */
static PyObject *
call_allocator(PyObject *Py_UNUSED(module), PyObject *args)
{
    allocation call = {0};
    int64_t shape[8];
    PyObject *dims;
    int device_type, on_thread;
    if (!PyArg_ParseTuple(args, "O&(bbH)O!(ii)p", probe_address, &call.function,
                          &call.prototype.dtype.code, &call.prototype.dtype.bits,
                          &call.prototype.dtype.lanes, &PyTuple_Type, &dims,
                          &device_type, &call.prototype.device.device_id, &on_thread)) {
        return NULL;
    }
    Py_ssize_t ndim = PyTuple_GET_SIZE(dims);
    for (Py_ssize_t i = 0; i < ndim && i < 8; i++) {
        shape[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(dims, i));
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    call.prototype.device.device_type = (DLDeviceType)device_type;
    call.prototype.ndim = (int32_t)ndim;
    call.prototype.shape = shape;
    call.prototype.data = (void *)0x5a5a5a5a5a5a;
    call.prototype.strides = (int64_t *)0x5a5a5a5a5a5a;
    call.prototype.byte_offset = 0x5a5a5a5a;
    if (on_thread) {
        PyThreadState *state = PyEval_SaveThread();
        pthread_t thread;
        if (pthread_create(&thread, NULL, allocate, &call) == 0) {
            pthread_join(thread, NULL);
        } else {
            call.status = -2;
        }
        PyEval_RestoreThread(state);
    } else {
        allocate(&call);
    }
    PyObject *left = PyErr_Occurred();
    if (left != NULL) {
        PyErr_Clear(); /* an error set beside SetError: shown by status alone */
    }
    return Py_BuildValue("(iKiss)", call.status,
                         (unsigned long long)(uintptr_t)call.out, call.errors,
                         call.kind, call.message);
}

/* --- tables of our own */

static PyObject *handler;

static PyObject *
set_handler(PyObject *Py_UNUSED(module), PyObject *object)
{
    Py_XSETREF(handler, object == Py_None ? NULL : Py_NewRef(object));
    Py_RETURN_NONE;
}

/* Takes the handler's answer: an int (a result, status 0), a pair (status, result), or
 * NULL (status -1, the exception stays). */
static int
answered(PyObject *answer, void **out)
{
    int status = 0;
    if (answer == NULL) {
        return -1;
    }
    if (PyTuple_Check(answer)) {
        status = (int)PyLong_AsLong(PyTuple_GetItem(answer, 0));
        *out = PyLong_AsVoidPtr(PyTuple_GetItem(answer, 1));
    } else {
        *out = PyLong_AsVoidPtr(answer);
    }
    Py_DECREF(answer);
    return PyErr_Occurred() && status == 0 ? -1 : status;
}

static int
table_allocate(DLTensor *prototype, DLManagedTensorVersioned **out, void *context,
               void (*SetError)(void *, const char *, const char *))
{
    PyGILState_STATE gil = PyGILState_Ensure();
    int status = answered(
        PyObject_CallMethod(handler, "allocate", "KKK", (unsigned long long)prototype,
                            (unsigned long long)context, (unsigned long long)SetError),
        (void **)out);
    PyErr_Clear();
    PyGILState_Release(gil);
    return status;
}

static int
table_from_py(void *object, DLManagedTensorVersioned **out)
{
    return answered(PyObject_CallMethod(handler, "from_py", "O", (PyObject *)object),
                    (void **)out);
}

static int
table_to_py(DLManagedTensorVersioned *managed, void **out)
{
    PyObject *made =
        PyObject_CallMethod(handler, "to_py", "K", (unsigned long long)managed);
    *out = made;
    return made != NULL ? 0 : -1;
}

static int
table_dltensor(void *object, DLTensor *out)
{
    void *from = NULL;
    int status = answered(
        PyObject_CallMethod(handler, "dltensor", "O", (PyObject *)object), &from);
    if (status == 0) {
        memcpy(out, from, sizeof(*out));
    }
    return status;
}

static int
table_work_stream(DLDeviceType device_type, int32_t device_id, void **out)
{
    return answered(PyObject_CallMethod(handler, "work_stream", "ii", (int)device_type,
                                        (int)device_id),
                    out);
}

/* make_table(major, minor, prev, leave_out) -> address; never freed, as the protocol
 * demands. leave_out: bit i leaves function i NULL, in the order of the struct. */
static PyObject *
make_table(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned major, minor, leave_out;
    DLPackExchangeAPIHeader *prev;
    if (!PyArg_ParseTuple(args, "IIO&I", &major, &minor, probe_address, &prev,
                          &leave_out)) {
        return NULL;
    }
    DLPackExchangeAPI *table = calloc(1, sizeof(*table));
    if (table == NULL) {
        return PyErr_NoMemory();
    }
    table->header = (DLPackExchangeAPIHeader){{major, minor}, prev};
    table->managed_tensor_allocator = leave_out & 1 ? NULL : table_allocate;
    table->managed_tensor_from_py_object_no_sync = leave_out & 2 ? NULL : table_from_py;
    table->managed_tensor_to_py_object_no_sync = leave_out & 4 ? NULL : table_to_py;
    table->dltensor_from_py_object_no_sync = leave_out & 8 ? NULL : table_dltensor;
    table->current_work_stream = leave_out & 16 ? NULL : table_work_stream;
    return PyLong_FromVoidPtr(table);
}

static void
destroy_nothing(PyObject *Py_UNUSED(capsule))
{
}

static PyObject *
table_capsule(PyObject *Py_UNUSED(module), PyObject *args)
{
    void *table;
    const char *name = "dlpack_exchange_api";
    int with_destructor = 0;
    if (!PyArg_ParseTuple(args, "O&|sp", probe_address, &table, &name,
                          &with_destructor)) {
        return NULL;
    }
    const char *kept = probe_name(name, 1);
    if (kept == NULL) {
        return NULL;
    }
    return PyCapsule_New(table, kept, with_destructor ? destroy_nothing : NULL);
}

/* What an allocator's handler calls to report: set_error(function, context, kind, text)
 */
static PyObject *
call_set_error(PyObject *Py_UNUSED(module), PyObject *args)
{
    void (*function)(void *, const char *, const char *);
    void *context;
    const char *kind, *text;
    if (!PyArg_ParseTuple(args, "O&O&ss", probe_address, &function, probe_address,
                          &context, &kind, &text)) {
        return NULL;
    }
    function(context, kind, text);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"call_from_py", call_from_py, METH_VARARGS, NULL},
    {"call_dltensor", call_dltensor, METH_VARARGS, NULL},
    {"call_to_py", call_to_py, METH_VARARGS, NULL},
    {"call_work_stream", call_work_stream, METH_VARARGS, NULL},
    {"call_allocator", call_allocator, METH_VARARGS, NULL},
    {"call_set_error", call_set_error, METH_VARARGS, NULL},
    {"set_handler", set_handler, METH_O, NULL},
    {"make_table", make_table, METH_VARARGS, NULL},
    {"table_capsule", table_capsule, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

int
probe_add_table(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
