/* SPDX-License-Identifier: Apache-2.0
 *
 * dlexchange.h: DLPack for the author of an array library, in one header.
 *
 * C11 and C++11; nothing to link but -ldl on old systems. Include it after Python.h and
 * the last section is there too; without Python.h the rest needs no Python at all. The
 * Python package dlexchange need not be installed where the library runs.
 *
 * HOW TO USE IT
 *
 *   A Python extension writes one method, and has a conforming producer:
 *
 *     static PyObject *
 *     image_dlpack(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject
 * *names)
 *     {
 *         image *im = (image *)self;
 *         DLTensor view = {im->pixels, {kDLCPU, 0}, 2, {kDLUInt, 8, 1},
 *                          im->shape, im->strides, 0};
 *         return dlx_py_dlpack(args, nargs, names, &view, 0, self, NULL, 0);
 *     }
 *
 *   and one to read anybody's array: dlx_py_import(), then dlx_release().
 *
 * WORDS
 *
 *   A *managed tensor* describes memory and has a *deleter*. Whoever holds the managed
 *   tensor calls the deleter exactly once; until then shape, strides and memory stand.
 *   A *stream* is the driver's handle as an integer: CUDA's 1 is the legacy default
 *   stream, 2 the per-thread default stream of the calling thread; HIP's 0 is the
 * default stream. SYCL queues are not handled here. A *push* makes later work of one
 * stream wait for the work now on another; the host does not wait.
 *
 * ERRORS
 *
 *   Functions return DLX_OK (0) or a negative number; dlx_error_text() says what it
 * means and what to do. On failure nothing has been taken and nothing is leaked. The
 *   functions whose names begin with dlx_py_ set a Python exception instead.
 *
 * THREADS AND THE GIL
 *
 *   Nothing here keeps state but the addresses of the driver's functions. Every
 * function may be called from any thread. The dlx_py_ functions need the GIL; the
 * others do not, and dlx_push() should be called without it (dlx_py_dlpack() sees to
 * that). Deleters made here may run on any thread, with or without the GIL.
 */
#ifndef DLEXCHANGE_DLEXCHANGE_H_
#define DLEXCHANGE_DLEXCHANGE_H_

#include "dlpack_abi.h" /* nothing where dlpack.h came first; dlpack.h may also follow */

#if !defined(DLPACK_MAJOR_VERSION) || DLPACK_MAJOR_VERSION != 1
#error \
    "dlexchange.h needs DLPack 1.x: the dlpack.h included before it is another version"
#endif

#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ==== Errors ========================================================================
 */

enum {
    DLX_OK = 0,
    DLX_BAD_SHAPE = -1,   /* ndim, an extent or the size of it all is impossible */
    DLX_BAD_DTYPE = -2,   /* no element type of DLPack 1.3, or lanes other than 1 */
    DLX_BAD_DATA = -3,    /* data is NULL although there are elements */
    DLX_BAD_DEVICE = -4,  /* no streams that this header drives on that device */
    DLX_BAD_STREAM = -5,  /* CUDA's ambiguous 0, or a handle the driver does not know */
    DLX_BAD_VERSION = -6, /* a managed tensor of another major version */
    DLX_NO_MEMORY = -7,
    DLX_NO_DRIVER = -8, /* no driver library, or one that lacks a function */
    DLX_CAPTURE = -9, /* a push between a stream that captures and one that does not */
    DLX_DRIVER = -10, /* a driver call failed */
};

/* One sentence on an error. Static storage. */
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

/* ==== Descriptions ==================================================================
 */

/* Number of elements, or -1 where the shape is impossible or too large to count. */
static inline int64_t
dlx_size(const DLTensor *tensor)
{
    int64_t size = 1, i;
    int empty = 0;
    if (tensor->ndim < 0 || tensor->ndim > 64 ||
        (tensor->ndim > 0 && tensor->shape == NULL)) {
        return -1;
    }
    for (i = 0; i < tensor->ndim; i++) {
        if (tensor->shape[i] < 0) {
            return -1;
        }
        empty = empty || tensor->shape[i] == 0;
    }
    for (i = 0; i < tensor->ndim && !empty; i++) {
        if (size > INT64_MAX / 64 / tensor->shape[i]) {
            return -1;
        }
        size *= tensor->shape[i];
    }
    return empty ? 0 : size;
}

/* Check what can be checked without reading the memory. dlx_export() does so itself.
 * Elements below a byte are refused here: describe them by hand. */
