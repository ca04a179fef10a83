/* SPDX-License-Identifier: Apache-2.0
 *
 * The DLPack C exchange API of dlexchange.Tensor: one static table for the life of the
 * process. Its functions order nothing, by the protocol's own rule; so device memory is
 * given out only where there is nothing left to order. Clauses: X01-X23.
 * GIL: held, but for the allocator, which any thread may call.
 */
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "capsule.h"
#include "lease.h"
#include "order.h"
#include "tensor.h"

/* ---- allocator ---- */

typedef struct allocation {
    DLManagedTensorVersioned managed;
    void *memory;
    int64_t dims[]; /* shape, then strides */
} allocation;

static void
allocation_free(DLManagedTensorVersioned *self)
{
    allocation *mine = self->manager_ctx;
    free(mine->memory);
    free(mine);
}

/* Reads dtype, ndim, shape and device of the prototype, and nothing else. */
static int
api_allocate(DLTensor *prototype, DLManagedTensorVersioned **out, void *error_ctx,
             void (*set_error)(void *, const char *, const char *))
{
    allocation *mine = NULL;
    const char *kind = "MemoryError", *message = "out of memory";
    DLTensor plain = {.data = prototype, /* not NULL: there is no memory yet to check */
                      .device = prototype->device,
                      .ndim = prototype->ndim,
                      .dtype = prototype->dtype,
                      .shape = prototype->shape};
    dlx_fault fault = dlx_layout_check(&plain);
    if (fault != DLX_FAULT_NONE || prototype->device.device_type != kDLCPU) {
        kind = "BufferError";
        message = fault != DLX_FAULT_NONE
                      ? dlx_fault_text(fault)
                      : "dlexchange.Tensor allocates host memory only";
        goto fail;
    }
    size_t ndim = (size_t)prototype->ndim;
    mine = dlx_alloc(sizeof *mine + 2 * ndim * sizeof(int64_t));
    if (mine == NULL) {
        goto fail;
    }
    if (ndim > 0) {
        memcpy(mine->dims, prototype->shape, ndim * sizeof(int64_t));
    }
    plain.shape = mine->dims;
    plain.strides = mine->dims + ndim;
    dlx_layout_compact_strides(plain.ndim, plain.shape, plain.strides);
    mine->memory = dlx_alloc_aligned(dlx_layout_nbytes(&plain, false));
    if (mine->memory == NULL) {
        goto fail;
    }
    plain.data = mine->memory;
    mine->managed = (DLManagedTensorVersioned){
        .version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION},
        .manager_ctx = mine,
        .deleter = allocation_free,
        .dl_tensor = plain,
    };
    *out = &mine->managed;
    return 0;

fail:
    free(mine);
    set_error(error_ctx, kind, message);
    return -1;
}

/* ---- exchange ---- */

static int
open_unordered(PyObject *x, dlx_source *source)
{
    dlx_state *state = dlx_the_state;
    if (Py_TYPE(x) != state->tensor_type) {
        PyErr_Format(PyExc_TypeError, "expected dlexchange.Tensor, not %s",
                     Py_TYPE(x)->tp_name);
        return -1;
    }
    if (dlx_tensor_open(state, x, source) < 0) {
        return -1;
    }
    const dlx_lease *lease = ((dlx_tensor *)x)->hold.lease;
    if (lease != NULL && lease->ready != NULL && !dlx_event_is_done(lease->ready)) {
        dlx_source_close(source);
        dlx_raise(state->ExchangeError,
                  "the C exchange API cannot order pending device work: use __dlpack__ "
                  "with a stream, or wait for Tensor.ready_event first");
        return -1;
    }
    return 0;
}

static int
api_from_object(void *object, DLManagedTensorVersioned **out)
{
    dlx_source source;
    if (open_unordered(object, &source) < 0) {
        return -1;
    }
    dlx_block *block =
        dlx_block_new(dlx_the_state, &source.view, source.flags, &source.hold, true);
    if (block == NULL) {
        dlx_source_close(&source);
        return -1;
    }
    *out = &block->managed.versioned;
    return 0;
}

static int
api_to_object(DLManagedTensorVersioned *managed, void **out)
{
    dlx_state *state = dlx_the_state;
    dlx_source source = {.framework = "DLPack", .flags = managed->flags};
    if (managed->version.major != DLPACK_MAJOR_VERSION) {
        dlx_raise(state->ExchangeError, "managed tensor of DLPack version %u.%u",
                  (unsigned)managed->version.major, (unsigned)managed->version.minor);
        return -1;
    }
    source.view = managed->dl_tensor;
    if (dlx_source_check(state, &source) < 0) {
        return -1; /* nothing has been taken */
    }
    dlx_hold_set(&source.hold, DLX_HOLD_VERSIONED, managed);
    *out = dlx_tensor_new(state, &source);
    return *out != NULL ? 0 : -1;
}

static int
api_borrow(void *object, DLTensor *out)
{
    dlx_source source;
    if (open_unordered(object, &source) < 0) {
        return -1;
    }
    *out = source.view; /* of the Tensor itself, which the caller keeps */
    dlx_source_close(&source);
    return 0;
}

static int
api_work_stream(DLDeviceType device_type, int32_t device_id, void **out)
{
    (void)device_type;
    (void)device_id;
    *out = NULL;
    return 0;
}

static const DLPackExchangeAPI api = {
    .header = {.version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION},
               .prev_api = NULL},
    .managed_tensor_allocator = api_allocate,
    .managed_tensor_from_py_object_no_sync = api_from_object,
    .managed_tensor_to_py_object_no_sync = api_to_object,
    .dltensor_from_py_object_no_sync = api_borrow,
    .current_work_stream = api_work_stream,
};

PyObject *
dlx_exchange_api_capsule(void)
{
    return PyCapsule_New((void *)&api, "dlpack_exchange_api", NULL);
}
