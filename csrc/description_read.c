/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading the fields of a Description. Every fault raises here, and names the field.
 * GIL: held.
 */
#include "description.h"

#include <stddef.h>
#include <string.h>

#include "alloc.h"
#include "layout.h"
#include "order.h"

/* ---- faults ---- */

/* Say which field is wrong; what was raised so far becomes the cause. Always -1. */
static int
wrong_field(dlx_state *state, const char *field, PyObject *value, const char *why)
{
    if (PyErr_Occurred() && (!PyErr_ExceptionMatches(PyExc_Exception) ||
                             PyErr_ExceptionMatches(PyExc_MemoryError))) {
        return -1;
    }
    dlx_raise(state->ExchangeError, "Description.%s is %R: %s", field, value, why);
    return -1;
}

static int
check(dlx_state *state, const dlx_description *self, PyObject *const *fields)
{
    dlx_fault fault = dlx_layout_check(&self->view);
    const char *why = dlx_fault_text(fault);
    switch (fault) {
        case DLX_FAULT_NONE:
            return 0;
        case DLX_FAULT_DTYPE_CODE:
        case DLX_FAULT_DTYPE_BITS:
        case DLX_FAULT_DTYPE_LANES:
            return wrong_field(state, "dtype", fields[DLX_FIELD_DTYPE], why);
        case DLX_FAULT_DEVICE:
            return wrong_field(state, "device", fields[DLX_FIELD_DEVICE], why);
        case DLX_FAULT_DATA_NULL:
            return wrong_field(state, "data_ptr", fields[DLX_FIELD_DATA_PTR], why);
        case DLX_FAULT_OVERFLOW: {
            DLTensor compact = self->view;
            compact.strides = NULL;
            if (dlx_layout_check(&compact) == DLX_FAULT_NONE) {
                return wrong_field(state, "strides", fields[DLX_FIELD_STRIDES], why);
            }
            break;
        }
        default:
            break;
    }
    return wrong_field(state, "shape", fields[DLX_FIELD_SHAPE], why);
}

/* What is left to check where the layout has been checked before. */
static int
check_data(dlx_state *state, const dlx_description *self, PyObject *const *fields)
{
    return self->view.data == NULL && !self->is_empty ? check(state, self, fields) : 0;
}

/* ---- fields ---- */

static int
read_address(dlx_state *state, PyObject *value, void **out)
{
    PyObject *number = value == Py_None ? PyLong_FromLong(0) : PyNumber_Index(value);
    if (number != NULL) {
        *out = (void *)(uintptr_t)PyLong_AsUnsignedLongLong(number);
        Py_DECREF(number);
    }
    return PyErr_Occurred()
               ? wrong_field(state, "data_ptr", value,
                             "expected an address, an integer from 0 to 2^64 - 1")
               : 0;
}

/* A list as a tuple, since reading an item may change the list; else the same. */
static PyObject *
unchanging(PyObject *value)
{
    return PyList_Check(value) ? PyList_AsTuple(value) : Py_NewRef(value);
}

/* Read a tuple or list of `n` integers. */
static int
read_integers(PyObject *value, Py_ssize_t n, int64_t *out)
{
    PyObject *items = unchanging(value);
    int status = items != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; status == 0 && i < n; i++) {
        out[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(items, i));
        status = out[i] == -1 && PyErr_Occurred() ? -1 : 0;
    }
    Py_XDECREF(items);
    return status;
}