static inline int
dlx_check(const DLTensor *tensor)
{
    static const uint8_t narrowest[] = {8, 8, 16, 64, 16, 64, 8, 8,
                                        8, 8, 8,  8,  8,  8,  8};
    static const uint8_t widest[] = {64, 64, 64, 64, 16, 128, 8, 8,
                                     8,  8,  8,  8,  8,  8,   8};
    unsigned code = tensor->dtype.code, bits = tensor->dtype.bits;
    int64_t size = dlx_size(tensor), reach = 0, i;
    if (size < 0) {
        return DLX_BAD_SHAPE;
    }
    if (code >= sizeof widest || bits < narrowest[code] || bits > widest[code] ||
        (bits & (bits - 1)) != 0 || tensor->dtype.lanes != 1) {
        return DLX_BAD_DTYPE;
    }
    for (i = 0; i < tensor->ndim && tensor->strides != NULL && size > 0; i++) {
        int64_t step = tensor->strides[i], extent = tensor->shape[i] - 1;
        if (extent > 0 &&
            (step > INT64_MAX / 64 / extent || step < INT64_MIN / 64 / extent)) {
            return DLX_BAD_SHAPE;
        }
        reach += (step < 0 ? -step : step) * extent;
        if (reach < 0 || reach > INT64_MAX / 64) {
            return DLX_BAD_SHAPE;
        }
    }
    return size > 0 && tensor->data == NULL ? DLX_BAD_DATA : DLX_OK;
}

/* ==== Export ========================================================================
 */

/* What becomes of the owner when an export ends. It runs on any thread, with or without
 * the GIL, perhaps inside a driver's callback: it must not block, drive or raise. */
typedef void (*dlx_drop)(void *owner);

/* An export: both forms of the struct, and shape and strides behind them. Private. */
typedef struct dlx_exported {
    union {
        struct DLManagedTensorVersioned versioned;
        DLManagedTensor legacy;
    } managed;
    void *owner;
    dlx_drop drop;
} dlx_exported;

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

static inline void
dlx_delete_versioned(struct DLManagedTensorVersioned *self)
{
    dlx_exported_free((dlx_exported *)self->manager_ctx);
}

static inline void
dlx_delete_legacy(DLManagedTensor *self)
{
    dlx_exported_free((dlx_exported *)self->manager_ctx);
}

/* The common part of both forms: the struct, with a copy of shape and strides. Strides
 * that were left out (NULL) become row-major ones; those of extents 1 and of empty
 * tensors mean nothing and become plain; data of an empty tensor becomes NULL. Private.
 */
static inline dlx_exported *
dlx_exported_new(const DLTensor *view, DLTensor *out, void *owner, dlx_drop drop)
{
    size_t ndim = (size_t)view->ndim;
    int64_t step = 1, i, size = dlx_size(view);
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
    for (i = view->ndim - 1; i >= 0; i--) {
        int plain = view->strides == NULL || view->shape[i] == 1 || size == 0;
        out->shape[i] = view->shape[i];
        out->strides[i] = plain ? step : view->strides[i];
        step = (out->strides[i] < 0 ? -out->strides[i] : out->strides[i]) *
               (view->shape[i] > 1 ? view->shape[i] : 1);
    }
    if (size == 0) {
        out->data = NULL;
        out->byte_offset = 0;
    }
    return self;
}

/* Make a versioned managed tensor of `view`.
 *
 * flags: DLPACK_FLAG_BITMASK_READ_ONLY and its like, or 0.
 * Owns: on success *out belongs to the caller, who hands it to a consumer or calls its
 * deleter; `owner` belongs to *out, whose deleter calls drop(owner). `view` is copied,
 * with its shape and strides. On failure `owner` is still the caller's. Orders:
 * nothing. GIL: any. */
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

/* The same in the unversioned form, which has no flags: never for read-only memory. */
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

/* Copy the values of host memory, row-major, to `out` (dlx_size() elements). The tensor
 * must have been checked. */
