/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of torch.h.
 *
 * The C exchange API of torch exports conjugated and negated tensors as their raw
 * memory. Asking is_conj() and is_neg() costs more than the export. Both are bits of
 * one word of the TensorImpl, whose place differs between releases: it is found once,
 * by comparing tensors whose state is known, and used only when exactly one word
 * explains all of them.
 */
#include "torch.h"

#include <malloc.h>
#include <string.h>

#include "block.h"
#include "numpy.h"
#include "produce.h"

static struct {
    bool located;
    Py_ssize_t impl_at;     /* in the Python object: the pointer to the TensorImpl */
    Py_ssize_t keys_at;     /* in the TensorImpl: the word with both bits */
    uint64_t lazy_bits;     /* conj | neg */
    Py_ssize_t autograd_at; /* in the TensorImpl: NULL where autograd knows nothing */
} guard;

static PyObject *pinned_on; /* NULL: this torch has no GPU */

static inline const char *
impl_of(PyObject *x)
{
    return *(const char **)((char *)x + guard.impl_at);
}

static int
truth_of_method(PyObject *x, const char *name)
{
    PyObject *answer = PyObject_CallMethod(x, name, NULL);
    int truth = answer != NULL ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    return truth;
}

static int
refuse_grad(dlx_state *state, PyObject *x)
{
    PyObject *answer = PyObject_GetAttrString(x, "requires_grad");
    int requires_grad = answer != NULL ? PyObject_IsTrue(answer) : -1;
    Py_XDECREF(answer);
    if (requires_grad > 0) {
        dlx_raise(state->ExchangeError,
                  "torch tensor requires grad: autograd would not see what another "
                  "framework does with it; pass x.detach()");
    }
    return requires_grad == 0 ? 0 : -1;
}

int
dlx_torch_may_read_by_methods(dlx_state *state, PyObject *x)
{
    int conj = truth_of_method(x, "is_conj");
    int neg = conj < 0 ? -1 : truth_of_method(x, "is_neg");
    if (neg < 0 || refuse_grad(state, x) < 0) {
        return -1;
    }
    return !conj && !neg;
}

/* 1: its memory is its values; 0: it is lazy; -1: refused, error set. */
static inline int
may_read(dlx_state *state, PyObject *x)
{
    if (!guard.located) {
        return dlx_torch_may_read_by_methods(state, x);
    }
    const char *impl = impl_of(x);
    if (*(void *const *)(impl + guard.autograd_at) != NULL &&
        refuse_grad(state, x) < 0) {
        return -1;
    }
    return (*(const uint64_t *)(impl + guard.keys_at) & guard.lazy_bits) == 0;
}

PyObject *
dlx_torch_resolve(dlx_state *state, PyObject *x, const dlx_request *request)
{
    if (request->copy != 1) {
        dlx_raise(
            request->copy == 0 ? state->CopyError : state->ExchangeError,
            "torch tensor is a lazy conjugate or negative view: its memory is not "
            "its values; pass copy=True, or x.resolve_conj().resolve_neg()");
        return NULL;
    }
    PyObject *half = PyObject_CallMethod(x, "resolve_conj", NULL);
    PyObject *plain =
        half != NULL ? PyObject_CallMethod(half, "resolve_neg", NULL) : NULL;
    int readable = plain != NULL ? dlx_torch_may_read_by_methods(state, plain) : -1;
    if (readable == 0 || plain == x) {
        dlx_raise(
            state->ExchangeError,
            "torch tensor is a lazy view that its own resolve_conj and resolve_neg "
            "do not resolve; pass a plain tensor");
        readable = -1;
    }
    if (readable < 0) {
        Py_CLEAR(plain);
    } else {
        state->counts.copies++;
    }
    Py_XDECREF(half);
    return plain;
}

static int
open_resolved(dlx_state *state, const DLPackExchangeAPI *api, PyObject *x,
              const dlx_request *request, dlx_source *source)
{
    PyObject *plain = dlx_torch_resolve(state, x, request);
    int status =
        plain != NULL ? dlx_torch_open(state, api, plain, request, source) : -1;
    if (status == 0) {
        source->flags |= DLPACK_FLAG_BITMASK_IS_COPIED;
    }
    Py_XDECREF(plain);
    return status;
}

PyObject *
dlx_torch_watch_pinned(PyObject *module, PyObject *callable)
{
    (void)module;
    Py_XSETREF(pinned_on, Py_NewRef(callable));
    Py_RETURN_NONE;
}

