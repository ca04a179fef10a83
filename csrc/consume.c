/* SPDX-License-Identifier: Apache-2.0
 *
 * The consuming side: reaching any producer's memory. Implementation of source.h. Upper
 * half; GIL held throughout.
 */
#include <string.h>

#include "adapt.h"
#include "alloc.h"
#include "cai.h"
#include "capsule.h"
#include "jax.h"
#include "numpy.h"
#include "order.h"
#include "producer.h"
#include "tensor.h"
#include "torch.h"

/* ---- what is refused ---- */

int
dlx_source_refuse(dlx_state *state, const char *framework, dlx_fault fault,
                  const DLTensor *tensor)
{
    dlx_raise(state->ExchangeError,
              "%s tensor cannot be exchanged: %s (dtype code %d, bits %d, lanes %d; "
              "ndim %d; device %d:%d)",
              framework, dlx_fault_text(fault), (int)tensor->dtype.code,
              (int)tensor->dtype.bits, (int)tensor->dtype.lanes, (int)tensor->ndim,
              (int)tensor->device.device_type, (int)tensor->device.device_id);
    return -1;
}

int
dlx_source_check(dlx_state *state, dlx_source *source)
{
    DLTensor *view = &source->view;
    dlx_fault fault = dlx_layout_check(view);
    if (fault != DLX_FAULT_NONE) {
        return dlx_source_refuse(state, source->framework, fault, view);
    }
    if (view->strides == NULL) {
        dlx_layout_compact_strides(view->ndim, view->shape, source->strides);
        view->strides = source->strides;
    }
    return 0;
}

/* ---- copies ---- */

#define LARGE_COPY (1 << 16)

