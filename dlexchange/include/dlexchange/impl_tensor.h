/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of dlexchange.h: descriptions, export, import. No Python, no driver.
 */
#ifndef DLEXCHANGE_IMPL_TENSOR_H_
#define DLEXCHANGE_IMPL_TENSOR_H_

static inline const char *
dlx_error_text(int error)
{
    switch (error) {
        case DLX_OK:
            return "nothing is wrong";
        case DLX_BAD_SHAPE:
            return "shape: ndim must be 0 to 64, no extent negative, and the size countable";
        case DLX_BAD_DTYPE:
            return "dtype: code, bits and lanes must be a type of DLPack 1.3 with one lane";
        case DLX_BAD_DATA:
            return "data: NULL although the tensor has elements";
        case DLX_BAD_DEVICE:
            return "device: no streams that dlexchange.h drives (CUDA and ROCm only)";
        case DLX_BAD_STREAM:
            return "stream: on CUDA pass 1 (legacy), 2 (per-thread) or a handle, never 0";
        case DLX_BAD_VERSION:
            return "version: only DLPack 1.x can be read; ask for max_version=(1, 3)";
        case DLX_NO_MEMORY:
            return "out of memory";
        case DLX_NO_DRIVER:
            return "no usable driver library (libcuda.so.1 or libamdhip64.so)";
        case DLX_CAPTURE:
            return "one of the streams is capturing a graph and the other is not";
        default:
            return "a driver call failed";
    }
}

static inline int64_t
dlx_size(const DLTensor *tensor)
{
    int64_t size = 1, i;
    int empty = 0, wrong = 0;
    if (tensor->ndim < 0 || tensor->ndim > 64 ||
        (tensor->ndim > 0 && tensor->shape == NULL)) {
        return -1;
    }
    for (i = 0; i < tensor->ndim; i++) {
        int64_t extent = tensor->shape[i];
        if (extent < 0) {
            return -1;
        }
        empty |= extent == 0;
        wrong |= __builtin_mul_overflow(size, extent, &size);
    }
    return empty ? 0 : wrong || size > INT64_MAX / 128 ? -1 : size;
}

/* The reach of the strides: from the lowest to the highest element, counted in
 * elements. `before` elements of it lie below element zero. 0 or DLX_BAD_SHAPE.
 * Private. */
static inline int
dlx_reach(const DLTensor *tensor, int64_t *reach, int64_t *before)
{
    int64_t i;
    int wrong = 0;
    *reach = *before = 0;
    for (i = 0; i < tensor->ndim; i++) {
        int64_t step = tensor->strides[i], way;
        wrong |= __builtin_mul_overflow(step, tensor->shape[i] - 1, &way);
        wrong |= way == INT64_MIN;
        way = way == INT64_MIN ? 0 : way;
        *before += way < 0 ? -way : 0;
        wrong |= __builtin_add_overflow(*reach, way < 0 ? -way : way, reach);
    }
    return wrong || *reach > INT64_MAX / 128 ? DLX_BAD_SHAPE : DLX_OK;
}

static inline int
dlx_check(const DLTensor *tensor)
{
    static const uint8_t narrowest[] = {8, 8, 16, 64, 16, 64, 8, 8,
                                        8, 8, 8,  8,  8,  8,  8};
    static const uint8_t widest[] = {64, 64, 64, 64, 16, 128, 8, 8,
                                     8,  8,  8,  8,  8,  8,   8};
    unsigned code = tensor->dtype.code, bits = tensor->dtype.bits;
    int64_t size = dlx_size(tensor), reach, before;
    if (size < 0) {
        return DLX_BAD_SHAPE;
    }
    if (code >= sizeof widest || bits < narrowest[code] || bits > widest[code] ||
        (bits & (bits - 1)) != 0 || tensor->dtype.lanes != 1) {
        return DLX_BAD_DTYPE;
    }
    if (size > 0 && tensor->strides != NULL &&
        dlx_reach(tensor, &reach, &before) != DLX_OK) {
        return DLX_BAD_SHAPE;
    }
    return size > 0 && tensor->data == NULL ? DLX_BAD_DATA : DLX_OK;
}

/* An export: both forms of the struct, with shape and strides behind it. Private. */
typedef struct dlx_exported {
    union {
        struct DLManagedTensorVersioned versioned;
        DLManagedTensor legacy;
    } managed;
    void *owner;
    dlx_drop drop;
} dlx_exported;

/* End an export: the memory of the struct first, then the owner. Private. */
static inline void
dlx_exported_free(dlx_exported *exported)
{
    void *owner = exported->owner;
    dlx_drop drop = exported->drop;
    free(exported);
    if (drop != NULL) {
        drop(owner);
    }
}

/* The deleters of both forms. GIL: any, any thread. Private. */
static inline void
dlx_delete_versioned(struct DLManagedTensorVersioned *self)
{
    dlx_exported_free((dlx_exported *)self->manager_ctx);
}

/* Private. */
static inline void
dlx_delete_legacy(DLManagedTensor *self)
{
    dlx_exported_free((dlx_exported *)self->manager_ctx);
}

