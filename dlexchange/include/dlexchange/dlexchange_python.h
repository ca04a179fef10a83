/* SPDX-License-Identifier: Apache-2.0
 *
 * dlexchange_python.h: the part of dlexchange.h that needs Python. Included by it where
 * Python.h came first; do not include it by itself.
 *
 * GIL: held by every caller. Errors: NULL or -1 with a Python exception set. Memory
 * that cannot be exchanged is a BufferError; a wrong argument a TypeError or
 * ValueError.
 */
#ifndef DLEXCHANGE_DLEXCHANGE_PYTHON_H_
#define DLEXCHANGE_DLEXCHANGE_PYTHON_H_

#ifdef __cplusplus
extern "C" {
#endif

/* Set the exception that belongs to an error of the other half. Always NULL. */
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

/* A dlx_drop for Python owners: takes the GIL, keeps an exception on its way. After the
 * interpreter has ended the owner is left alone, for good. */
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

/* ---- Capsules ----------------------------------------------------------------------
 */

static inline void
dlx_py_destroy_versioned(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, "dltensor_versioned")) { /* else it was consumed */
        struct DLManagedTensorVersioned *managed =
            (struct DLManagedTensorVersioned *)PyCapsule_GetPointer(
                capsule, "dltensor_versioned");
        if (managed->deleter != NULL) {
            managed->deleter(managed);
        }
    }
}

static inline void
dlx_py_destroy_legacy(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, "dltensor")) {
        DLManagedTensor *managed =
            (DLManagedTensor *)PyCapsule_GetPointer(capsule, "dltensor");
        if (managed->deleter != NULL) {
            managed->deleter(managed);
        }
    }
}

/* Export `view` in a capsule, versioned or not; `owner` is kept until it is deleted,
 * and the caller's reference stays the caller's. Orders nothing. */
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

/* ---- __dlpack__ --------------------------------------------------------------------
 */

/* What a consumer asked for. Private. */
typedef struct dlx_py_asked {
    PyObject *stream, *max_version, *dl_device,
        *copy; /* borrowed; None where left out */
    int versioned;
} dlx_py_asked;

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

static inline int
dlx_py_judge(dlx_py_asked *asked, const DLTensor *view)
{
    long major = 0, minor = 0, here = (long)view->device.device_type, type = here;
    long id = view->device.device_id;
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
    if (type != here || id != view->device.device_id) {
        PyErr_Format(
            PyExc_BufferError,
            "this array is on device (%d, %d) and cannot be exported to (%ld, %ld)",
            (int)here, (int)view->device.device_id, type, id);
        return -1;
    }
    return 0;
}

/* Push every pending stream into the one the consumer named. Private. */
static inline int
dlx_py_order(const DLTensor *view, PyObject *stream, const uintptr_t *pending, size_t n)
{
    DLDevice device = view->device;
    uintptr_t to = 0;
    size_t i;
    int error = DLX_OK;
    if (device.device_type != kDLCUDA && device.device_type != kDLROCM) {
        if (stream != Py_None) {
            PyErr_SetString(PyExc_BufferError,
                            "host memory has no stream: pass stream=None");
            return -1;
        }
        return 0;
    }
    if (stream == Py_None) {
        to = device.device_type == kDLCUDA ? 1 : 0; /* the default stream */
    } else {
        if (!PyLong_Check(stream)) {
            PyErr_SetString(PyExc_TypeError, "stream must be an integer or None");
            return -1;
        }
        if (PyLong_AsLong(stream) == -1 && !PyErr_Occurred()) {
            return 0; /* the consumer vouches for the order */
        }
        PyErr_Clear();
        to = (uintptr_t)PyLong_AsUnsignedLongLong(stream);
        if (PyErr_Occurred()) {
            return -1;
        }
    }
    if (device.device_type == kDLCUDA && to == 0) {
        error = DLX_BAD_STREAM;
    }
    Py_BEGIN_ALLOW_THREADS
    for (i = 0; i < n && error == DLX_OK; i++) {
        error = dlx_push(device, pending[i], to);
    }
    Py_END_ALLOW_THREADS
    if (error != DLX_OK) {
        (void)dlx_py_raise(error);
        return -1;
    }
    return 0;
}

