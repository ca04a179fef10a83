/* A worked author: an array type in C, by dlexchange.h alone. float32, on the host or over
 * device memory of somebody else's with work pending on streams. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dlexchange/dlexchange.h>

#define MAX_DIMS 8
#define MAX_STREAMS 4

typedef struct {
    PyObject_HEAD
    float *own;          /* from malloc, or NULL */
    PyObject *base;      /* whose memory it is, or NULL */
    dlx_imported import; /* or what was imported */
    DLTensor view;
    int64_t dims[2 * MAX_DIMS];
    uintptr_t streams[MAX_STREAMS];
    size_t n_streams;
    uint64_t flags;
} image;

static PyTypeObject *image_type;
static DLPackExchangeAPI image_api;

static image *
image_new(void)
{
    image *self = PyObject_New(image, image_type);
    if (self != NULL) {
        memset((char *)self + sizeof(PyObject), 0, sizeof *self - sizeof(PyObject));
        self->view.shape = self->dims;
        self->view.strides = self->dims + MAX_DIMS;
        self->view.dtype.code = kDLFloat;
        self->view.dtype.bits = 32;
        self->view.dtype.lanes = 1;
        self->view.device.device_type = kDLCPU;
    }
    return self;
}

static void
image_dealloc(PyObject *object)
{
    image *self = (image *)object;
    PyTypeObject *type = Py_TYPE(object);
    dlx_release(&self->import);
    free(self->own);
    Py_XDECREF(self->base);
    PyObject_Free(object);
    Py_DECREF(type);
}

static int
read_dims(PyObject *tuple, int64_t *out)
{
    Py_ssize_t n = PyTuple_Size(tuple);
    if (n < 0 || n > MAX_DIMS) {
        PyErr_SetString(PyExc_ValueError, "too many dimensions");
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        out[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i));
    }
    return PyErr_Occurred() ? -1 : (int)n;
}

/* image(values, shape): a new array. */
static PyObject *
make(PyObject *module, PyObject *args)
{
    PyObject *values, *shape;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &values, &PyTuple_Type, &shape)) {
        return NULL;
    }
    Py_ssize_t n = PyList_GET_SIZE(values);
    image *self = image_new();
    if (self == NULL || (self->view.ndim = read_dims(shape, self->dims)) < 0) {
        goto fail;
    }
    self->own = malloc((size_t)n * sizeof *self->own + 1);
    if (self->own == NULL) {
        PyErr_NoMemory();
        goto fail;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        self->own[i] = (float)PyFloat_AsDouble(PyList_GET_ITEM(values, i));
    }
    self->view.data = self->own;
    int64_t step = 1;
    for (int i = self->view.ndim - 1; i >= 0; i--) {
        self->view.strides[i] = step;
        step *= self->view.shape[i];
    }
    if (!PyErr_Occurred()) {
        return (PyObject *)self;
    }
fail:
    Py_XDECREF(self);
    return NULL;
}

/* over(address, shape, strides, device, streams, base, readonly): a view. */
static PyObject *
over(PyObject *module, PyObject *args)
{
    PyObject *shape, *strides, *streams, *base;
    unsigned long long address;
    int type, id, readonly;
    (void)module;
    if (!PyArg_ParseTuple(args, "KO!O!(ii)O!Op", &address, &PyTuple_Type, &shape,
                          &PyTuple_Type, &strides, &type, &id, &PyTuple_Type, &streams,
                          &base, &readonly)) {
        return NULL;
    }
    image *self = image_new();
    if (self == NULL || (self->view.ndim = read_dims(shape, self->view.shape)) < 0 ||
        read_dims(strides, self->view.strides) < 0) {
        goto fail;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(streams) && i < MAX_STREAMS; i++) {
        PyObject *stream = PyTuple_GET_ITEM(streams, i);
        self->streams[self->n_streams++] = (uintptr_t)PyLong_AsUnsignedLongLong(stream);
    }
    self->view.data = (void *)(uintptr_t)address;
    self->view.device.device_type = (DLDeviceType)type;
    self->view.device.device_id = id;
    self->flags = readonly ? DLPACK_FLAG_BITMASK_READ_ONLY : 0;
    self->base = Py_NewRef(base);
    if (!PyErr_Occurred()) {
        return (PyObject *)self;
    }
fail:
    Py_XDECREF(self);
    return NULL;
}

