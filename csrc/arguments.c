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
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'",
                         function, name);
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
        PyErr_Format(PyExc_TypeError, "copy must be True, False or None, not %R", value);
        return -1;
    }
    return 0;
}