int
dlx_source_copy(dlx_state *state, dlx_source *source)
{
    bool padded = dlx_source_is_padded(source);
    bool plain = true;
    dlx_fault fault = dlx_layout_check(&source->view); /* views may be absurdly large */
    if (fault != DLX_FAULT_NONE) {
        return dlx_source_refuse(state, source->framework, fault, &source->view);
    }
    size_t nbytes = dlx_layout_nbytes(&source->view, padded);
    if (!dlx_device_is_host(source->view.device.device_type)) {
        dlx_raise(state->CopyError, "device memory cannot be copied on the host");
        return -1;
    }
    void *memory = dlx_alloc_aligned(nbytes);
    if (memory == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    dlx_source_own_dims(source); /* they may go while the GIL is away */
    if (nbytes >= LARGE_COPY) {
        Py_BEGIN_ALLOW_THREADS
        plain = dlx_layout_gather(&source->view, padded, memory);
        Py_END_ALLOW_THREADS
    } else {
        plain = dlx_layout_gather(&source->view, padded, memory);
    }
    if (!plain) {
        free(memory);
        dlx_raise(state->CopyError,
                  "packed elements below a byte can be copied only where they are "
                  "contiguous");
        return -1;
    }
    dlx_source_close(source);
    dlx_layout_compact_strides(source->view.ndim, source->shape, source->strides);
    source->view.data = memory;
    source->view.byte_offset = 0;
    source->view.device = (DLDevice){kDLCPU, 0};
    source->flags &= ~(uint64_t)DLPACK_FLAG_BITMASK_READ_ONLY;
    source->flags |= DLPACK_FLAG_BITMASK_IS_COPIED;
    dlx_hold_set(&source->hold, DLX_HOLD_MEMORY, memory);
    state->counts.copies++;
    return 0;
}

int
dlx_source_copy_because(dlx_state *state, dlx_source *source,
                        const dlx_request *request, const char *why)
{
    if (request->copy == 0) {
        dlx_raise(
            state->CopyError,
            "%s: this %s tensor would have to be copied, and copy=False forbids it",
            why, source->framework);
        return -1;
    }
    return dlx_source_copy(state, source);
}

/* Turn a producer's BufferError into an ExchangeError, which is one, that names it; any
 * other exception of a producer stays as it is. Always -1. Clauses: K14, R16. */
static int
producer_refused(dlx_state *state, const char *framework)
{
    if (PyErr_ExceptionMatches(PyExc_BufferError) &&
        !PyErr_ExceptionMatches(state->ExchangeError)) {
        dlx_raise(state->ExchangeError,
                  "%s refused to export this tensor; see the cause above", framework);
    }
    return -1;
}

/* ---- __dlpack__ ---- */

/* Give up the keywords of ours that, by the pending TypeError, the producer does not
 * know: those it names, or all where it names none. False, and the error stays, where
 * it says that something went wrong inside the producer: it came out of a frame of the
 * producer's and does not speak of our keywords. Clauses: V09, V10. */
static bool
give_up_unknown_keywords(bool *max_version, bool *copy_false)
{
    PyObject *type, *value, *traceback, *text = NULL;
    if (!PyErr_ExceptionMatches(PyExc_TypeError) || !(*max_version || *copy_false)) {
        return false;
    }
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    text = value != NULL ? PyObject_Str(value) : NULL;
    const char *utf8 = text != NULL ? PyUnicode_AsUTF8(text) : NULL;
    const char *says = utf8 != NULL ? utf8 : "";
    bool max = *max_version && strstr(says, "'max_version'") != NULL;
    bool copy = *copy_false && strstr(says, "'copy'") != NULL;
    bool ours = traceback == NULL ||
                (strstr(says, "keyword argument") != NULL &&
                 (max || copy || strstr(says, "no keyword arguments") != NULL));
    Py_XDECREF(text);
    PyErr_Clear();
    if (!ours) {
        PyErr_Restore(type, value, traceback);
        return false;
    }
    *max_version = *max_version && !max && copy;
    *copy_false = *copy_false && !copy && max;
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return true;
}

static PyObject *
call_dlpack_with(dlx_state *state, const dlx_entry *known, PyObject *x,
                 bool max_version, PyObject *stream, bool copy_false)
{
    PyObject *args[4] = {x};
    PyObject *names = NULL, *capsule = NULL;
    Py_ssize_t n = 0;
    if (max_version && stream == NULL && !copy_false) { /* the common call */
        args[1] = state->max_version;
        if (known->dlpack != NULL) {
            return PyObject_Vectorcall(known->dlpack, args, 1, state->kw_max_version);
        }
        return PyObject_VectorcallMethod(state->names.__dlpack__, args,
                                         1 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                         state->kw_max_version);
    }
    names = PyTuple_New(max_version + (stream != NULL) + copy_false);
    if (names == NULL) {
        return NULL;
    }
    if (max_version) {
        args[1 + n] = state->max_version;
        PyTuple_SET_ITEM(names, n++, Py_NewRef(state->names.max_version));
    }
    if (stream != NULL) {
        args[1 + n] = stream;
        PyTuple_SET_ITEM(names, n++, Py_NewRef(state->names.stream));
    }
    if (copy_false) {
        args[1 + n] = Py_False;
        PyTuple_SET_ITEM(names, n++, Py_NewRef(state->names.copy));
    }
    capsule = PyObject_VectorcallMethod(state->names.__dlpack__, args,
                                        1 | PY_VECTORCALL_ARGUMENTS_OFFSET, names);
    Py_DECREF(names);
    return capsule;
}

/* Call the producer with the keywords it knows. copy=False is a promise we ask for:
 * where the producer does not know the word it cannot be had. */
static DLX_GIVE PyObject *
call_dlpack(dlx_state *state, const dlx_entry *known, PyObject *x, PyObject *stream,
            const dlx_request *request)
{
    bool copy_false = request->copy == 0;
    bool max_version = !known->no_max_version;
    PyObject *capsule =
        call_dlpack_with(state, known, x, max_version, stream, copy_false);
    while (capsule == NULL && give_up_unknown_keywords(&max_version, &copy_false)) {
        capsule = call_dlpack_with(state, known, x, max_version, stream, copy_false);
    }
    if (capsule != NULL && !max_version) {
        dlx_entry *entry = &state->cache[dlx_entry_slot(known->type)];
        if (entry->type == known->type && entry->tag == known->tag) {
            entry->no_max_version = true; /* not asked again while the type stands */
        }
    }
    if (capsule != NULL && !PyCapsule_CheckExact(capsule)) {
        dlx_raise(state->ExchangeError, "%s.__dlpack__ returned %s, not a capsule",
                  Py_TYPE(x)->tp_name, Py_TYPE(capsule)->tp_name);
        Py_CLEAR(capsule);
    }
    return capsule;
}

/* Ask the producer for its device. 0, or -1 with an error set. Clauses: D01, R03. */
static int
ask_device(dlx_state *state, PyObject *x, DLDevice *device)
{
    int status = -1;
    long type, id;
    PyObject *pair = PyObject_CallMethodNoArgs(x, state->names.__dlpack_device__);
    if (pair == NULL) {
        goto fail;
    }
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        dlx_raise(state->ExchangeError,
                  "%s.__dlpack_device__ returned %R, not (device_type, device_id)",
                  Py_TYPE(x)->tp_name, pair);
        goto fail;
    }
    type = PyLong_AsLong(PyTuple_GET_ITEM(pair, 0));
    id = PyLong_AsLong(PyTuple_GET_ITEM(pair, 1));
    if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError) &&
        !PyErr_ExceptionMatches(PyExc_OverflowError)) {
        goto fail; /* not about the numbers: an interrupt, a bug */
    }
    if (PyErr_Occurred() || type != (int32_t)type || id != (int32_t)id) {
        dlx_raise(state->ExchangeError,
                  "%s.__dlpack_device__ returned %R, not two integers of 32 bits",
                  Py_TYPE(x)->tp_name, pair);
        goto fail;
    }
    device->device_type = (DLDeviceType)type;
    device->device_id = (int32_t)id;
    status = 0;