static int
read_dims(dlx_state *state, dlx_description *self, PyObject *shape, PyObject *strides)
{
    static const char *const wanted = "expected a tuple of integers of 64 bits";
    if (!PyTuple_Check(shape) && !PyList_Check(shape)) {
        return wrong_field(state, "shape", shape, wanted);
    }
    Py_ssize_t ndim = Py_SIZE(shape);
    if (ndim > DLX_MAX_NDIM) {
        return wrong_field(state, "shape", shape, dlx_fault_text(DLX_FAULT_NDIM));
    }
    int64_t *dims = self->dims;
    if (ndim > DLX_INLINE_NDIM) {
        dims = self->far_dims = dlx_alloc(2 * (size_t)ndim * sizeof *dims);
        if (dims == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    self->view.ndim = (int32_t)ndim;
    self->view.shape = dims;
    self->view.strides = NULL;
    if (read_integers(shape, ndim, dims) < 0) {
        return wrong_field(state, "shape", shape, wanted);
    }
    if (strides == NULL || strides == Py_None) {
        return 0;
    }
    if ((!PyTuple_Check(strides) && !PyList_Check(strides)) ||
        Py_SIZE(strides) != ndim) {
        return wrong_field(
            state, "strides", strides,
            "expected as many steps as shape has extents, in elements (not "
            "bytes), or None for row-major memory");
    }
    self->view.strides = dims + ndim;
    return read_integers(strides, ndim, dims + ndim) < 0
               ? wrong_field(state, "strides", strides, wanted)
               : 0;
}

/* What `type.of(spec)` says; kept for specs of the few types that stand for themselves.
 */
static DLX_GIVE PyObject *
named(PyObject *known, PyObject *type, PyObject *spec)
{
    bool keep = PyUnicode_CheckExact(spec) || PyTuple_CheckExact(spec) ||
                Py_TYPE(spec) == (PyTypeObject *)type;
    PyObject *found = keep ? PyDict_GetItemWithError(known, spec) : NULL;
    if (found != NULL || PyErr_Occurred()) {
        return Py_XNewRef(found);
    }
    found = PyObject_CallMethod(type, "of", "(O)", spec);
    if (found != NULL && keep && PyDict_SetItem(known, spec, found) < 0) {
        Py_CLEAR(found);
    }
    return found;
}

static int
read_dtype(dlx_state *state, PyObject *spec, DLDataType *out)
{
    PyObject *dtype = named(state->known_dtypes, state->make_dtype, spec);
    if (dtype == NULL) {
        return wrong_field(
            state, "dtype", spec,
            "expected a name such as \"float32\", a DType, or (code, bits)");
    }
    long code = PyLong_AsLong(PyTuple_GET_ITEM(dtype, 0));
    long bits = PyLong_AsLong(PyTuple_GET_ITEM(dtype, 1));
    long lanes = PyLong_AsLong(PyTuple_GET_ITEM(dtype, 2));
    Py_DECREF(dtype);
    if (PyErr_Occurred() || code != (uint8_t)code || bits != (uint8_t)bits ||
        lanes != (uint16_t)lanes) {
        return wrong_field(state, "dtype", spec, "code and bits have 8 bits, lanes 16");
    }
    *out = (DLDataType){(uint8_t)code, (uint8_t)bits, (uint16_t)lanes};
    return 0;
}

static int
read_device(dlx_state *state, PyObject *spec, DLDevice *out)
{
    *out = (DLDevice){kDLCPU, 0};
    if (spec == NULL || spec == Py_None) {
        return 0;
    }
    PyObject *device = named(state->known_devices, state->make_device, spec);
    if (device == NULL) {
        return wrong_field(state, "device", spec,
                           "expected \"cpu\", \"cuda:0\", a Device or a DLPack pair");
    }
    out->device_type = (DLDeviceType)PyLong_AsLong(PyTuple_GET_ITEM(device, 0));
    long id = PyLong_AsLong(PyTuple_GET_ITEM(device, 1));
    Py_DECREF(device);
    out->device_id = (int32_t)id;
    bool counted = out->device_type != kDLCPU && out->device_type != kDLCUDAHost &&
                   out->device_type != kDLROCMHost &&
                   out->device_type != kDLCUDAManaged;
    if (PyErr_Occurred() || id < 0 || id != (int32_t)id || (!counted && id != 0)) {
        return wrong_field(
            state, "device", spec,
            "device_id must be 0 for host, pinned and managed memory, and "
            "not negative");
    }
    return 0;
}

/* ---- streams ---- */

/* Read one stream of the field. -1 is true in `vouched`. */
static int
read_stream(dlx_state *state, const char *field, PyObject *value, DLDevice on,
            bool *vouched, dlx_stream_ref *out)
{
    if (dlx_stream_read(state, value, on, vouched, out) == 0) {
        return 0;
    }
    if (PyErr_ExceptionMatches(state->StreamError) ||
        PyErr_ExceptionMatches(PyExc_TypeError)) {
        dlx_raise(
            state->StreamError,
            "Description.%s is %R, which is no stream of device (%d, %d): see the "
            "cause above",
            field, value, (int)on.device_type, (int)on.device_id);
    }
    return -1;
}

static int
read_each(dlx_state *state, dlx_description *self, DLDevice on, PyObject *const *items,
          Py_ssize_t n)
{
    bool vouched = false;
    self->streams = dlx_alloc((size_t)(n > 0 ? n : 1) * sizeof *self->streams);
    if (self->streams == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        dlx_stream_ref *next = &self->streams[self->n_streams];
        if (read_stream(state, "stream", items[i], on, &vouched, next) < 0) {
            return -1;
        }
        if (vouched && n > 1) {
            dlx_raise(state->StreamError,
                      "Description.stream names -1 (complete) beside other streams");
            return -1;
        }
        self->n_streams += !vouched;
    }
    self->complete = self->n_streams == 0;
    return 0;
}

static int
read_streams(dlx_state *state, dlx_description *self, PyObject *value)
{
    DLDevice on = dlx_order_device(self->view.device);
    if (on.device_type == 0) {
        if (value == NULL || value == Py_None ||
            (PyLong_Check(value) && PyLong_AsLong(value) == -1)) {
            self->complete = true;
            return 0;
        }
        PyErr_Clear();
        dlx_raise(
            state->StreamError,
            "Description.stream is %R, but memory of device (%d, %d) has no stream "
            "that dlexchange drives: leave it out",
            value, (int)self->view.device.device_type,
            (int)self->view.device.device_id);
        return -1;
    }
    if (value == NULL || value == Py_None) {
        dlx_raise(
            state->StreamError,
            "Description.stream is missing: name the stream, or the streams, with "
            "work pending on this memory, or pass stream=-1 if it is complete");
        return -1;
    }
    PyObject *said = unchanging(value);
    if (said == NULL) {
        return -1;
    }
    bool several = PyTuple_Check(said);
    int status =
        read_each(state, self, on, several ? PySequence_Fast_ITEMS(said) : &said,
                  several ? PyTuple_GET_SIZE(said) : 1);
    Py_DECREF(said);
    return status;
}

static int
read_allocation(dlx_state *state, dlx_description *self, PyObject *value)
{
    DLDevice on = dlx_order_device(self->view.device);
    bool vouched = false;
    if (value == NULL || value == Py_None) {
        return 0;
    }
    if (read_stream(state, "allocation_stream", value, on, &vouched,
                    &self->allocation) < 0) {
        return -1;
    }
    if (vouched) {
        dlx_raise(state->StreamError, "Description.allocation_stream cannot be -1");
        return -1;
    }
    return 0;
}

/* ---- layout ---- */

void
dlx_description_forget_layout(dlx_description *self)
{
    if (self->layout_is_known) {
        self->layout_is_known = false; /* first: a deallocator may run anything */
        for (int i = 0; i < DLX_N_LAYOUT_FIELDS; i++) {
            Py_CLEAR(self->layout_said[i]);
        }
    }
}

/* The description that had this memory before was made of the very same objects. */
static bool
has_layout(const dlx_description *self, PyObject *const *fields)
{
    return self->layout_is_known &&
           memcmp(self->layout_said, fields, sizeof self->layout_said) == 0;
}

/* An object whose meaning cannot change: None, a name, or a tuple of plain integers. */
static bool
is_immutable(dlx_state *state, PyObject *value)
{
    bool is = value == NULL || value == Py_None || PyUnicode_CheckExact(value);
    if (is || (PyObject *)Py_TYPE(value) == state->make_dtype ||
        (PyObject *)Py_TYPE(value) == state->make_device) {
        return true;
    }
    is = PyTuple_CheckExact(value);
    for (Py_ssize_t i = 0; is && i < PyTuple_GET_SIZE(value); i++) {
        is = PyLong_CheckExact(PyTuple_GET_ITEM(value, i));
    }
    return is;
}

static void
remember_layout(dlx_state *state, dlx_description *self, PyObject *const *fields)
{
    for (int i = 0; i < DLX_N_LAYOUT_FIELDS; i++) {
        if (self->far_dims != NULL || !is_immutable(state, fields[i])) {
            return;
        }
    }
    for (int i = 0; i < DLX_N_LAYOUT_FIELDS; i++) {
        self->layout_said[i] = Py_XNewRef(fields[i]);
    }
    self->layout_is_known = true;
}

static int
read_layout(dlx_state *state, dlx_description *self, PyObject *const *fields)
{
    dlx_description_forget_layout(self);
    if (read_dtype(state, fields[DLX_FIELD_DTYPE], &self->view.dtype) < 0 ||
        read_device(state, fields[DLX_FIELD_DEVICE], &self->view.device) < 0 ||
        read_dims(state, self, fields[DLX_FIELD_SHAPE], fields[DLX_FIELD_STRIDES]) <
            0 ||
        check(state, self, fields) < 0) {
        return -1;
    }
    if (self->view.strides == NULL) {
        self->view.strides = self->view.shape + self->view.ndim;
        dlx_layout_compact_strides(self->view.ndim, self->view.shape,
                                   self->view.strides);
    }
    self->is_empty = dlx_layout_size(&self->view) == 0;
    remember_layout(state, self, fields);
    return 0;
}

/* ---- all of it ---- */

int
dlx_description_read(dlx_state *state, dlx_description *self, PyObject *const *fields)
{
    PyObject *readonly = fields[DLX_FIELD_READONLY], *owner = fields[DLX_FIELD_OWNER];
    int is_read_only = readonly != NULL ? PyObject_IsTrue(readonly) : 0;
    if (is_read_only < 0 ||
        read_address(state, fields[DLX_FIELD_DATA_PTR], &self->view.data) < 0) {
        return -1;
    }
    int status = has_layout(self, fields) ? check_data(state, self, fields)
                                          : read_layout(state, self, fields);
    if (status < 0 || read_streams(state, self, fields[DLX_FIELD_STREAM]) < 0 ||
        read_allocation(state, self, fields[DLX_FIELD_ALLOCATION_STREAM]) < 0) {
        return -1;
    }
    if (self->is_empty) {
        self->view.data = NULL; /* as DLPack and the CUDA Array Interface ask */
    }
    self->flags = is_read_only ? DLPACK_FLAG_BITMASK_READ_ONLY : 0;
    self->owner = owner != Py_None ? Py_XNewRef(owner) : NULL;
    return 0;
}
