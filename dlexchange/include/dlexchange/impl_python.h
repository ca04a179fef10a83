/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of dlexchange_python.h: errors, capsules, __dlpack__. GIL: held.
 */
#ifndef DLEXCHANGE_IMPL_PYTHON_H_
#define DLEXCHANGE_IMPL_PYTHON_H_

static inline PyObject *
dlx_py_raise(int error)
{
    if (error == DLX_NO_MEMORY) {
        return PyErr_NoMemory();
    }
    PyErr_SetString(error == DLX_DRIVER || error == DLX_NO_DRIVER ? PyExc_RuntimeError
                                                                  : PyExc_BufferError,
                    dlx_error_text(error));
    return NULL;
}

static inline int
dlx_py_share_pool(void)
{
    const dlx_pool *pool = (const dlx_pool *)PyCapsule_Import(DLX_POOL_CAPSULE, 0);
    if (pool == NULL) {
        PyErr_Clear();
        return 0;
    }
    if (pool->version != DLX_POOL_VERSION) {
        return 0;
    }
    __atomic_store_n(&dlx_the_pool, pool, __ATOMIC_RELEASE);
    return 1;
}

static inline void
dlx_py_drop(void *owner)
{
    PyGILState_STATE gil;
    PyObject *type, *value, *traceback;
#if PY_VERSION_HEX >= 0x030D0000
    int is_late = !Py_IsInitialized() || Py_IsFinalizing();
#else
    int is_late = !Py_IsInitialized() || _Py_IsFinalizing();
#endif
    if (is_late) {
        return;
    }
    gil = PyGILState_Ensure();
    PyErr_Fetch(&type, &value, &traceback);
    Py_DECREF((PyObject *)owner);
    PyErr_Restore(type, value, traceback);
    PyGILState_Release(gil);
}

/* End an export of ours from a capsule that nobody consumed: the GIL is held, so that a
 * Python owner is dropped at once. Private. */
static inline void
dlx_py_end(dlx_exported *exported)
{
    if (exported->drop == dlx_py_drop) {
        PyObject *owner = (PyObject *)exported->owner;
        free(exported);
        Py_DECREF(owner);
    } else {
        dlx_exported_free(exported);
    }
}

/* The capsules' destructors. The pointer is that of the export: the managed tensor is
 * its first member. Private. */
static inline void
dlx_py_destroy_versioned(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, "dltensor_versioned")) { /* else it was consumed */
        dlx_py_end((dlx_exported *)PyCapsule_GetPointer(capsule, "dltensor_versioned"));
    }
}

/* Private. */
static inline void
dlx_py_destroy_legacy(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, "dltensor")) {
        dlx_py_end((dlx_exported *)PyCapsule_GetPointer(capsule, "dltensor"));
    }
}

static inline PyObject *
dlx_py_capsule(const DLTensor *view, uint64_t flags, PyObject *owner, int versioned)
{
    struct DLManagedTensorVersioned *managed = NULL;
    DLManagedTensor *legacy = NULL;
    PyObject *capsule;
    int error = versioned ? dlx_export(view, flags, owner, dlx_py_drop, &managed)
                          : dlx_export_legacy(view, owner, dlx_py_drop, &legacy);
    if (error != DLX_OK) {
        return dlx_py_raise(error);
    }
    Py_INCREF(owner); /* the export's reference */
    capsule = versioned ? PyCapsule_New(managed, "dltensor_versioned",
                                        dlx_py_destroy_versioned)
                        : PyCapsule_New(legacy, "dltensor", dlx_py_destroy_legacy);
    if (capsule == NULL && versioned) {
        managed->deleter(managed);
    } else if (capsule == NULL) {
        legacy->deleter(legacy);
    }
    return capsule;
}

/* What a consumer asked for. References are borrowed; None where left out. Private. */
typedef struct dlx_py_asked {
    PyObject *stream, *max_version, *dl_device, *copy;
    int versioned; /* max_version allows it */
    int to_host;   /* dl_device asks for the host, and the memory is elsewhere */
} dlx_py_asked;

/* Sort one keyword in. Private. */
static inline int
dlx_py_keyword(dlx_py_asked *asked, PyObject *name, PyObject *value)
{
    if (PyUnicode_CompareWithASCIIString(name, "max_version") == 0) {
        asked->max_version = value;
    } else if (PyUnicode_CompareWithASCIIString(name, "stream") == 0) {
        asked->stream = value;
    } else if (PyUnicode_CompareWithASCIIString(name, "dl_device") == 0) {
        asked->dl_device = value;
    } else if (PyUnicode_CompareWithASCIIString(name, "copy") == 0) {
        asked->copy = value;
    } else {
        PyErr_Format(PyExc_TypeError,
                     "__dlpack__() got an unexpected keyword argument '%U'", name);
        return -1;
    }
    return 0;
}