static inline void
dlx_gather(const DLTensor *tensor, void *out)
{
    int64_t index[64] = {0}, size = dlx_size(tensor), n, i;
    size_t itemsize = tensor->dtype.bits / 8u;
    char *to = (char *)out;
    const char *from = (const char *)tensor->data + tensor->byte_offset;
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

/* ==== Import ========================================================================
 */

/* Memory of somebody else's that we hold. Zero it to have an empty one. */
typedef struct dlx_imported {
    DLTensor tensor; /* shape and strides are the producer's; strides may be NULL only
                        in what is older than DLPack 1.2 (row-major then) */
    uint64_t flags;
    struct DLManagedTensorVersioned *versioned; /* one of these two, or neither */
    DLManagedTensor *legacy;
} dlx_imported;

/* Give the memory back, now: its deleter runs in this call. Where a device may still
 * use the memory, dlx_push() from the stream that used it to the stream the producer
 * works on first. Idempotent. GIL: any; a Python producer's deleter takes it where it
 * needs it. */
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

/* Take a managed tensor, and look at it.
 *
 * Owns: on success `managed` belongs to *out: dlx_release() it. On failure it is still
 * the caller's, who calls its deleter; where the error is DLX_BAD_VERSION nothing but
 * version and deleter may be touched. Orders: nothing. GIL: any. */
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

/* The same for the unversioned form; `flags` is 0. */
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

/* ==== Order =========================================================================
 */

/* The driver's functions; CUDA's status 0 and HIP's are success. Private. */
typedef struct dlx_driver {
    int (*init)(unsigned);
    int (*device_retain)(void **context, int device);
    int (*context_push)(void *context);
    int (*context_pop)(void **context);
    int (*stream_context)(void *stream, void **context);
    int (*device_get)(int *device);
    int (*device_set)(int device);
    int (*is_capturing)(void *stream, int *status);
    int (*event_create)(void **event, unsigned flags);
    int (*event_record)(void *event, void *stream);
    int (*stream_wait)(void *stream, void *event, unsigned flags);
    int (*event_destroy)(void *event);
} dlx_driver;

#define DLX_SYMBOL(field, name)                                  \
    do {                                                         \
        *(void **)(void *)&driver->field = dlsym(library, name); \
        missing = missing || driver->field == NULL;              \
    } while (0)

/* Load a driver. Private. DLEXCHANGE_CUDA_DRIVER names another library, as in the
 * package. Loading twice is harmless: the system counts. */
static inline int
dlx_driver_open(int32_t device_type, dlx_driver *driver)
{
    const char *path = getenv("DLEXCHANGE_CUDA_DRIVER");
    int missing = 0, is_cuda = device_type == kDLCUDA;
    void *library = dlopen(!is_cuda                          ? "libamdhip64.so"
                           : path != NULL && path[0] != '\0' ? path
                                                             : "libcuda.so.1",
                           RTLD_NOW | RTLD_LOCAL);
    memset(driver, 0, sizeof *driver);
    if (library == NULL) {
        return DLX_NO_DRIVER;
    }
    if (is_cuda) {
        DLX_SYMBOL(init, "cuInit");
        DLX_SYMBOL(device_retain, "cuDevicePrimaryCtxRetain");
        DLX_SYMBOL(context_push, "cuCtxPushCurrent_v2");
        DLX_SYMBOL(context_pop, "cuCtxPopCurrent_v2");
        DLX_SYMBOL(stream_context, "cuStreamGetCtx");
        DLX_SYMBOL(is_capturing, "cuStreamIsCapturing");
        DLX_SYMBOL(event_create, "cuEventCreate");
        DLX_SYMBOL(event_record, "cuEventRecord");
        DLX_SYMBOL(stream_wait, "cuStreamWaitEvent");
        DLX_SYMBOL(event_destroy, "cuEventDestroy_v2");
    } else {
        DLX_SYMBOL(init, "hipInit");
        DLX_SYMBOL(device_get, "hipGetDevice");
        DLX_SYMBOL(device_set, "hipSetDevice");
        DLX_SYMBOL(is_capturing, "hipStreamIsCapturing");
        DLX_SYMBOL(event_create, "hipEventCreateWithFlags");
        DLX_SYMBOL(event_record, "hipEventRecord");
        DLX_SYMBOL(stream_wait, "hipStreamWaitEvent");
        DLX_SYMBOL(event_destroy, "hipEventDestroy");
    }
    return missing || driver->init(0) != 0 ? DLX_NO_DRIVER : DLX_OK;
}

/* Make the device of `stream` current for the calls of a push; undone by dlx_leave().
 * The primary context is retained and never given back: it stays with the process, as
 * every runtime keeps it. Private. */
static inline int
dlx_enter(const dlx_driver *driver, int32_t device_id, uintptr_t stream, int *before)
{
    void *primary = NULL, *context = NULL;
    if (driver->context_push == NULL) {
        return driver->device_get(before) != 0 || driver->device_set(device_id) != 0
                   ? DLX_DRIVER
                   : DLX_OK;
    }
    if (driver->device_retain(&primary, device_id) != 0 ||
        driver->context_push(primary) != 0) {
        return DLX_DRIVER;
    }
    if (stream > 2 && driver->stream_context((void *)stream, &context) != 0) {
        (void)driver->context_pop(&context);
        return DLX_BAD_STREAM;
    }
    if (stream > 2 && context != primary) { /* a stream of a context of its own */
        (void)driver->context_pop(&primary);
        return driver->context_push(context) != 0 ? DLX_DRIVER : DLX_OK;
    }
    return DLX_OK;
}

static inline void
dlx_leave(const dlx_driver *driver, int before)
{
    void *context;
    if (driver->context_pop != NULL) {
        (void)driver->context_pop(&context);
    } else {
        (void)driver->device_set(before);
    }
}

/* Make later work of `to` wait for all work now on `from`. Both are streams of `device`
 * (kDLCUDA or kDLROCM). One and the same stream: nothing, no driver call.
 *
 * A capture is asked after first, and nothing is recorded where only one of the two
 * streams captures: a wrong wait would spoil the capture.
 *
 * Orders: `to` after `from`. Blocks: never the host. GIL: release it. The event is made
 * and destroyed in the call; the driver keeps what it needs of it. (The Python package
 * keeps events in a pool instead; use it where the last microsecond counts.) */
static inline int
dlx_push(DLDevice device, uintptr_t from, uintptr_t to)
{
    dlx_driver driver;
    void *event = NULL;
    int error, before = 0, captures_from = 0, captures_to = 0;
    if (device.device_type != kDLCUDA && device.device_type != kDLROCM) {
        return DLX_BAD_DEVICE;
    }
    if (device.device_type == kDLCUDA && (from == 0 || to == 0)) {
        return DLX_BAD_STREAM;
    }
    if (from == to) {
        return DLX_OK;
    }
    error = dlx_driver_open(device.device_type, &driver);
    if (error == DLX_OK) {
        error = dlx_enter(&driver, device.device_id, from > 2 ? from : to, &before);
    }
    if (error != DLX_OK) {
        return error;
    }
    if (driver.is_capturing((void *)from, &captures_from) != 0 ||
        driver.is_capturing((void *)to, &captures_to) != 0) {
        error = DLX_BAD_STREAM; /* or a legacy stream beside a capture: as wrong */
    } else if ((captures_from != 0) != (captures_to != 0)) {
        error = DLX_CAPTURE;
    } else if (driver.event_create(&event, 2 /* timing disabled */) != 0) {
        error = DLX_DRIVER;
    } else {
        if (driver.event_record(event, (void *)from) != 0 ||
            driver.stream_wait((void *)to, event, 0) != 0) {
            error = DLX_DRIVER;
        }
        (void)driver.event_destroy(event);
    }
    dlx_leave(&driver, before);
    return error;
}

#undef DLX_SYMBOL

#ifdef __cplusplus
} /* extern "C" */

