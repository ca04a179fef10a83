/* SPDX-License-Identifier: Apache-2.0
 *
 * The module: set-up once a framework, the pairs, and the loop that callgrind counts.
 */
#include "floor.h"

#include <string.h>

floor_frameworks floor_fw;

static PyObject *
setup_torch(PyObject *self, PyObject *capsule)
{
    (void)self;
    floor_fw.torch = PyCapsule_GetPointer(capsule, "dlpack_exchange_api");
    return floor_fw.torch == NULL ? NULL : Py_NewRef(Py_None);
}

static PyObject *
setup_tvm(PyObject *self, PyObject *dlpack)
{
    (void)self;
    floor_fw.tvm_version =
        Py_BuildValue("(ii)", DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION);
    floor_fw.tvm_kwnames =
        Py_BuildValue("(N)", PyUnicode_InternFromString("max_version"));
    if (floor_fw.tvm_version == NULL || floor_fw.tvm_kwnames == NULL) {
        return NULL;
    }
    floor_fw.tvm_dlpack = Py_NewRef(dlpack);
    return Py_NewRef(Py_None);
}

static PyObject *
setup_jax(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *shard, *to_capsule, *of_capsule, *device;
    if (!PyArg_ParseTuple(args, "OOOO", &shard, &to_capsule, &of_capsule, &device)) {
        return NULL;
    }
    floor_fw.jax_shard = Py_NewRef(shard);
    floor_fw.one = PyLong_FromLong(kDLCPU);
    floor_fw.jax_to_capsule = Py_NewRef(to_capsule);
    floor_fw.jax_of_capsule = Py_NewRef(of_capsule);
    floor_fw.jax_device = Py_NewRef(device);
    return Py_NewRef(Py_None);
}

static PyObject *
setup_cupy(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *to_capsule, *of_capsule;
    if (!PyArg_ParseTuple(args, "OO", &to_capsule, &of_capsule)) {
        return NULL;
    }
    void *function = PyCapsule_GetPointer(to_capsule, PyCapsule_GetName(to_capsule));
    if (function == NULL) {
        return NULL;
    }
    memcpy(&floor_fw.cupy_to_capsule, &function, sizeof function);
    floor_fw.cupy_of_capsule = Py_NewRef(of_capsule);
    return Py_NewRef(Py_None);
}

/* A name of its own in the symbol table: callgrind collects inside this function and
 * nowhere else. Returns 0, or -1 with an error set. */
__attribute__((noinline, visibility("default"))) int
dlx_bench_counted_calls(PyObject *function, PyObject *x, Py_ssize_t times)
{
    for (Py_ssize_t i = 0; i < times; i++) {
        PyObject *result = PyObject_CallOneArg(function, x);
        if (result == NULL) {
            return -1;
        }
        Py_DECREF(result);
    }
    return 0;
}

static PyObject *
counted_calls(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *function, *x;
    Py_ssize_t times;
    if (!PyArg_ParseTuple(args, "OOn", &function, &x, &times) ||
        dlx_bench_counted_calls(function, x, times) < 0) {
        return NULL;
    }
    return Py_NewRef(Py_None);
}

static PyObject *
nothing(PyObject *self, PyObject *x)
{
    (void)self;
    (void)x;
    return Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"setup_torch", setup_torch, METH_O, "Take torch's C exchange API capsule."},
    {"setup_tvm", setup_tvm, METH_O, "Take tvm_ffi.Tensor.__dlpack__, unbound."},
    {"setup_jax", setup_jax, METH_VARARGS,
     "Take jaxlib's three functions and a device."},
    {"setup_cupy", setup_cupy, METH_VARARGS,
     "Take CuPy's _toDlpack (Cython's capsule) and from_dlpack."},
    {"counted_calls", counted_calls, METH_VARARGS, "Call function(x) n times from C."},
    {"nothing", nothing, METH_O, "The empty call."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_floor",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__floor(void)
{
    if (PyType_Ready(&floor_owner_type) < 0 || floor_numpy_init() < 0) {
        return NULL;
    }
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddFunctions(module, floor_pair_methods) < 0) {
        Py_CLEAR(module);
    }
    return module;
}
