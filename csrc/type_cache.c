/* SPDX-License-Identifier: Apache-2.0
 *
 * The type cache: how arrays of a type are read, asked of the adapters once a type.
 * GIL: held.
 */
#include <string.h>

#include "numpy.h"
#include "producer.h"
#include "state.h"

static const struct {
    const char *name;
    dlx_route route;
} route_names[] = {
    {"exchange", DLX_ROUTE_EXCHANGE}, {"torch", DLX_ROUTE_TORCH},
    {"jax", DLX_ROUTE_JAX},           {"dlpack", DLX_ROUTE_DLPACK},
    {"numpy", DLX_ROUTE_NUMPY},       {"prepare", DLX_ROUTE_PREPARE},
    {"refuse", DLX_ROUTE_REFUSE},     {"cai", DLX_ROUTE_CAI},
};

/* Walk to a table of our major version; NULL where there is none, or one that lacks
 * what is called here. Clauses: X04, X06. */
static const DLPackExchangeAPI *
api_of_capsule(PyObject *capsule)
{
    const DLPackExchangeAPIHeader *header =
        PyCapsule_GetPointer(capsule, "dlpack_exchange_api");
    while (header != NULL && header->version.major != DLPACK_MAJOR_VERSION) {
        header = header->prev_api;
    }
    const DLPackExchangeAPI *api = (const DLPackExchangeAPI *)header;
    bool is_usable = api != NULL &&
                     api->managed_tensor_from_py_object_no_sync != NULL &&
                     api->current_work_stream != NULL;
    return is_usable ? api : NULL;
}

static int
entry_fill(dlx_state *state, PyTypeObject *type, dlx_entry *entry)
{
    PyObject *answer = NULL, *capsule, *prepare, *work_stream, *allocation;
    const char *route, *framework;
    int immutable, ignores_stream, torch_guards, minus_one, status = -1;
    answer = PyObject_CallMethod(state->adapters, "classify", "O", (PyObject *)type);
    if (answer == NULL ||
        !PyArg_ParseTuple(answer, "ssOOppppOO", &route, &framework, &capsule, &prepare,
                          &immutable, &ignores_stream, &torch_guards, &minus_one,
                          &work_stream, &allocation)) {
        goto fail;
    }
    for (size_t i = 0; i < sizeof route_names / sizeof *route_names; i++) {
        if (strcmp(route, route_names[i].name) == 0) {
            entry->route = route_names[i].route;
        }
    }
    if (capsule != Py_None) {
        entry->api = api_of_capsule(capsule);
        if (entry->api == NULL) { /* another major, or no table: __dlpack__ remains */
            PyErr_Clear();
            entry->route = DLX_ROUTE_DLPACK;
        }
    }
    PyObject *name = PyUnicode_InternFromString(framework);
    if (name == NULL) {
        goto fail;
    }
    entry->framework =
        PyUnicode_AsUTF8(name); /* interned and kept: a few per process */
    entry->prepare = prepare == Py_None ? NULL : Py_NewRef(prepare);
    entry->work_stream = work_stream == Py_None ? NULL : Py_NewRef(work_stream);
    entry->allocation_stream = allocation == Py_None ? NULL : Py_NewRef(allocation);
    entry->minus_one_is_handle = minus_one != 0;
    entry->immutable = immutable != 0;
    entry->ignores_stream = ignores_stream != 0;
    entry->torch_guards = torch_guards != 0;
    status = 0;
fail:
    Py_XDECREF(answer);
    return status;
}

/* Two types that share a slot take turns in it, without being asked about again. */
static dlx_entry *
take_back(dlx_state *state, const PyTypeObject *type)
{
    size_t at = dlx_entry_slot(type);
    dlx_entry first = state->cache[at], second = state->displaced[at];
    if (second.type != type || second.tag != type->tp_version_tag || second.tag == 0) {
        return NULL;
    }
    state->cache[at] = second;
    state->displaced[at] = first;
    return &state->cache[at];
}

static dlx_entry *
put(dlx_state *state, const dlx_entry *made)
{
    size_t at = dlx_entry_slot(made->type);
    dlx_entry *slot = &state->cache[at], *old = slot;
    if (slot->type != NULL && slot->type != made->type) {
        old = &state->displaced[at];
    }
    PyObject *prepare = old->prepare, *work_stream = old->work_stream,
             *allocation = old->allocation_stream;
    *old = *slot;
    *slot = *made;
    Py_XDECREF(prepare);
    Py_XDECREF(work_stream);
    Py_XDECREF(allocation);
    return slot;
}

dlx_entry *
dlx_entry_resolve(dlx_state *state, PyTypeObject *type)
{
    dlx_entry *known = take_back(state, type);
    if (known != NULL) {
        return known;
    }
    dlx_entry made = {.type = type, .framework = "dlexchange"};
    /* Looking an attribute up gives the type a version tag, if it can have one. Before
     * the rest: what is learnt of a type that changes meanwhile has the old tag. */
    PyObject *probe = PyObject_GetAttr((PyObject *)type, state->names.__dlpack__);
    made.tag = type->tp_version_tag;
    if (probe == NULL) {
        PyErr_Clear();
    } else if (type->tp_dictoffset == 0 &&
               type->tp_getattro == PyObject_GenericGetAttr &&
               PyType_HasFeature(Py_TYPE(probe), Py_TPFLAGS_METHOD_DESCRIPTOR)) {
        made.dlpack = probe; /* lives as long as the tag stands */
    }
    Py_XDECREF(probe);
    if (type == state->tensor_type) {
        made.route = DLX_ROUTE_TENSOR;
    } else if (type == &PyCapsule_Type) {
        made.route = DLX_ROUTE_CAPSULE;
    } else {
        int is_numpy = dlx_numpy_has_type(state, type);
        if (is_numpy < 0 || entry_fill(state, type, &made) < 0) {
            return NULL;
        }
        if (dlx_producer_has_type(state, type)) {
            made.route = DLX_ROUTE_PRODUCER;
        }
    }
    if (type->tp_version_tag != made.tag) {
        made.dlpack = NULL;
    }
    return put(state, &made);
}
