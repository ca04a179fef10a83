/* SPDX-License-Identifier: Apache-2.0
 *
 * Keyword arguments of METH_FASTCALL functions, read by hand: the interpreter's own
 * parsers cost more than the hand-offs they would serve. GIL: held.
 */
#ifndef DLX_ARGUMENTS_H_
#define DLX_ARGUMENTS_H_

#include "state.h"

/* One keyword a function knows: its interned name, and where the value goes (borrowed;
 * left alone where the keyword is absent). */
typedef struct dlx_keyword {
    PyObject *name;
    PyObject **value;
} dlx_keyword;

/* Read keywords. 0, or -1 with TypeError set. */
int dlx_keywords_read(const char *function, PyObject *const *values, PyObject *kwnames,
                      const dlx_keyword *known, size_t n_known);

/* Read a `copy` argument: NULL and None -1, False 0, True 1. Returns 0, or -1 with
 * TypeError set. Clause: K18. */
int dlx_copy_read(PyObject *value, int *copy);

/* What dlx_copy_read read, as Python says it; borrowed. */
static inline PyObject *
dlx_copy_object(int copy)
{
    return copy < 0 ? Py_None : copy ? Py_True : Py_False;
}

/* What a consumer asked of __dlpack__. */
typedef struct dlx_export_arguments {
    PyObject *stream; /* borrowed; NULL: nothing was said */
    bool versioned;   /* max_version allows the versioned struct */
    bool has_device;
    DLDevice device; /* dl_device, where has_device */
    int copy;        /* -1: if needed, 0: never, 1: always */
} dlx_export_arguments;

/* Read the keywords of __dlpack__. 0, or -1 with TypeError set.
 * Clauses: K01, K18, V01-V04, V11. */
int dlx_export_arguments_read(dlx_state *state, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames, dlx_export_arguments *out);

#endif
