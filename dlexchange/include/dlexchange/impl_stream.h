/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of dlexchange.h: the push, and the way to the host. The driver is
 * loaded with dlopen, never linked. No Python.
 */
#ifndef DLEXCHANGE_IMPL_STREAM_H_
#define DLEXCHANGE_IMPL_STREAM_H_

/* The driver's calls that are used here: field, parameters, name in CUDA, name in HIP
 * (empty where that driver does without). A status is a plain number: 0 is success for
 * both; 906 is a legacy stream beside a capture. Private.
 */
#define DLX_DRIVER_CALLS(X)                                                          \
    X(init, (unsigned), "cuInit", "hipInit")                                         \
    X(context_retain, (void **, int), "cuDevicePrimaryCtxRetain", "")                \
    X(context_push, (void *), "cuCtxPushCurrent_v2", "")                             \
    X(context_pop, (void **), "cuCtxPopCurrent_v2", "")                              \
    X(stream_context, (void *, void **), "cuStreamGetCtx", "")                       \
    X(device_get, (int *), "", "hipGetDevice")                                       \
    X(device_set, (int), "", "hipSetDevice")                                         \
    X(capture_info, (void *, int *, unsigned long long *, void *, void *, void *),   \
      "cuStreamGetCaptureInfo_v2", "hipStreamGetCaptureInfo_v2")                     \
    X(event_create, (void **, unsigned), "cuEventCreate", "hipEventCreateWithFlags") \
    X(event_record, (void *, void *), "cuEventRecord", "hipEventRecord")             \
    X(event_destroy, (void *), "cuEventDestroy_v2", "hipEventDestroy")               \
    X(stream_wait, (void *, void *, unsigned), "cuStreamWaitEvent",                  \
      "hipStreamWaitEvent")                                                          \
    X(stream_create, (void **, unsigned), "cuStreamCreate",                          \
      "hipStreamCreateWithFlags")                                                    \
    X(stream_synchronize, (void *), "cuStreamSynchronize", "hipStreamSynchronize")   \
    X(stream_destroy, (void *), "cuStreamDestroy_v2", "hipStreamDestroy")            \
    X(copy_to_host, (void *, uintptr_t, size_t, void *), "cuMemcpyDtoHAsync_v2",     \
      "hipMemcpyDtoHAsync")

typedef struct dlx_driver {
#define DLX_FIELD(field, parameters, cuda, hip) int(*field) parameters;
    DLX_DRIVER_CALLS(DLX_FIELD)
#undef DLX_FIELD
} dlx_driver;

/* Find a driver's library, in the way of the package: DLEXCHANGE_CUDA_DRIVER names
 * another for CUDA (the simulated driver of dlexchange.testing); one that is loaded
 * already comes first, because a second copy of a runtime would not know its streams.
 * Loading twice is harmless: the system counts. Private. */
