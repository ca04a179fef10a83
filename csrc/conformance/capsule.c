/* SPDX-License-Identifier: Apache-2.0
 *
 * Looking: capsules by name address and pointer, memory by address. Reads go through
 * process_vm_readv, so that a wrong pointer of a subject is an error and not a crash.
 */
#include "probe.h"

#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* (name or None, address of the name); None for what is not a capsule. */
static PyObject *
capsule_name(PyObject *Py_UNUSED(module), PyObject *capsule)
{
    if (!PyCapsule_CheckExact(capsule)) {
        Py_RETURN_NONE;
    }
    const char *name = PyCapsule_GetName(capsule);
    if (name == NULL && PyErr_Occurred()) {
        return NULL;
    }
    return Py_BuildValue("(zK)", name, (unsigned long long)(uintptr_t)name);
}

/* (pointer, address of the destructor) under whatever name the capsule has. */
static PyObject *
capsule_content(PyObject *Py_UNUSED(module), PyObject *capsule)
{
    if (!PyCapsule_CheckExact(capsule)) {
        PyErr_SetString(PyExc_TypeError, "not a capsule");
        return NULL;
    }
    void *pointer = PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule));
    if (pointer == NULL) {
        return NULL;
    }
    PyCapsule_Destructor destructor = PyCapsule_GetDestructor(capsule);
    return Py_BuildValue("(KK)", (unsigned long long)(uintptr_t)pointer,
                         (unsigned long long)(uintptr_t)destructor);
}

static PyObject *
capsule_rename(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *capsule;
    const char *name;
    int is_static = 1;
    if (!PyArg_ParseTuple(args, "Os|p", &capsule, &name, &is_static)) {
        return NULL;
    }
    const char *kept = probe_name(name, is_static);
    if (kept == NULL || PyCapsule_SetName(capsule, kept) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Lets the capsule in the one-element list die while `exception` is in flight; returns
 * what is in flight afterwards (None: the destructor swallowed it). */
static PyObject *
drop_with_exception(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *holder, *exception;
    if (!PyArg_ParseTuple(args, "O!O", &PyList_Type, &holder, &exception)) {
        return NULL;
    }
    PyObject *capsule = PyList_GetItem(holder, 0);
    if (capsule == NULL) {
        return NULL;
    }
    Py_INCREF(capsule);
    if (PyList_SetItem(holder, 0, Py_NewRef(Py_None)) < 0) {
        Py_DECREF(capsule);
        return NULL;
    }
    PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_DECREF(capsule);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value != NULL ? value : Py_NewRef(Py_None);
}

static PyObject *
memory(PyObject *Py_UNUSED(module), PyObject *args)
{
    void *address;
    Py_ssize_t nbytes;
    if (!PyArg_ParseTuple(args, "O&n", probe_address, &address, &nbytes)) {
        return NULL;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, nbytes);
    if (bytes == NULL || nbytes == 0) {
        return bytes;
    }
    struct iovec local = {PyBytes_AS_STRING(bytes), (size_t)nbytes};
    struct iovec remote = {address, (size_t)nbytes};
    if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != (ssize_t)nbytes) {
        Py_DECREF(bytes);
        PyErr_Format(PyExc_ValueError, "no %zd readable bytes at %p", nbytes, address);
        return NULL;
    }
    return bytes;
}

static PyObject *
poke(PyObject *Py_UNUSED(module), PyObject *args)
{
    void *address;
    Py_buffer bytes;
    if (!PyArg_ParseTuple(args, "O&y*", probe_address, &address, &bytes)) {
        return NULL;
    }
    memcpy(address, bytes.buf, (size_t)bytes.len);
    PyBuffer_Release(&bytes);
    Py_RETURN_NONE;
}

/* Bytes that malloc has handed out and not got back. */
static PyObject *
malloc_in_use(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    struct mallinfo2 info = mallinfo2();
    return PyLong_FromSize_t(info.uordblks + info.hblkhd);
}

static PyMethodDef methods[] = {
    {"capsule_name", capsule_name, METH_O, NULL},
    {"capsule_content", capsule_content, METH_O, NULL},
    {"capsule_rename", capsule_rename, METH_VARARGS, NULL},
    {"drop_with_exception", drop_with_exception, METH_VARARGS, NULL},
    {"memory", memory, METH_VARARGS, NULL},
    {"poke", poke, METH_VARARGS, NULL},
    {"malloc_in_use", malloc_in_use, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

int
probe_add_capsule(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
