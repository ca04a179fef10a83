/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of dlexchange_python.h: reading producers, the C exchange API.
 * GIL: held, but for the allocator.
 */
#ifndef DLEXCHANGE_IMPL_PYTHON_IMPORT_H_
#define DLEXCHANGE_IMPL_PYTHON_IMPORT_H_

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
    if (type == kDLCUDA || type == kDLROCM || type == kDLCUDAManaged) {
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

#if DLPACK_MINOR_VERSION >= 3

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

static inline int
dlx_no_work_stream(DLDeviceType device_type, int32_t device_id, void **out)
{
    (void)device_type;
    (void)device_id;
    *out = NULL;
    return 0;
}

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

#endif /* DLEXCHANGE_IMPL_PYTHON_IMPORT_H_ */