static inline void *
dlx_library(int32_t device_type)
{
    static const char *const names[] = {"libcuda.so.1", "libcuda.so",
                                        "libamdhip64.so.7", "libamdhip64.so.6",
                                        "libamdhip64.so"};
    const char *path = getenv("DLEXCHANGE_CUDA_DRIVER");
    int is_cuda = device_type == kDLCUDA, pass, i;
    void *library = NULL;
    if (is_cuda && path != NULL && path[0] != '\0') {
        return dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    for (pass = 0; pass < 2; pass++) {
        for (i = is_cuda ? 0 : 2; i < (is_cuda ? 2 : 5) && library == NULL; i++) {
            library =
                dlopen(names[i], RTLD_NOW | RTLD_LOCAL | (pass == 0 ? RTLD_NOLOAD : 0));
        }
    }
    return library;
}

/* Load a driver, and initialise it. GIL: any; it may take long the first time.
 * Private. */
static inline int
dlx_driver_open(int32_t device_type, dlx_driver *driver)
{
    const char *name;
    void *found, *library = dlx_library(device_type);
    int missing = 0, is_cuda = device_type == kDLCUDA;
    memset(driver, 0, sizeof *driver);
    if (library == NULL) {
        return DLX_NO_DRIVER;
    }
#define DLX_LOAD(field, parameters, cuda, hip)             \
    name = is_cuda ? cuda : hip;                           \
    found = name[0] != '\0' ? dlsym(library, name) : NULL; \
    memcpy((void *)&driver->field, &found, sizeof found);  \
    missing |= name[0] != '\0' && found == NULL;
    DLX_DRIVER_CALLS(DLX_LOAD)
#undef DLX_LOAD
    return missing || driver->init(0) != 0 ? DLX_NO_DRIVER : DLX_OK;
}

/* Make the device current for the calls to come: the context of `stream` where that is
 * a handle, else the device's primary one. Undone by dlx_leave(), on every way out. The
 * primary context is retained and never given back: it stays with the process, as every
 * runtime keeps it. Private. */
static inline int
dlx_enter(const dlx_driver *driver, int32_t device_id, uintptr_t stream, int *before)
{
    void *primary = NULL, *context = NULL;
    if (driver->context_push == NULL) {
        return driver->device_get(before) != 0 || driver->device_set(device_id) != 0
                   ? DLX_DRIVER
                   : DLX_OK;
    }
    if (driver->context_retain(&primary, device_id) != 0 ||
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

/* Private. */
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

/* The number of the capture that a stream takes part in, 0 for none. A capture that is
 * broken already is DLX_CAPTURE, and so is the legacy stream beside one. Private. */
static inline int
dlx_capture_of(const dlx_driver *driver, uintptr_t stream, unsigned long long *capture)
{
    int state = 0, code;
    *capture = 0;
    code = driver->capture_info((void *)stream, &state, capture, NULL, NULL, NULL);
    if (code != 0) {
        return code == 906 ? DLX_CAPTURE : DLX_BAD_STREAM;
    }
    if (state == 0) {
        *capture = 0;
    }
    return state > 1 ? DLX_CAPTURE : DLX_OK;
}

/* One event through both streams; the driver keeps what it needs of it. Private. */
static inline int
dlx_push_event(const dlx_driver *driver, uintptr_t from, uintptr_t to)
{
    unsigned long long capture_from = 0, capture_to = 0;
    void *event = NULL;
    int error = dlx_capture_of(driver, from, &capture_from);
    if (error == DLX_OK) {
        error = dlx_capture_of(driver, to, &capture_to);
    }
    if (error == DLX_OK && capture_from != capture_to) {
        error = DLX_CAPTURE;
    }
    if (error == DLX_OK && driver->event_create(&event, 2 /* no timing */) != 0) {
        error = DLX_DRIVER;
    }
    if (error != DLX_OK) {
        return error;
    }
    if (driver->event_record(event, (void *)from) != 0 ||
        driver->stream_wait((void *)to, event, 0) != 0) {
        error = DLX_DRIVER;
    }
    (void)driver->event_destroy(event);
    return error;
}

/* The package's pool where dlx_py_share_pool() has found it, else NULL. One variable
 * per shared library, not per file that includes this. Private. */
__attribute__((weak, visibility("hidden"))) const dlx_pool *dlx_the_pool;

/* Private. */
static inline const dlx_pool *
dlx_pool_get(void)
{
    return __atomic_load_n(&dlx_the_pool, __ATOMIC_ACQUIRE);
}

/* A push through the pool, with its answer in our numbers. Private. */
static inline int
dlx_push_pooled(const dlx_pool *pool, DLDevice device, uintptr_t from, uintptr_t to)
{
    switch (pool->push((int32_t)device.device_type, device.device_id, from, to)) {
        case DLX_POOL_OK:
            return DLX_OK;
        case DLX_POOL_NO_DRIVER:
            return DLX_NO_DRIVER;
        case DLX_POOL_BAD_STREAM:
            return DLX_BAD_STREAM;
        case DLX_POOL_CAPTURE:
            return DLX_CAPTURE;
        case DLX_POOL_NO_MEMORY:
            return DLX_NO_MEMORY;
        default:
            return DLX_DRIVER;
    }
}

static inline int
dlx_push(DLDevice device, uintptr_t from, uintptr_t to)
{
    dlx_driver driver;
    const dlx_pool *pool = dlx_pool_get();
    int error, before = 0;
    if (device.device_type != kDLCUDA && device.device_type != kDLROCM) {
        return DLX_BAD_DEVICE;
    }
    if (device.device_type == kDLCUDA && (from == 0 || to == 0)) {
        return DLX_BAD_STREAM;
    }
    if (from == to) {
        return DLX_OK;
    }
    if (pool != NULL) {
        return dlx_push_pooled(pool, device, from, to);
    }
    error = dlx_driver_open((int32_t)device.device_type, &driver);
    if (error == DLX_OK) {
        error = dlx_enter(&driver, device.device_id, from > 2 ? from : to, &before);
    }
    if (error == DLX_OK) {
        error = dlx_push_event(&driver, from, to);
        dlx_leave(&driver, before);
    }
    return error;
}

static inline DLDevice
dlx_streams_of(DLDevice device)
{
    DLDevice on = device;
    if (device.device_type == kDLCUDAHost || device.device_type == kDLCUDAManaged) {
        on.device_type = kDLCUDA;
    } else if (device.device_type == kDLROCMHost) {
        on.device_type = kDLROCM;
    } else if (device.device_type != kDLCUDA && device.device_type != kDLROCM) {
        on.device_type = (DLDeviceType)0;
    }
    return on;
}

static inline int
dlx_is_host(DLDevice device)
{
    return device.device_type == kDLCPU || device.device_type == kDLCUDAHost ||
           device.device_type == kDLCUDAManaged || device.device_type == kDLROCMHost;
}

/* On a stream of its own behind the pending ones: copy `nbytes` (0: nothing), and wait.
 * It waits also where something failed, so that no copy is still writing. Private. */
static inline int
dlx_fetch(DLDevice on, const uintptr_t *pending, size_t n, void *to, uintptr_t from,
          size_t nbytes)
{
    dlx_driver driver;
    void *stream = NULL;
    size_t i;
    int before = 0, error = dlx_driver_open((int32_t)on.device_type, &driver);
    if (error == DLX_OK) {
        error = dlx_enter(&driver, on.device_id, 0, &before);
    }
    if (error != DLX_OK) {
        return error;
    }
    if (driver.stream_create(&stream, 1 /* non-blocking */) != 0) {
        dlx_leave(&driver, before);
        return DLX_DRIVER;
    }
    for (i = 0; i < n && error == DLX_OK; i++) {
        error = dlx_push(on, pending[i], (uintptr_t)stream);
    }
    if (error == DLX_OK && nbytes > 0 &&
        driver.copy_to_host(to, from, nbytes, stream) != 0) {
        error = DLX_DRIVER;
    }
    if (driver.stream_synchronize(stream) != 0 && error == DLX_OK) {
        error = DLX_DRIVER;
    }
    (void)driver.stream_destroy(stream);
    dlx_leave(&driver, before);
    return error;
}

static inline int
dlx_wait(DLDevice device, const uintptr_t *pending, size_t n)
{
    DLDevice on = dlx_streams_of(device);
    return n == 0 || on.device_type == 0 ? DLX_OK
                                         : dlx_fetch(on, pending, n, NULL, 0, 0);
}

static inline int
dlx_copy_to_host(const DLTensor *view, const uintptr_t *pending, size_t n, void *out)
{
    DLTensor near = *view;
    DLDevice on = dlx_streams_of(view->device);
    int64_t reach = 0, before = 0;
    size_t itemsize = view->dtype.bits / 8u, span;
    char *memory;
    int error = dlx_check(view);
    if (error == DLX_OK && dlx_is_host(view->device)) {
        error = dlx_wait(view->device, pending, n);
        if (error == DLX_OK) {
            dlx_gather(view, out);
        }
        return error;
    }
    if (error == DLX_OK && on.device_type == 0) {
        error = DLX_BAD_DEVICE;
    }
    if (error != DLX_OK || dlx_size(view) == 0) {
        return error;
    }
    if (view->strides != NULL) {
        (void)dlx_reach(view, &reach, &before);
    } else {
        reach = dlx_size(view) - 1;
    }
    span = (size_t)(reach + 1) * itemsize;
    memory = (char *)malloc(span);
    if (memory == NULL) {
        return DLX_NO_MEMORY;
    }
    near.data = memory + (size_t)before * itemsize;
    near.byte_offset = 0;
    error = dlx_fetch(on, pending, n, memory,
                      (uintptr_t)view->data + (uintptr_t)view->byte_offset -
                          (uintptr_t)before * itemsize,
                      span);
    if (error == DLX_OK) {
        dlx_gather(&near, out);
    }
    free(memory);
    return error;
}

#undef DLX_DRIVER_CALLS

#endif /* DLEXCHANGE_IMPL_STREAM_H_ */
