/* SPDX-License-Identifier: Apache-2.0
 *
 * The consuming side: reaching any producer's memory. Implementation of source.h. Upper
 * half; GIL held throughout.
 */
#include "adapt.h"
#include "alloc.h"
#include "cai.h"
#include "capsule.h"
#include "consume_dlpack.h"
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

/* Element sizes are powers of two; a complex number needs the alignment of its half. */
bool
dlx_source_is_aligned(const dlx_source *source)
{
    DLDataType dtype = source->view.dtype;
    size_t itemsize = dlx_dtype_itemsize(dtype, dlx_source_is_padded(source));
    size_t needed = dtype.code == kDLComplex ? itemsize / 2 : itemsize;
    return needed <= 1 || dtype.lanes != 1 ||
           ((uintptr_t)dlx_layout_first(&source->view) & (needed - 1)) == 0;
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

/* ---- the ways in ---- */

static int
open_exchange(dlx_state *state, dlx_entry known, PyObject *x, dlx_source *source)
{
    DLManagedTensorVersioned *managed = NULL;
    if (dlx_adapt_ask(known.prepare, x) < 0) {
        return dlx_producer_refused(state, known.framework);
    }
    int status = known.api->managed_tensor_from_py_object_no_sync(x, &managed);
    if (PyErr_Occurred()) {
        return dlx_producer_refused(state, known.framework);
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

/* Read `x` by the route of its type; nothing is ordered yet. */
static int
open_by_route(dlx_state *state, dlx_entry *entry, PyObject *x,
              const dlx_request *request, dlx_source *source)
{
    switch (entry->route) {
        case DLX_ROUTE_TENSOR:
            return dlx_tensor_open(state, x, source);
        case DLX_ROUTE_NUMPY:
            return dlx_numpy_open(state, x, request, source);
        case DLX_ROUTE_TORCH:
            return dlx_torch_open(state, entry->api, x, request, source);
        case DLX_ROUTE_EXCHANGE:
            return open_exchange(state, *entry, x, source);
        case DLX_ROUTE_JAX:
            return dlx_adapt_ask(entry->prepare, x) == 0
                       ? dlx_jax_open(state, x, request, source)
                       : -1;
        case DLX_ROUTE_DLPACK:
            return dlx_dlpack_open(state, *entry, x, request, source);
        case DLX_ROUTE_CAPSULE:
            source->framework = "capsule";
            return dlx_capsule_claim(state, x, source);
        case DLX_ROUTE_CAI:
            return dlx_cai_open(state, x, request, source);
        case DLX_ROUTE_PRODUCER:
            return dlx_producer_open(state, x, request, source);
        case DLX_ROUTE_PREPARE: /* dlx_source_open's */
        case DLX_ROUTE_REFUSE:
        case DLX_ROUTE_NONE:
        case DLX_ROUTE_UNKNOWN:
            break;
    }
    /* Wrappers often set this one on the instance. */
    return entry->prepare == NULL && has_cuda_array_interface(x)
               ? dlx_cai_open(state, x, request, source)
               : refuse_type(state, entry->prepare, x);
}

int
dlx_source_open(dlx_state *state, PyObject *x, const dlx_request *request,
                dlx_source *source)
{
    dlx_entry *entry = dlx_entry_of(state, x);
    if (entry == NULL) {
        return -1;
    }
    source->hold.kind = DLX_HOLD_NOTHING;
    source->hold.lease = NULL;
    source->order.is_active = false;
    source->route = entry->route;
    if (entry->route == DLX_ROUTE_PREPARE) {
        return open_prepared(state, entry, x, request, source); /* ordered in there */
    }
    int status = open_by_route(state, entry, x, request, source);
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
    }
    if (source->order.is_active) { /* it failed, or is host memory after all */
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
