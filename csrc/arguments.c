/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of arguments.h.
 */
#include "arguments.h"

static const dlx_keyword *
find(const dlx_keyword *known, size_t n_known, PyObject *name)
{
    for (size_t i = 0; i < n_known; i++) {
        if (known[i].name == name) {
            return &known[i];
        }
    }
    for (size_t i = 0; i < n_known; i++) { /* a name that was not interned */
        if (PyUnicode_Compare(known[i].name, name) == 0) {
            return &known[i];
        }
    }
    return NULL;
}

int
dlx_keywords_read(const char *function, PyObject *const *values, PyObject *kwnames,
                  const dlx_keyword *known, size_t n_known)
{
    Py_ssize_t n = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        const dlx_keyword *keyword = find(known, n_known, name);
        if (keyword == NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() got an unexpected keyword argument '%U'", function,
                         name);
            return -1;
        }
        *keyword->value = values[i];
    }
    return 0;
}

int
dlx_copy_read(PyObject *value, int *copy)
{
    if (value == NULL || value == Py_None) {
        *copy = -1;
    } else if (value == Py_True || value == Py_False) {
        *copy = value == Py_True;
    } else {
        PyErr_Format(PyExc_TypeError, "copy must be True, False or None, not %R",
                     value);
        return -1;
    }
    return 0;
}

static int
read_max_version(PyObject *value, bool *versioned)
{
    long major = 0;
    if (value == NULL || value == Py_None) {
        *versioned = false;
        return 0;
    }
    if (PyTuple_Check(value) && PyTuple_GET_SIZE(value) == 2) {
        major = PyLong_AsLong(PyTuple_GET_ITEM(value, 0));
        if (!PyErr_Occurred()) {
            (void)PyLong_AsLong(PyTuple_GET_ITEM(value, 1)); /* only that it is one */
        }
    }
    if (PyErr_Occurred() || !PyTuple_Check(value) || PyTuple_GET_SIZE(value) != 2) {
        PyErr_Format(PyExc_TypeError,
                     "max_version must be (major, minor) or None, not %R", value);
        return -1;
    }
    *versioned = major >= 1;
    return 0;
}

static int
read_dl_device(PyObject *value, bool *has_device, DLDevice *device)
{
    int type, id;
    *has_device = value != NULL && value != Py_None;
    if (!*has_device) {
        return 0;
    }
    if (!PyTuple_Check(value) || !PyArg_ParseTuple(value, "ii", &type, &id)) {
        PyErr_Format(PyExc_TypeError,
                     "dl_device must be (device_type, device_id) or None, not %R",
                     value);
        return -1;
    }
    *device = (DLDevice){(DLDeviceType)type, id};
    return 0;
}

int
dlx_export_arguments_read(dlx_state *state, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames, dlx_export_arguments *out)
{
    PyObject *max_version = NULL, *dl_device = NULL, *copy = NULL;
    const dlx_keyword known[] = {
        {state->names.max_version, &max_version},
        {state->names.stream, &out->stream},
        {state->names.dl_device, &dl_device},
        {state->names.copy, &copy},
    };
    out->stream = NULL;
    if (nargs != 0) {
        PyErr_SetString(PyExc_TypeError, "__dlpack__ takes keyword arguments only");
        return -1;
    }
    return dlx_keywords_read("__dlpack__", args, kwnames, known, 4) < 0 ||
                   dlx_copy_read(copy, &out->copy) < 0 ||
                   read_max_version(max_version, &out->versioned) < 0 ||
                   read_dl_device(dl_device, &out->has_device, &out->device) < 0
               ? -1
               : 0;
}
