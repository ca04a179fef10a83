/* SPDX-License-Identifier: Apache-2.0
 *
 * The conformance suite's hands: private to dlexchange.conformance._probe. Everything
 * here needs the GIL unless its comment says otherwise.
 */
#ifndef DLX_CONFORMANCE_PROBE_H_
#define DLX_CONFORMANCE_PROBE_H_

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#include "dlexchange/dlpack_abi.h"

typedef struct {
    PyTypeObject *fake_type;
} probe_state;

/* A string equal to `name` that lives for ever: always the same one if is_static, else
 * one of four in turn, as from a library that makes the name anew. NULL with an error.
 */
const char *probe_name(const char *name, int is_static);

/* An address that Python passed as an int. NULL with an error set on overflow. */
int probe_address(PyObject *value, void *out);

int probe_add_capsule(PyObject *module);
int probe_add_deleter(PyObject *module);
int probe_add_fake(PyObject *module);
int probe_add_table(PyObject *module);

#endif /* DLX_CONFORMANCE_PROBE_H_ */
