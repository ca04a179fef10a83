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

#endif