fail:
    Py_XDECREF(pair);
    return status;
}

static int
open_dlpack(dlx_state *state, dlx_entry known, PyObject *x, const dlx_request *request,
            dlx_source *source)
{
    PyObject *stream = NULL, *capsule = NULL, *resolved = NULL;
    DLDevice device = {kDLCPU, 0};
    int status = -1;

    if (known.torch_guards) {
        int readable = dlx_torch_may_read_by_methods(state, x);
        if (readable == 0) {
            x = resolved = dlx_torch_resolve(state, x, request);
        }
        if (readable < 0 || x == NULL) {
            goto fail;
        }
    }
    if (dlx_adapt_ask(known.prepare, x) < 0) {
        goto fail;
    }
    if (!known.ignores_stream && ask_device(state, x, &device) < 0) {
        goto fail;
    }
    if (device.device_type != kDLCPU &&
        dlx_order_before_dlpack(state, &known, x, device, request, source, &stream) <
            0) {
        goto fail;
    }
    capsule = call_dlpack(state, &known, x, stream, request);
    if (capsule == NULL) {
        goto fail;
    }
    source->framework = known.framework;
    if (dlx_capsule_claim(state, capsule, source) < 0) {
        goto fail;
    }
    if (known.immutable) {
        source->flags |= DLPACK_FLAG_BITMASK_READ_ONLY;
    }
    if (resolved != NULL) {
        source->flags |= DLPACK_FLAG_BITMASK_IS_COPIED;
    }
    status = 0;
fail:
    Py_XDECREF(resolved);
    Py_XDECREF(stream);
    Py_XDECREF(capsule);
    return status == 0 ? 0 : producer_refused(state, known.framework);
}

static int
open_exchange(dlx_state *state, dlx_entry known, PyObject *x, dlx_source *source)
{
    DLManagedTensorVersioned *managed = NULL;
    if (dlx_adapt_ask(known.prepare, x) < 0) {
        return producer_refused(state, known.framework);
    }
    int status = known.api->managed_tensor_from_py_object_no_sync(x, &managed);
    if (PyErr_Occurred()) {
        return producer_refused(state, known.framework);
    }
    if (status != 0 || managed == NULL) {
        dlx_raise(
            state->ExchangeError,
            "the C exchange table of %s gave no managed tensor and no error: report "
            "it there",
            known.framework);
        return -1;
    }
    source->framework = known.framework;
    if (dlx_managed_take(state, managed, source) < 0) {
        return -1;
    }
    if (known.immutable) {
        source->flags |= DLPACK_FLAG_BITMASK_READ_ONLY;
    }
    return 0;
}