int
dlx_torch_note_pinned(PyObject *x, const dlx_request *request, dlx_source *source)
{
    int type, id, status = -1;
    if (pinned_on == NULL || request->consumer == DLX_TO_TORCH ||
        source->view.device.device_type != kDLCPU) {
        return 0;
    }
    PyObject *device = PyObject_CallOneArg(pinned_on, x);
    if (device == NULL) {
        return -1;
    }
    if (device == Py_None) {
        status = 0;
    } else if (PyArg_ParseTuple(device, "ii", &type, &id)) {
        source->view.device = (DLDevice){(DLDeviceType)type, id};
        status = 0;
    }
    Py_DECREF(device);
    return status;
}

/* torch raises RuntimeError for sparse, meta, quantised and other tensors that have no
 * strided memory; the protocol's word is BufferError. */
static int
refuse_as_torch_did(dlx_state *state)
{
    if (PyErr_ExceptionMatches(PyExc_Exception) &&
        !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        dlx_raise(state->ExchangeError,
                  "torch cannot describe this tensor as strided memory (sparse, meta, "
                  "quantised and wrapped tensors have none); see the cause above");
    }
    return -1;
}

int
dlx_torch_open(dlx_state *state, const DLPackExchangeAPI *api, PyObject *x,
               const dlx_request *request, dlx_source *source)
{
    source->framework = "torch";
    int readable = may_read(state, x);
    if (readable <= 0) {
        return readable < 0 ? -1 : open_resolved(state, api, x, request, source);
    }
    if (request->managed || api->dltensor_from_py_object_no_sync == NULL) {
        DLManagedTensorVersioned *managed;
        if (api->managed_tensor_from_py_object_no_sync(x, &managed) != 0) {
            return refuse_as_torch_did(state);
        }
        dlx_hold_set(&source->hold, DLX_HOLD_VERSIONED, managed);
        dlx_view_copy(&source->view, &managed->dl_tensor);
        source->flags = managed->flags;
    } else {
        if (api->dltensor_from_py_object_no_sync(x, &source->view) != 0) {
            return refuse_as_torch_did(state);
        }
        dlx_hold_set_object(&source->hold, x);
        source->flags = 0;
    }
    if (source->view.ndim > DLX_MAX_NDIM) { /* torch has no limit of its own */
        dlx_source_close(source);
        return dlx_source_refuse(state, "torch", DLX_FAULT_NDIM, &source->view);
    }
    if (source->view.data == NULL && dlx_layout_size(&source->view) != 0) {
        dlx_source_close(source);
        dlx_raise(
            state->ExchangeError,
            "torch tensor has elements but no memory (a zero tensor of autograd, or "
            "freed storage); make it real first, for example with x.clone()");
        return -1;
    }
    if (dlx_torch_note_pinned(x, request, source) < 0) {
        dlx_source_close(source);
        return -1;
    }
    return 0;
}

/* torch's own managed tensor goes back as it came. */
static PyObject *
import_own(const DLPackExchangeAPI *api, dlx_source *source)
{
    void *result = NULL;
    int status = api->managed_tensor_to_py_object_no_sync(source->hold.what, &result);
    if (status != 0) {
        return NULL;
    }
    source->hold.kind = DLX_HOLD_NOTHING;
    return result;
}

PyObject *
dlx_torch_make(dlx_state *state, const dlx_request *request, dlx_source *source)
{
    const DLPackExchangeAPI *api = state->torch_api;
    PyObject *result = NULL;
    if (source->route == DLX_ROUTE_TORCH && source->hold.kind == DLX_HOLD_VERSIONED &&
        source->hold.lease == NULL) {
        result = import_own(api, source);
    } else {
        if (dlx_layout_has_negative_stride(&source->view) &&
            dlx_source_copy_because(state, source, request,
                                    "torch has no negative strides") < 0) {
            return NULL;
        }
        if (!dlx_source_is_aligned(source) &&
            dlx_source_copy_because(state, source, request,
                                    "torch needs memory aligned to its elements") < 0) {
            return NULL;
        }
        if (dlx_source_is_read_only(source)) {
            dlx_source_own_dims(source); /* a warning may run anything */
            if (dlx_warn_read_only(state, source->framework, "torch", 1) < 0) {
                return NULL;
            }
        }
        result = dlx_exchange_import(state, api, source);
    }
    if (result != NULL && request->copy == 1 &&
        source->view.device.device_type != kDLCPU &&
        !(source->flags & DLPACK_FLAG_BITMASK_IS_COPIED)) { /* torch's own, on C */
        Py_SETREF(result, PyObject_CallMethod(
                              state->adapters, "copy_torch", "OO", result,
                              request->stream != NULL ? request->stream : Py_None));
        state->counts.copies++;
    }
    if (result == NULL) {
        dlx_consumer_refused(state, "torch", source);
    }
    return result;
}

