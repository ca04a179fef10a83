/* SPDX-License-Identifier: Apache-2.0
 *
 * dlexchange.conformance._probe: the module and what its parts share. The parts:
 * capsule.c looks, deleter.c calls and watches, fake.c makes producers whose every
 * field can be wrong, table.c calls exchange API tables and makes false ones.
 */
#include "probe.h"

#include <stddef.h>
#include <string.h>

_Static_assert(sizeof(DLTensor) == 48, "DLTensor");
_Static_assert(sizeof(DLManagedTensor) == 64, "DLManagedTensor");
_Static_assert(sizeof(DLManagedTensorVersioned) == 80, "DLManagedTensorVersioned");
_Static_assert(offsetof(DLManagedTensorVersioned, deleter) == 16, "versioned deleter");
_Static_assert(offsetof(DLManagedTensorVersioned, flags) == 24, "flags");
_Static_assert(offsetof(DLManagedTensor, deleter) == 56, "legacy deleter");
_Static_assert(sizeof(DLPackExchangeAPI) == 56, "DLPackExchangeAPI");

static const char *const static_names[] = {
    "dltensor",
    "dltensor_versioned",
    "used_dltensor",
    "used_dltensor_versioned",
    "dlpack_exchange_api",
};

enum { MADE_NAMES = 32 };
static char *made_names[MADE_NAMES]; /* what else was asked for; never freed */
static int turn;

const char *
probe_name(const char *name, int is_static)
{
    for (size_t i = 0; is_static && i < sizeof(static_names) / sizeof(*static_names);
         i++) {
        if (strcmp(name, static_names[i]) == 0) {
            return static_names[i];
        }
    }
    int found = 0, wanted = is_static ? 1 : 1 + ++turn % 4;
    for (int i = 0; i < MADE_NAMES; i++) {
        if (made_names[i] == NULL) {
            made_names[i] = strdup(name);
        }
        if (made_names[i] != NULL && strcmp(name, made_names[i]) == 0 &&
            ++found == wanted) {
            return made_names[i];
        }
    }
    PyErr_SetString(PyExc_RuntimeError, "too many names");
    return NULL;
}

/* For "O&": an int or None (NULL) becomes an address. */
int
probe_address(PyObject *value, void *out)
{
    if (value == Py_None) {
        *(void **)out = NULL;
        return 1;
    }
    void *address = PyLong_AsVoidPtr(value);
    if (address == NULL && PyErr_Occurred()) {
        return 0;
    }
    *(void **)out = address;
    return 1;
}

static int
module_exec(PyObject *module)
{
    if (probe_add_capsule(module) < 0 || probe_add_deleter(module) < 0 ||
        probe_add_fake(module) < 0 || probe_add_table(module) < 0) {
        return -1;
    }
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    probe_state *state = PyModule_GetState(module);
    Py_VISIT(state->fake_type);
    return 0;
}

static int
module_clear(PyObject *module)
{
    probe_state *state = PyModule_GetState(module);
    Py_CLEAR(state->fake_type);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "dlexchange.conformance._probe",
    .m_doc = "What the conformance suite can not look at or do from Python.",
    .m_size = sizeof(probe_state),
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC
PyInit__probe(void)
{
    return PyModuleDef_Init(&definition);
}