static int
open_prepared(dlx_state *state, const dlx_entry *entry, PyObject *x,
              const dlx_request *request, dlx_source *source)
{
    const char *framework = entry->framework;
    bool immutable = entry->immutable;
    PyObject *prepare = Py_NewRef(entry->prepare); /* the call may evict the entry */
    PyObject *producer = PyObject_CallOneArg(prepare, x);
    Py_DECREF(prepare);
    if (producer == NULL) {
        return -1;
    }
    int status = -1;
    if (Py_TYPE(producer) == Py_TYPE(x)) {
        dlx_raise(state->ExchangeError, "the adapter of %s returned what it was given",
                  framework);
    } else {
        status = dlx_source_open(state, producer, request, source);
    }
    Py_DECREF(producer);
    if (status == 0) {
        source->framework = framework;
        if (immutable) {
            source->flags |= DLPACK_FLAG_BITMASK_READ_ONLY;
        }
    }
    return status;
}

static bool
has_cuda_array_interface(PyObject *x)
{
    PyObject *found = PyObject_GetAttrString(x, "__cuda_array_interface__");
    if (found == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(found);
    return found != NULL;
}

static int
refuse_type(dlx_state *state, PyObject *reason, PyObject *x)
{
    if (reason != NULL) { /* an adapter's */
        dlx_raise(state->ExchangeError, "%U", reason);
    } else {
        PyErr_Format(state->NotATensorError,
                     "%s is not a tensor that can be exchanged: it has neither "
                     "__dlpack__ nor another protocol that dlexchange reads",
                     Py_TYPE(x)->tp_name);
    }
    return -1;
}

int
dlx_source_open(dlx_state *state, PyObject *x, const dlx_request *request,
                dlx_source *source)
{
    int status = -1;
    dlx_entry *entry = dlx_entry_of(state, x);
    if (entry == NULL) {
        return -1;
    }
    source->hold.kind = DLX_HOLD_NOTHING;
    source->hold.lease = NULL;
    source->order.is_active = false;
    source->route = entry->route;
    switch (entry->route) {
        case DLX_ROUTE_TENSOR:
            status = dlx_tensor_open(state, x, source);
            break;
        case DLX_ROUTE_NUMPY:
            status = dlx_numpy_open(state, x, request, source);
            break;
        case DLX_ROUTE_TORCH:
            status = dlx_torch_open(state, entry->api, x, request, source);
            break;
        case DLX_ROUTE_EXCHANGE:
            status = open_exchange(state, *entry, x, source);
            break;
        case DLX_ROUTE_JAX:
            status = dlx_jax_open(state, x, request, source);
            break;
        case DLX_ROUTE_DLPACK:
            status = open_dlpack(state, *entry, x, request, source);
            break;
        case DLX_ROUTE_CAPSULE:
            source->framework = "capsule";
            status = dlx_capsule_claim(state, x, source);
            break;
        case DLX_ROUTE_CAI:
            status = dlx_cai_open(state, x, request, source);
            break;
        case DLX_ROUTE_PRODUCER:
            status = dlx_producer_open(state, x, request, source);
            break;
        case DLX_ROUTE_PREPARE:
            return open_prepared(state, entry, x, request,
                                 source); /* ordered in there */
        case DLX_ROUTE_REFUSE:
        case DLX_ROUTE_NONE:
        case DLX_ROUTE_UNKNOWN:
            /* Wrappers often set this one on the instance. */
            if (entry->prepare != NULL) {
                status = refuse_type(state, entry->prepare, x);
            } else {
                status = has_cuda_array_interface(x)
                             ? dlx_cai_open(state, x, request, source)
                             : refuse_type(state, NULL, x);
            }
            break;
    }
    if (status == 0 && request->copy == 0 &&
        (source->flags & DLPACK_FLAG_BITMASK_IS_COPIED)) {
        dlx_source_close(source);
        dlx_raise(state->CopyError, "%s made a copy although copy=False was asked for",
                  source->framework);
        return -1;
    }
    if (status == 0 && (source->view.device.device_type != kDLCPU || request->stream)) {
        entry = dlx_entry_of(state, x); /* calls into Python may have evicted it */
        status =
            entry != NULL ? dlx_order_source(state, entry, x, request, source) : -1;
        if (status < 0) {
            dlx_source_close(source);
        }
    } else if (status < 0) {
        dlx_order_clear(&source->order);
    }
    if (status == 0 && request->copy == 1 &&
        source->view.device.device_type == kDLCPU &&
        !(source->flags & DLPACK_FLAG_BITMASK_IS_COPIED)) {
        status = dlx_source_copy(state, source);
        if (status < 0) {
            dlx_source_close(source);
        }
    }
    return status;
}