/* Read a pair of integers. Private. */
static inline int
dlx_py_pair(PyObject *value, const char *keyword, long *first, long *second)
{
    if (PyTuple_Check(value) && PyTuple_GET_SIZE(value) == 2) {
        *first = PyLong_AsLong(PyTuple_GET_ITEM(value, 0));
        *second = PyLong_AsLong(PyTuple_GET_ITEM(value, 1));
        if (!PyErr_Occurred()) {
            return 0;
        }
    }
    PyErr_Format(PyExc_TypeError, "%s must be a pair of integers or None, not %R",
                 keyword, value);
    return -1;
}

/* Judge everything but the stream: what cannot be done is refused before anything is
 * ordered. Private. */
static inline int
dlx_py_judge(dlx_py_asked *asked, const DLTensor *view, uint64_t flags)
{
    long major = 0, minor = 0, here = (long)view->device.device_type, type = here;
    long id = view->device.device_id;
    const char *why = NULL;
    int copies;
    if (asked->copy != Py_None && !PyBool_Check(asked->copy)) {
        PyErr_SetString(PyExc_TypeError, "copy must be True, False or None");
        return -1;
    }
    if ((asked->max_version != Py_None &&
         dlx_py_pair(asked->max_version, "max_version", &major, &minor) < 0) ||
        (asked->dl_device != Py_None &&
         dlx_py_pair(asked->dl_device, "dl_device", &type, &id) < 0)) {
        return -1;
    }
    asked->versioned = major >= 1;
    asked->to_host = type == kDLCPU && here != kDLCPU;
    copies = asked->to_host || asked->copy == Py_True;
    if (!asked->to_host && (type != here || id != view->device.device_id)) {
        PyErr_Format(
            PyExc_BufferError,
            "this array is on device (%d, %d) and cannot be exported to (%ld, %ld)",
            (int)here, (int)view->device.device_id, type, id);
        return -1;
    }
    if (asked->to_host && asked->copy == Py_False) {
        why = "dl_device=(1, 0) needs a copy, and copy=False forbids it";
    } else if (copies && !asked->to_host && here != kDLCPU) {
        why =
            "this producer copies no memory on its device: let the consumer copy, "
            "or ask for dl_device=(1, 0)";
    } else if (!copies && !asked->versioned &&
               (flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0) {
        why = "read-only memory needs max_version=(1, 0) or higher, or copy=True";
    }
    if (why != NULL) {
        PyErr_SetString(PyExc_BufferError, why);
    }
    return why != NULL ? -1 : 0;
}

/* Read the consumer's stream of `on`. 1: order into *to; 0: the consumer vouches for
 * the order; -1 with an error set. Private. */
static inline int
dlx_py_stream(PyObject *stream, DLDevice on, uintptr_t *to)
{
    if (stream == Py_None) {
        *to = on.device_type == kDLCUDA ? 1 : 0; /* the default stream */
        return 1;
    }
    if (!PyLong_Check(stream)) {
        PyErr_SetString(PyExc_TypeError, "stream must be an integer or None");
        return -1;
    }
    if (PyLong_AsLong(stream) == -1 && !PyErr_Occurred()) {
        return 0;
    }
    PyErr_Clear();
    *to = (uintptr_t)PyLong_AsUnsignedLongLong(stream);
    if (!PyErr_Occurred() && on.device_type == kDLCUDA && *to == 0) {
        (void)dlx_py_raise(DLX_BAD_STREAM);
    }
    return PyErr_Occurred() ? -1 : 1;
}

/* Push every pending stream into the one the consumer named. Releases the GIL around
 * the driver. Private. */
static inline int
dlx_py_order(const DLTensor *view, PyObject *stream, const uintptr_t *pending, size_t n)
{
    DLDevice on = dlx_streams_of(view->device);
    uintptr_t to = 0;
    size_t i;
    int orders, waits, error = DLX_OK;
    if (on.device_type == 0) {
        if (stream != Py_None) {
            PyErr_SetString(PyExc_BufferError,
                            "host memory has no stream: pass stream=None");
            return -1;
        }
        return 0;
    }
    orders = dlx_py_stream(stream, on, &to);
    if (orders <= 0) {
        return orders;
    }
    waits = stream == Py_None && dlx_is_host(view->device);
    Py_BEGIN_ALLOW_THREADS
    if (waits) {
        error = dlx_wait(view->device, pending, n);
    }
    for (i = 0; i < n && !waits && error == DLX_OK; i++) {
        error = dlx_push(on, pending[i], to);
    }
    Py_END_ALLOW_THREADS
    if (error != DLX_OK) {
        (void)dlx_py_raise(error);
        return -1;
    }
    return 0;
}

/* What frees a copy, as the capsule that owns it dies. Private. */
static inline void
dlx_py_free_copy(PyObject *capsule)
{
    free(PyCapsule_GetPointer(capsule, "dlexchange copy"));
}

/* Export a row-major copy on the host, complete: it waits for the pending streams, with
 * the GIL released. Private. */
static inline PyObject *
dlx_py_copied(const DLTensor *view, int versioned, const uintptr_t *pending, size_t n)
{
    DLTensor given = *view;
    PyObject *owner, *capsule = NULL;
    void *memory;
    int error = dlx_check(view);
    if (error != DLX_OK) {
        return dlx_py_raise(error);
    }
    memory = malloc((size_t)dlx_size(view) * (view->dtype.bits / 8u) + 1);
    if (memory == NULL) {
        return PyErr_NoMemory();
    }
    owner = PyCapsule_New(memory, "dlexchange copy", dlx_py_free_copy);
    if (owner == NULL) {
        free(memory);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    error = dlx_copy_to_host(view, pending, n, memory);
    Py_END_ALLOW_THREADS
    given.data = memory;
    given.byte_offset = 0;
    given.strides = NULL;
    given.device.device_type = kDLCPU;
    given.device.device_id = 0;
    capsule = error != DLX_OK ? dlx_py_raise(error)
                              : dlx_py_capsule(&given, DLPACK_FLAG_BITMASK_IS_COPIED,
                                               owner, versioned);
    Py_DECREF(owner);
    return capsule;
}

/* What both forms of __dlpack__ do once they know what is asked. Private. */
static inline PyObject *
dlx_py_answer(dlx_py_asked *asked, const DLTensor *view, uint64_t flags,
              PyObject *owner, const uintptr_t *pending, size_t n)
{
    if (dlx_py_judge(asked, view, flags) < 0) {
        return NULL;
    }
    if (asked->to_host) {
        return dlx_py_copied(view, asked->versioned, pending, n);
    }
    if (dlx_py_order(view, asked->stream, pending, n) < 0) {
        return NULL;
    }
    return asked->copy == Py_True
               ? dlx_py_copied(view, asked->versioned, NULL, 0)
               : dlx_py_capsule(view, flags, owner, asked->versioned);
}

static inline PyObject *
dlx_py_dlpack(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
              const DLTensor *view, uint64_t flags, PyObject *owner,
              const uintptr_t *pending, size_t n)
{
    dlx_py_asked asked = {Py_None, Py_None, Py_None, Py_None, 0, 0};
    Py_ssize_t i, count = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    if (nargs != 0) {
        PyErr_SetString(PyExc_TypeError, "__dlpack__ takes keyword arguments only");
        return NULL;
    }
    for (i = 0; i < count; i++) {
        if (dlx_py_keyword(&asked, PyTuple_GET_ITEM(kwnames, i), args[i]) < 0) {
            return NULL;
        }
    }
    return dlx_py_answer(&asked, view, flags, owner, pending, n);
}

static inline PyObject *
dlx_py_dlpack_dict(PyObject *kwargs, const DLTensor *view, uint64_t flags,
                   PyObject *owner, const uintptr_t *pending, size_t n)
{
    dlx_py_asked asked = {Py_None, Py_None, Py_None, Py_None, 0, 0};
    PyObject *name, *value;
    Py_ssize_t at = 0;
    while (kwargs != NULL && PyDict_Next(kwargs, &at, &name, &value)) {
        if (dlx_py_keyword(&asked, name, value) < 0) {
            return NULL;
        }
    }
    return dlx_py_answer(&asked, view, flags, owner, pending, n);
}

static inline PyObject *
dlx_py_dlpack_device(DLDevice device)
{
    return Py_BuildValue("(ii)", (int)device.device_type, (int)device.device_id);
}

#endif /* DLEXCHANGE_IMPL_PYTHON_H_ */