static inline void
dlx_py_free_copy(PyObject *capsule)
{
    free(PyCapsule_GetPointer(capsule, "dlexchange copy"));
}

/* Export a row-major copy of host memory. Private. */
static inline PyObject *
dlx_py_copied(const DLTensor *view, int versioned)
{
    DLTensor given = *view, from = *view;
    int64_t strides[64], step = 1, i, size = dlx_size(view);
    PyObject *owner, *capsule;
    void *memory;
    int error = dlx_check(view);
    if (error != DLX_OK) {
        return dlx_py_raise(error);
    }
    if (view->device.device_type != kDLCPU) {
        PyErr_SetString(PyExc_BufferError,
                        "device memory cannot be copied by this producer");
        return NULL;
    }
    for (i = view->ndim - 1; i >= 0 && view->strides == NULL; i--) {
        strides[i] = step;
        step *= view->shape[i];
    }
    from.strides = view->strides != NULL ? view->strides : strides;
    memory = malloc((size_t)size * (view->dtype.bits / 8u) + 1);
    if (memory == NULL) {
        return PyErr_NoMemory();
    }
    owner = PyCapsule_New(memory, "dlexchange copy", dlx_py_free_copy);
    if (owner == NULL) {
        free(memory);
        return NULL;
    }
    dlx_gather(&from, memory);
    given.data = memory;
    given.byte_offset = 0;
    given.strides = NULL;
    capsule = dlx_py_capsule(&given, DLPACK_FLAG_BITMASK_IS_COPIED, owner, versioned);
    Py_DECREF(owner);
    return capsule;
}