/* The common part of both forms: the struct, with a copy of shape and strides. Strides
 * that were left out become row-major ones; those of extents 1 and of empty tensors
 * mean nothing and become plain, because some consumers still look at them; data of an
 * empty tensor becomes NULL, as DLPack asks. NULL without memory. Private. */
static inline dlx_exported *
dlx_exported_new(const DLTensor *view, DLTensor *out, void *owner, dlx_drop drop)
{
    size_t ndim = (size_t)view->ndim;
    int64_t step = 1, i;
    int empty = 0;
    dlx_exported *self =
        (dlx_exported *)malloc(sizeof(dlx_exported) + 2 * ndim * sizeof(int64_t));
    if (self == NULL) {
        return NULL;
    }
    self->owner = owner;
    self->drop = drop;
    *out = *view;
    out->shape = (int64_t *)(void *)(self + 1);
    out->strides = out->shape + ndim;
    for (i = 0; i < view->ndim; i++) {
        out->shape[i] = view->shape[i];
        empty |= view->shape[i] == 0;
    }
    for (i = view->ndim - 1; i >= 0; i--) {
        int plain = view->strides == NULL || view->shape[i] == 1 || empty;
        out->strides[i] = plain ? step : view->strides[i];
        step = (out->strides[i] < 0 ? -out->strides[i] : out->strides[i]) *
               (view->shape[i] > 1 ? view->shape[i] : 1);
    }
    if (empty) {
        out->data = NULL;
        out->byte_offset = 0;
    }
    return self;
}

static inline int
dlx_export(const DLTensor *view, uint64_t flags, void *owner, dlx_drop drop,
           struct DLManagedTensorVersioned **out)
{
    DLTensor tensor;
    dlx_exported *self;
    int error = dlx_check(view);
    if (error != DLX_OK) {
        return error;
    }
    self = dlx_exported_new(view, &tensor, owner, drop);
    if (self == NULL) {
        return DLX_NO_MEMORY;
    }
    self->managed.versioned.version.major = DLPACK_MAJOR_VERSION;
    self->managed.versioned.version.minor = DLPACK_MINOR_VERSION;
    self->managed.versioned.manager_ctx = self;
    self->managed.versioned.deleter = dlx_delete_versioned;
    self->managed.versioned.flags = flags;
    self->managed.versioned.dl_tensor = tensor;
    *out = &self->managed.versioned;
    return DLX_OK;
}

static inline int
dlx_export_legacy(const DLTensor *view, void *owner, dlx_drop drop,
                  DLManagedTensor **out)
{
    DLTensor tensor;
    dlx_exported *self;
    int error = dlx_check(view);
    if (error != DLX_OK) {
        return error;
    }
    self = dlx_exported_new(view, &tensor, owner, drop);
    if (self == NULL) {
        return DLX_NO_MEMORY;
    }
    self->managed.legacy.manager_ctx = self;
    self->managed.legacy.deleter = dlx_delete_legacy;
    self->managed.legacy.dl_tensor = tensor;
    *out = &self->managed.legacy;
    return DLX_OK;
}

static inline void
dlx_gather(const DLTensor *tensor, void *out)
{
    int64_t index[64] = {0}, size = dlx_size(tensor), n, i;
    size_t itemsize = tensor->dtype.bits / 8u;
    char *to = (char *)out;
    const char *from = (const char *)tensor->data + tensor->byte_offset;
    if (tensor->strides == NULL && size > 0) {
        memcpy(out, from, (size_t)size * itemsize);
        return;
    }
    for (n = 0; n < size; n++) {
        memcpy(to, from, itemsize);
        to += itemsize;
        for (i = tensor->ndim - 1; i >= 0; i--) {
            int64_t step = tensor->strides[i] * (int64_t)itemsize;
            from += step;
            if (++index[i] < tensor->shape[i]) {
                break;
            }
            from -= step * tensor->shape[i];
            index[i] = 0;
        }
    }
}

static inline void
dlx_release(dlx_imported *self)
{
    struct DLManagedTensorVersioned *versioned = self->versioned;
    DLManagedTensor *legacy = self->legacy;
    memset(self, 0, sizeof *self);
    if (versioned != NULL && versioned->deleter != NULL) {
        versioned->deleter(versioned);
    }
    if (legacy != NULL && legacy->deleter != NULL) {
        legacy->deleter(legacy);
    }
}

static inline int
dlx_import(struct DLManagedTensorVersioned *managed, dlx_imported *out)
{
    int error;
    if (managed->version.major != DLPACK_MAJOR_VERSION) {
        return DLX_BAD_VERSION;
    }
    error = dlx_check(&managed->dl_tensor);
    if (error == DLX_OK) {
        memset(out, 0, sizeof *out);
        out->tensor = managed->dl_tensor;
        out->flags = managed->flags;
        out->versioned = managed;
    }
    return error;
}

static inline int
dlx_import_legacy(DLManagedTensor *managed, dlx_imported *out)
{
    int error = dlx_check(&managed->dl_tensor);
    if (error == DLX_OK) {
        memset(out, 0, sizeof *out);
        out->tensor = managed->dl_tensor;
        out->legacy = managed;
    }
    return error;
}

#endif /* DLEXCHANGE_IMPL_TENSOR_H_ */