/* from_dlpack(x, stream=1): somebody else's memory. */
static PyObject *
from_dlpack(PyObject *module, PyObject *args)
{
    PyObject *x;
    unsigned long long stream = 1;
    (void)module;
    if (!PyArg_ParseTuple(args, "O|K", &x, &stream)) {
        return NULL;
    }
    image *self = image_new();
    if (self != NULL && dlx_py_import(x, (uintptr_t)stream, &self->import) < 0) {
        Py_CLEAR(self);
    }
    if (self != NULL) {
        self->view = self->import.tensor;
        self->flags = self->import.flags;
    }
    return (PyObject *)self;
}

/* share_pool(): take events from the package's pool from now on. True where it is. */
static PyObject *
share_pool(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyBool_FromLong(dlx_py_share_pool());
}

/* ---- the protocols ---- */

static PyObject *
image_dlpack(PyObject *object, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    image *self = (image *)object;
    return dlx_py_dlpack(args, nargs, kwnames, &self->view, self->flags, object,
                         self->streams, self->n_streams);
}

static PyObject *
image_dlpack_device(PyObject *object, PyObject *unused)
{
    (void)unused;
    return dlx_py_dlpack_device(((image *)object)->view.device);
}

static int
api_from_object(void *object, DLManagedTensorVersioned **out)
{
    image *self = object;
    if (Py_TYPE((PyObject *)object) != image_type) {
        PyErr_SetString(PyExc_TypeError, "expected an Image");
        return -1;
    }
    if (self->n_streams > 0) { /* the table cannot order */
        PyErr_SetString(PyExc_BufferError, "work is pending: use __dlpack__");
        return -1;
    }
    return dlx_py_managed(&self->view, self->flags, (PyObject *)self, out);
}

static int
api_to_object(DLManagedTensorVersioned *managed, void **out)
{
    image *self = image_new();
    int error = self != NULL ? dlx_import(managed, &self->import) : DLX_OK;
    if (self == NULL || error != DLX_OK) {
        if (error != DLX_OK) {
            (void)dlx_py_raise(error);
        }
        Py_XDECREF(self);
        return -1;
    }
    self->view = self->import.tensor;
    self->flags = self->import.flags;
    *out = self;
    return 0;
}

static PyObject *
image_address(PyObject *object, void *closure)
{
    (void)closure;
    return PyLong_FromVoidPtr(((image *)object)->view.data);
}

static PyMethodDef image_methods[] = {
    {"__dlpack__", (PyCFunction)(void (*)(void))image_dlpack, METH_FASTCALL | METH_KEYWORDS,
     NULL},
    {"__dlpack_device__", image_dlpack_device, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef image_getset[] = {
    {"address", image_address, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot image_slots[] = {
    {Py_tp_dealloc, image_dealloc},
    {Py_tp_methods, image_methods},
    {Py_tp_getset, image_getset},
    {0, NULL},
};

static PyType_Spec image_spec = {
    .name = "dlx_author_c.Image",
    .basicsize = sizeof(image),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = image_slots,
};

static PyMethodDef functions[] = {
    {"image", make, METH_VARARGS, NULL},
    {"over", over, METH_VARARGS, NULL},
    {"from_dlpack", from_dlpack, METH_VARARGS, NULL},
    {"share_pool", share_pool, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "dlx_author_c", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC
PyInit_dlx_author_c(void)
{
    PyObject *module = PyModule_Create(&definition);
    image_type = (PyTypeObject *)PyType_FromSpec(&image_spec);
    if (module == NULL || image_type == NULL ||
        dlx_py_add_exchange_api(image_type, &image_api, api_from_object, api_to_object,
                                NULL) < 0) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