/* ==== C++ ===========================================================================
 */

namespace dlx
{

/* Memory of somebody else's, given back with the object. Move-only.
 *
 *     dlx::imported x(managed);               // throws nothing; look at x.error()
 *     use(x->data, x->shape);
 */
class imported
{
   public:
    imported() noexcept : error_(DLX_OK)
    {
        clear();
    }
    /* Takes `managed` also where it cannot be read: its deleter has run then. */
    explicit imported(struct DLManagedTensorVersioned *managed) noexcept
    {
        clear();
        error_ = dlx_import(managed, &held_);
        if (error_ != DLX_OK && managed->deleter != nullptr) {
            managed->deleter(managed);
        }
    }
    imported(imported &&other) noexcept : held_(other.held_), error_(other.error_)
    {
        other.clear();
    }
    imported &operator=(imported &&other) noexcept
    {
        if (this != &other) {
            dlx_release(&held_);
            held_ = other.held_;
            error_ = other.error_;
            other.clear();
        }
        return *this;
    }
    imported(const imported &) = delete;
    imported &operator=(const imported &) = delete;
    ~imported()
    {
        dlx_release(&held_);
    }

    int error() const noexcept
    {
        return error_;
    }
    const DLTensor *operator->() const noexcept
    {
        return &held_.tensor;
    }
    const DLTensor &tensor() const noexcept
    {
        return held_.tensor;
    }
    bool is_read_only() const noexcept
    {
        return (held_.flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0;
    }
    dlx_imported *get() noexcept
    {
        return &held_;
    } /* for dlx_py_import() to fill */

   private:
    void clear() noexcept
    {
        memset(&held_, 0, sizeof held_);
    }
    dlx_imported held_;
    int error_;
};

} /* namespace dlx */
#endif /* __cplusplus */

#ifdef Py_PYTHON_H
#include "dlexchange_python.h"
#endif

#endif /* DLEXCHANGE_DLEXCHANGE_H_ */
