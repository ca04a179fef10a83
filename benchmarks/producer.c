/* SPDX-License-Identifier: Apache-2.0
 *
 * Exports through a type's C exchange API table, counted in one C loop: what is timed
 * is the table's function and the deleter, and nothing of the interpreter. GIL: held.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlexchange/dlpack_abi.h>

#define TURNS 100

/* export_all(x): export x and delete the result, TURNS times. */
static PyObject *
export_all(PyObject *capsule, PyObject *x)
{
    const DLPackExchangeAPI *api =
        PyCapsule_GetPointer(capsule, "dlpack_exchange_api");
    if (api == NULL) {
        return NULL;
    }
    for (int i = 0; i < TURNS; i++) {
        DLManagedTensorVersioned *managed = NULL;
        if (api->managed_tensor_from_py_object_no_sync(x, &managed) < 0) {
            return NULL;
        }
        managed->deleter(managed);
    }
    return Py_NewRef(Py_None);
}

static PyMethodDef bound = {"export_all", export_all, METH_O,
                            "Export the argument and delete the result, often."};

static PyObject *
exporter(PyObject *module, PyObject *capsule)
{
    (void)module;
    return PyCFunction_New(&bound, capsule);
}

static PyMethodDef methods[] = {
    {"exporter", exporter, METH_O, "Make a function of a type's exchange API capsule."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_producer",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__producer(void)
{
    return PyModule_Create(&definition);
}