/* What both forms of __dlpack__ do once they know what is asked. Private. */
static inline PyObject *
dlx_py_answer(dlx_py_asked *asked, const DLTensor *view, uint64_t flags,
              PyObject *owner, const uintptr_t *pending, size_t n)
{
    if (dlx_py_judge(asked, view) < 0 ||
        dlx_py_order(view, asked->stream, pending, n) < 0) {
        return NULL;
    }
    if (asked->copy == Py_True) {
        return dlx_py_copied(view, asked->versioned);
    }
    if (!asked->versioned && (flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0) {
        PyErr_SetString(
            PyExc_BufferError,
            "read-only memory needs max_version=(1, 0) or higher, or copy=True");
        return NULL;
    }
    return dlx_py_capsule(view, flags, owner, asked->versioned);
}

/* The whole of __dlpack__, for a method with METH_FASTCALL | METH_KEYWORDS.
 *
 * view: the memory as it is now. flags: READ_ONLY or 0. owner: kept until the consumer
 * is done, mostly self. pending: streams with work on the memory, n of them; each is
 * pushed into the consumer's stream. n 0: nothing is pending.
 *
 * Reads stream, max_version, dl_device and copy as the array API standard has them;
 * copies host memory for copy=True; refuses to copy device memory, which the consumer
 * can do. Returns a new capsule. Orders: the consumer's stream after all pending ones,
 * within the call. Blocks: never the host. */
static inline PyObject *
dlx_py_dlpack(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
              const DLTensor *view, uint64_t flags, PyObject *owner,
              const uintptr_t *pending, size_t n)
{
    dlx_py_asked asked = {Py_None, Py_None, Py_None, Py_None, 0};
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

/* The same for binding tools that hand keywords over in a dict (or NULL). */
static inline PyObject *
dlx_py_dlpack_dict(PyObject *kwargs, const DLTensor *view, uint64_t flags,
                   PyObject *owner, const uintptr_t *pending, size_t n)
{
    dlx_py_asked asked = {Py_None, Py_None, Py_None, Py_None, 0};
    PyObject *name, *value;
    Py_ssize_t at = 0;
    while (kwargs != NULL && PyDict_Next(kwargs, &at, &name, &value)) {
        if (dlx_py_keyword(&asked, name, value) < 0) {
            return NULL;
        }
    }
    return dlx_py_answer(&asked, view, flags, owner, pending, n);
}

/* The whole of __dlpack_device__. */
static inline PyObject *
dlx_py_dlpack_device(DLDevice device)
{
    return Py_BuildValue("(ii)", (int)device.device_type, (int)device.device_id);
}

/* ---- from_dlpack -------------------------------------------------------------------
 */

/* Claim a capsule: it is renamed and *out holds the tensor, in one step. 0, or -1: then
 * the capsule is as it was, or its deleter has run. */
static inline int
dlx_py_claim(PyObject *capsule, dlx_imported *out)
{
    int error, versioned = PyCapsule_IsValid(capsule, "dltensor_versioned");
    if (!versioned && !PyCapsule_IsValid(capsule, "dltensor")) {
        PyErr_SetString(PyExc_BufferError,
                        "no DLPack capsule, or one that was consumed");
        return -1;
    }
    if (versioned) {
        struct DLManagedTensorVersioned *managed =
            (struct DLManagedTensorVersioned *)PyCapsule_GetPointer(
                capsule, "dltensor_versioned");
        (void)PyCapsule_SetName(capsule, "used_dltensor_versioned");
        error = dlx_import(managed, out);
        if (error != DLX_OK && managed->deleter != NULL) {
            managed->deleter(managed);
        }
    } else {
        DLManagedTensor *managed =
            (DLManagedTensor *)PyCapsule_GetPointer(capsule, "dltensor");
        (void)PyCapsule_SetName(capsule, "used_dltensor");
        error = dlx_import_legacy(managed, out);
        if (error != DLX_OK && managed->deleter != NULL) {
            managed->deleter(managed);
        }
    }
    if (error != DLX_OK) {
        (void)dlx_py_raise(error);
        return -1;
    }
    return 0;
}

/* Take the memory of any producer, ordered into `stream` (where the memory is on a
 * device; CUDA: 1, 2 or a handle). A producer that does not know max_version is asked
 * again without.
 *
 * Owns: *out; dlx_release() it. Orders: `stream` after the producer's work. */
static inline int
dlx_py_import(PyObject *x, uintptr_t stream, dlx_imported *out)
{
    PyObject *device = NULL, *method = NULL, *none = NULL, *kwargs = NULL,
             *capsule = NULL;
    int type, id, status = -1;
    device = PyObject_CallMethod(x, "__dlpack_device__", NULL);
    if (device == NULL || !PyArg_ParseTuple(device, "ii", &type, &id)) {
        goto fail;
    }
    method = PyObject_GetAttrString(x, "__dlpack__");
    none = PyTuple_New(0);
    kwargs = Py_BuildValue("{s:(ii)}", "max_version", DLPACK_MAJOR_VERSION,
                           DLPACK_MINOR_VERSION);
    if (method == NULL || none == NULL || kwargs == NULL) {
        goto fail;
    }
    if (type == kDLCUDA || type == kDLROCM) {
        PyObject *number = PyLong_FromUnsignedLongLong((unsigned long long)stream);
        if (number == NULL || PyDict_SetItemString(kwargs, "stream", number) < 0) {
            Py_XDECREF(number);
            goto fail;
        }
        Py_DECREF(number);
    }
    capsule = PyObject_Call(method, none, kwargs);
    if (capsule == NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        if (PyDict_DelItemString(kwargs, "max_version") == 0) {
            capsule = PyObject_Call(method, none, kwargs);
        }
    }
    if (capsule != NULL) {
        status = dlx_py_claim(capsule, out);
    }
fail:
    Py_XDECREF(device);
    Py_XDECREF(method);
    Py_XDECREF(none);
    Py_XDECREF(kwargs);
    Py_XDECREF(capsule);
    return status;
}

/* ---- The C exchange API ------------------------------------------------------------
 */

#if DLPACK_MINOR_VERSION >= 3

/* A managed_tensor_allocator for libraries without one of their own: host memory. It
 * needs no GIL. */
static inline int
dlx_allocate_host(DLTensor *prototype, struct DLManagedTensorVersioned **out,
                  void *error_ctx,
                  void (*set_error)(void *error_ctx, const char *kind,
                                    const char *message))
{
    DLTensor view = *prototype;
    int64_t size = dlx_size(&view);
    int error;
    view.data = view.device.device_type == kDLCPU && size >= 0
                    ? malloc((size_t)size * ((view.dtype.bits + 7u) / 8u) + 1)
                    : NULL;
    view.strides = NULL;
    view.byte_offset = 0;
    error = view.device.device_type != kDLCPU ? DLX_BAD_DEVICE
            : size < 0                        ? DLX_BAD_SHAPE
            : view.data == NULL ? DLX_NO_MEMORY
                                : dlx_export(&view, 0, view.data, free, out);
    if (error != DLX_OK) {
        free(view.data);
        set_error(error_ctx, error == DLX_NO_MEMORY ? "MemoryError" : "BufferError",
                  dlx_error_text(error));
        return -1;
    }
    return 0;
}

/* A current_work_stream for libraries whose memory is all on the host. */
static inline int
dlx_no_work_stream(DLDeviceType device_type, int32_t device_id, void **out)
{
    (void)device_type;
    (void)device_id;
    *out = NULL;
    return 0;
}

/* Fill in `table` (static storage: it lives until the process ends) and put it on the
 * type as __dlpack_c_exchange_api__.
 *
 * from_object: makes a managed tensor of an object of the type. It may not order, copy
 * or wait: memory with pending work is the consumer's to order, on the stream that
 * work_stream gives. to_object: makes an object of a managed tensor; it takes the
 * tensor only on success. work_stream: the library's current stream in the calling
 * thread, or NULL here for host memory only. 0 or -1. */
static inline int
dlx_py_add_exchange_api(PyTypeObject *type, DLPackExchangeAPI *table,
                        DLPackManagedTensorFromPyObjectNoSync from_object,
                        DLPackManagedTensorToPyObjectNoSync to_object,
                        DLPackCurrentWorkStream work_stream)
{
    PyObject *capsule;
    int status;
    memset(table, 0, sizeof *table);
    table->header.version.major = DLPACK_MAJOR_VERSION;
    table->header.version.minor = DLPACK_MINOR_VERSION;
    table->managed_tensor_allocator = dlx_allocate_host;
    table->managed_tensor_from_py_object_no_sync = from_object;
    table->managed_tensor_to_py_object_no_sync = to_object;
    table->current_work_stream = work_stream != NULL ? work_stream : dlx_no_work_stream;
    capsule = PyCapsule_New(table, "dlpack_exchange_api", NULL);
    if (capsule == NULL) {
        return -1;
    }
    status = PyDict_SetItemString(type->tp_dict, "__dlpack_c_exchange_api__", capsule);
    Py_DECREF(capsule);
    PyType_Modified(type);
    return status;
}

/* from_object of most libraries: export `view`, kept alive by `owner`. 0 or -1. */
static inline int
dlx_py_managed(const DLTensor *view, uint64_t flags, PyObject *owner,
               struct DLManagedTensorVersioned **out)
{
    int error = dlx_export(view, flags, owner, dlx_py_drop, out);
    if (error != DLX_OK) {
        (void)dlx_py_raise(error);
        return -1;
    }
    Py_INCREF(owner);
    return 0;
}

#endif

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* DLEXCHANGE_DLEXCHANGE_PYTHON_H_ */