PyObject *
dlx_torch_of_numpy(dlx_state *state, PyObject *array)
{
    dlx_hold hold = {.kind = DLX_HOLD_NOTHING};
    dlx_block *block =
        state->torch_api != NULL ? dlx_numpy_short_block(state, array) : NULL;
    if (block == NULL) {
        return NULL;
    }
    PyObject *tensor = dlx_block_import(state, state->torch_api, block, &hold);
    if (tensor == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_Clear();
    }
    dlx_hold_end(&hold);
    return tensor;
}

/* ---- finding the guards' words ---- */

typedef struct specimen {
    PyObject *tensor;
    const char *impl;
    int conj, neg, autograd;
} specimen;

/* A view has autograd state or not as torch likes. */
#define AUTOGRAD_UNKNOWN 2
#define MAX_SPECIMENS 64
#define MAX_WORDS 32 /* a TensorImpl is about 25 words */

static bool
bit_explains(const specimen *all, Py_ssize_t n, Py_ssize_t word, int bit, bool conj)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        uint64_t value;
        memcpy(&value, all[i].impl + 8 * word, 8);
        if ((int)(value >> bit & 1) != (conj ? all[i].conj : all[i].neg)) {
            return false;
        }
    }
    return true;
}

static bool
null_explains(const specimen *all, Py_ssize_t n, Py_ssize_t word)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        uint64_t value;
        memcpy(&value, all[i].impl + 8 * word, 8);
        if (all[i].autograd != AUTOGRAD_UNKNOWN && (value != 0) != all[i].autograd) {
            return false;
        }
    }
    return true;
}

/* Where every specimen's object holds the pointer that torch calls _cdata. */
static Py_ssize_t
find_impl(const specimen *all, Py_ssize_t n)
{
    Py_ssize_t end = Py_TYPE(all[0].tensor)->tp_basicsize - (Py_ssize_t)sizeof(void *);
    for (Py_ssize_t at = (Py_ssize_t)sizeof(PyObject); at <= end; at += 8) {
        Py_ssize_t same = 0;
        while (same < n &&
               *(const char **)((char *)all[same].tensor + at) == all[same].impl) {
            same++;
        }
        if (same == n) {
            return at;
        }
    }
    return -1;
}

static void
locate(const specimen *all, Py_ssize_t n)
{
    Py_ssize_t words = MAX_WORDS, found_keys = 0, found_autograd = 0;
    for (Py_ssize_t i = 0; i < n; i++) { /* never read past what malloc gave */
        Py_ssize_t usable = (Py_ssize_t)malloc_usable_size((void *)all[i].impl) / 8;
        words = usable < words ? usable : words;
    }
    guard.impl_at = find_impl(all, n);
    for (Py_ssize_t word = 1; word < words; word++) {
        int conj_bits = 0, neg_bits = 0;
        uint64_t bits = 0;
        for (int bit = 0; bit < 64; bit++) {
            bool conj = bit_explains(all, n, word, bit, true);
            bool neg = bit_explains(all, n, word, bit, false);
            conj_bits += conj;
            neg_bits += neg;
            bits |= conj || neg ? UINT64_C(1) << bit : 0;
        }
        if (conj_bits == 1 && neg_bits == 1) {
            guard.keys_at = 8 * word;
            guard.lazy_bits = bits;
            found_keys++;
        }
        if (null_explains(all, n, word)) {
            guard.autograd_at = 8 * word;
            found_autograd++;
        }
    }
    guard.located = guard.impl_at > 0 && found_keys == 1 && found_autograd == 1;
}

PyObject *
dlx_torch_locate(PyObject *module, PyObject *specimens)
{
    (void)module;
    specimen all[MAX_SPECIMENS];
    Py_ssize_t n = PyList_Check(specimens) ? PyList_Size(specimens) : -1;
    if (n < 1 || n > MAX_SPECIMENS) {
        PyErr_SetString(PyExc_TypeError, "expected a list of 1 to 64 specimens");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        unsigned long long cdata;
        if (!PyArg_ParseTuple(PyList_GetItem(specimens, i), "OKppi", &all[i].tensor,
                              &cdata, &all[i].conj, &all[i].neg, &all[i].autograd)) {
            return NULL;
        }
        all[i].impl = (const char *)(uintptr_t)cdata;
    }
    guard.located = false;
    locate(all, n);
    return PyBool_FromLong(guard.located);
}
