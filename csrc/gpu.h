/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the driver layer: the table of driver calls, a loaded driver, its contexts.
 * For the driver layer's own files and its C tests; everyone else includes driver.h.
 *
 * One body serves CUDA and HIP: their calls have the same arguments, the same flags
 * and, where it matters here, the same status numbers. Only contexts differ (cuda.c,
 * hip.c).
 */
#ifndef DLX_GPU_H_
#define DLX_GPU_H_

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "driver.h"
#include "mutant.h"

/* ---- The calls ---- */

/* Called in a driver's thread with the status of the stream's context. */
typedef void (*dlx_gpu_callback)(void *stream, int code, void *arg);

/* Every driver call that is made, once:
 *   field, arguments, CUDA name, version of that signature, suffix for dlsym, HIP name,
 *   required | optional (a missing optional call answers DLX_GPU_NOT_SUPPORTED).
 * A NULL name: not a call of that driver. Streams, events and contexts are void
 * pointers; the CUDA and HIP headers are not needed. */
#define DLX_GPU_CALLS(X)                                                               \
    X(init, (unsigned flags), "cuInit", 2000, "", "hipInit", required)                 \
    X(driver_get_version, (int *version), "cuDriverGetVersion", 2020, "",              \
      "hipDriverGetVersion", required)                                                 \
    X(get_error_name, (int code, const char **text), "cuGetErrorName", 6000, "",       \
      "hipDrvGetErrorName", optional)                                                  \
    X(get_error_string, (int code, const char **text), "cuGetErrorString", 6000, "",   \
      "hipDrvGetErrorString", optional)                                                \
    X(device_get_count, (int *count), "cuDeviceGetCount", 2000, "",                    \
      "hipGetDeviceCount", required)                                                   \
    X(event_create, (void **event, unsigned flags), "cuEventCreate", 2000, "",         \
      "hipEventCreateWithFlags", required)                                             \
    X(event_destroy, (void *event), "cuEventDestroy", 4000, "_v2", "hipEventDestroy",  \
      required)                                                                        \
    X(event_record, (void *event, void *stream), "cuEventRecord", 2000, "",            \
      "hipEventRecord", required)                                                      \
    X(event_query, (void *event), "cuEventQuery", 2000, "", "hipEventQuery", required) \
    X(event_synchronize, (void *event), "cuEventSynchronize", 2000, "",                \
      "hipEventSynchronize", required)                                                 \
    X(stream_create, (void **stream, unsigned flags), "cuStreamCreate", 2000, "",      \
      "hipStreamCreateWithFlags", required)                                            \
    X(stream_wait_event, (void *stream, void *event, unsigned flags),                  \
      "cuStreamWaitEvent", 3020, "", "hipStreamWaitEvent", required)                   \
    X(stream_query, (void *stream), "cuStreamQuery", 2000, "", "hipStreamQuery",       \
      required)                                                                        \
    X(stream_synchronize, (void *stream), "cuStreamSynchronize", 2000, "",             \
      "hipStreamSynchronize", required)                                                \
    X(stream_get_capture_info,                                                         \
      (void *stream, int *status, uint64_t *id, void **graph, void **dependencies,     \
       size_t *n_dependencies),                                                        \
      "cuStreamGetCaptureInfo", 11030, "_v2", "hipStreamGetCaptureInfo_v2", required)  \
    X(exchange_capture_mode, (int *mode), "cuThreadExchangeStreamCaptureMode", 10010,  \
      "", "hipThreadExchangeStreamCaptureMode", required)                              \
    X(stream_add_callback,                                                             \
      (void *stream, dlx_gpu_callback fn, void *arg, unsigned flags),                  \
      "cuStreamAddCallback", 5000, "", "hipStreamAddCallback", optional)               \
    X(launch_host_func, (void *stream, void (*fn)(void *), void *arg),                 \
      "cuLaunchHostFunc", 10000, "", "hipLaunchHostFunc", optional)                    \
    X(event_add_callback, (void *event, dlx_gpu_callback fn, void *arg), NULL, 0, "",  \
      NULL, optional)                                                                  \
    X(stream_get_device, (void *stream, int *device), "cuStreamGetDevice", 12080, "",  \
      "hipStreamGetDevice", optional)                                                  \
    X(pointer_get_attribute, (void *out, int attribute, uintptr_t address),            \
      "cuPointerGetAttribute", 4000, "", "hipPointerGetAttribute", optional)           \
    X(host_alloc, (void **memory, size_t nbytes, unsigned flags), "cuMemHostAlloc",    \
      2020, "", "hipHostMalloc", required)                                             \
    X(host_free, (void *memory), "cuMemFreeHost", 2000, "", "hipHostFree", required)   \
    X(copy_to_host, (void *dst, uintptr_t src, size_t nbytes, void *stream),           \
      "cuMemcpyDtoHAsync", 3020, "_v2", "hipMemcpyDtoHAsync", required)                \
    X(device_get, (int *device, int ordinal), "cuDeviceGet", 2000, "", NULL, required) \
    X(primary_retain, (void **context, int device), "cuDevicePrimaryCtxRetain", 7000,  \
      "", NULL, required)                                                              \
    X(primary_get_state, (int device, unsigned *flags, int *is_active),                \
      "cuDevicePrimaryCtxGetState", 7000, "", NULL, required)                          \
    X(context_push, (void *context), "cuCtxPushCurrent", 4000, "_v2", NULL, required)  \
    X(context_pop, (void **context), "cuCtxPopCurrent", 4000, "_v2", NULL, required)   \
    X(context_get_current, (void **context), "cuCtxGetCurrent", 4000, "", NULL,        \
      required)                                                                        \
    X(context_get_device, (int *device), "cuCtxGetDevice", 2000, "", NULL, required)   \
    X(stream_get_context, (void *stream, void **context), "cuStreamGetCtx", 9020, "",  \
      NULL, required)                                                                  \
    X(device_get_current, (int *device), NULL, 0, "", "hipGetDevice", required)        \
    X(device_set_current, (int device), NULL, 0, "", "hipSetDevice", required)

typedef struct dlx_gpu_calls {
#define DLX_GPU_FIELD(field, arguments, ...) int(*field) arguments;
    DLX_GPU_CALLS(DLX_GPU_FIELD)
#undef DLX_GPU_FIELD
} dlx_gpu_calls;

typedef enum dlx_gpu_call {
#define DLX_GPU_ENUM(field, ...) DLX_CALL_##field,
    DLX_GPU_CALLS(DLX_GPU_ENUM)
#undef DLX_GPU_ENUM
        DLX_N_CALLS
} dlx_gpu_call;
_Static_assert(DLX_N_CALLS <= 64, "dlx_gpu.missing has a bit for each call");

/* CUresult and hipError_t, where they are told apart. */
enum {
    DLX_GPU_SUCCESS = 0,
    DLX_GPU_OUT_OF_MEMORY = 2,
    DLX_GPU_NOT_INITIALIZED = 3,
    DLX_GPU_DEINITIALIZED = 4,
    DLX_GPU_NO_DEVICE = 100,
    DLX_GPU_INVALID_DEVICE = 101,
    DLX_GPU_INVALID_CONTEXT = 201,
    DLX_GPU_INVALID_HANDLE = 400,
    DLX_GPU_NOT_READY = 600,
    DLX_GPU_CONTEXT_DESTROYED = 709,
    DLX_GPU_LAUNCH_FAILED = 719,
    DLX_GPU_NOT_PERMITTED = 800,
    DLX_GPU_NOT_SUPPORTED = 801,
    DLX_GPU_CAPTURE_UNSUPPORTED = 900,
    DLX_GPU_CAPTURE_INVALIDATED = 901,
    DLX_GPU_CAPTURE_ISOLATION = 905,
    DLX_GPU_CAPTURE_IMPLICIT = 906,
    DLX_GPU_CAPTURED_EVENT = 907,
    DLX_GPU_CAPTURE_WRONG_THREAD = 908,
    DLX_GPU_UNKNOWN = 999,
};

enum {
    DLX_EVENT_DISABLE_TIMING = 2,
    DLX_STREAM_NON_BLOCKING = 1,
    DLX_HOST_PORTABLE = 1,
    DLX_CAPTURE_MODE_RELAXED = 2,
    DLX_CAPTURE_STATUS_NONE = 0,
    DLX_CAPTURE_STATUS_ACTIVE = 1,
    DLX_CAPTURE_STATUS_INVALIDATED = 2,
};

/* ---- A loaded driver ---- */

enum { DLX_MAX_DEVICES = 64, DLX_MAX_FOREIGN = 64, DLX_MAX_BACKENDS = 14 };

typedef struct dlx_gpu dlx_gpu;
typedef struct dlx_context dlx_context;
typedef struct dlx_context_ops dlx_context_ops;

/* Never freed: events, streams and blocks point to it, and their holders may outlive a
 * reset. A retired one is kept on `older` and no longer driven. */
struct dlx_gpu {
    dlx_gpu_calls call;
    const char *names[DLX_N_CALLS];
    uint64_t missing; /* one bit a call: a stub */
    const dlx_context_ops *contexts;
    int32_t device_type;
    int32_t device_count;
    int32_t version;
    bool is_simulated;
    _Atomic bool is_retired;
    char library[256];
    pthread_mutex_t mutex; /* contexts are made under it, with driver calls */
    _Atomic(dlx_context *) primary[DLX_MAX_DEVICES];
    /* Streams known to live outside the primary context, newest last. */
    _Atomic size_t n_foreign;
    struct {
        uintptr_t handle;
        dlx_context *context;
    } foreign[DLX_MAX_FOREIGN];
    dlx_context *all;  /* every context, under mutex */
    void *pinned_free; /* copy.c: cached blocks */
    dlx_gpu *older;
};

/* What CUDA and HIP do each in their way. All answer a driver status; retain and enter
 * one that says which call it is of (dlx_gpu_blame). */
struct dlx_context_ops {
    /* Retain the primary context of a device. */
    int (*retain)(dlx_gpu *gpu, int32_t device_id, DLX_GIVE void **native);
    /* True where retaining would make no new context. */
    int (*is_active)(dlx_gpu *gpu, int32_t device_id, bool *out);
    /* Context and device of a stream handle. */
    int (*locate)(dlx_gpu *gpu, void *stream, void **native, int32_t *device_id);
    /* True where the calling thread has some context. */
    bool (*has_current)(dlx_gpu *gpu);
    /* Make a context current, and what was current before current again. */
    int (*enter)(const dlx_context *context, int *saved);
    int (*leave)(const dlx_context *context, int saved);
};

extern const dlx_context_ops dlx_cuda_contexts;
extern const dlx_context_ops dlx_hip_contexts;
extern const dlx_context_ops dlx_backend_contexts;

/* The driver of a device type, loaded at first need. Fails after dlx_stop or a fork. */
dlx_status dlx_gpu_get(int32_t device_type, dlx_gpu **out, DLX_NULL dlx_error *err);

/* The same without loading, and without an error. */
dlx_gpu *dlx_gpu_peek(int32_t device_type);

/* Put a table of calls in place of a driver (the loader does, and tests do). Missing
 * calls become stubs. NULL where memory, or the places for device types of others, are
 * exhausted. */
dlx_gpu *dlx_gpu_install(int32_t device_type, const dlx_gpu_calls *calls,
                         const char *library);

/* Take every loaded driver out of use; it is loaded anew at the next need. */
void dlx_gpu_retire_all(void);

/* Grows whenever a driver is taken out of use. */
uint32_t dlx_gpu_generation(void);

/* A driver status, not success, that carries which call it is of. */
enum { DLX_BLAME_SHIFT = 16 };

static inline int
dlx_gpu_blame(dlx_gpu_call call, int code)
{
    return code == DLX_GPU_SUCCESS ? code : code | ((int)call + 1) << DLX_BLAME_SHIFT;
}

/* Driver status -> ours. `call` is the one that failed, unless `code` says which. */
dlx_status dlx_gpu_fail(const dlx_gpu *gpu, dlx_gpu_call call, int code,
                        DLX_NULL dlx_error *err);
dlx_status dlx_gpu_status(int code);

/* Relaxed capture mode for our own calls in this thread; restore what was before. */
void dlx_relaxed_enter(dlx_gpu *gpu, int *saved);
void dlx_relaxed_leave(dlx_gpu *gpu, int saved);

/* ---- Contexts ---- */

/* The events of one context. `head`: tag in the upper half against ABA, index + 1 of
 * the first free event in the lower one. Chunk k holds 64 << k events. */
enum { DLX_POOL_CHUNKS = 20, DLX_POOL_FIRST = 64, DLX_POOL_PREWARM = 8 };

typedef struct dlx_event_pool {
    _Atomic uint64_t head;
    _Atomic(dlx_event *) chunks[DLX_POOL_CHUNKS];
    uint32_t count;        /* under mutex */
    pthread_mutex_t mutex; /* creation, with driver calls: one at a time */
} dlx_event_pool;

enum { DLX_MAX_STREAMS = 256 };

/* Streams of ours. Its mutex is never held over a driver call. */
typedef struct dlx_stream_pool {
    pthread_mutex_t mutex;
    uint32_t count;
    struct {
        void *native;
        uint32_t users;
        uint64_t since; /* when it was last given back, in turns */
    } streams[DLX_MAX_STREAMS];
    uint64_t turn;
} dlx_stream_pool;

struct dlx_context {
    dlx_gpu *gpu;
    void *native;
    int32_t device_id;
    uint32_t slot; /* place in each thread's cache of one event */
    dlx_event_pool events;
    dlx_stream_pool streams;
    dlx_context *next;
};

/* The context that a stream's events must come from; made at first need. */
dlx_status dlx_context_of(dlx_gpu *gpu, dlx_stream stream, dlx_context **out,
                          DLX_NULL dlx_error *err);

/* The primary context of a device; made at first need. */
dlx_status dlx_context_primary(dlx_gpu *gpu, int32_t device_id, dlx_context **out,
                               DLX_NULL dlx_error *err);

/* A context that is in use already, whichever; for calls that want one to be current.
 */
dlx_status dlx_context_any(dlx_gpu *gpu, dlx_context **out, DLX_NULL dlx_error *err);

/* Ask the driver which context a stream lives in, and remember it. False where that is
 * no news, or cannot be had. */
bool dlx_context_relocate(dlx_gpu *gpu, dlx_stream stream, dlx_context **context);

/* ---- Events ---- */

struct dlx_event {
    void *native;
    dlx_context *context;
    uint32_t index;
    _Atomic uint32_t next; /* free list: index + 1 */
    _Atomic uint32_t references;
    _Atomic bool is_done;
    dlx_stream stream; /* recorded on */
    dlx_stream side;   /* a stream of ours that goes back with the last reference */
    uint64_t thread;
    uint64_t capture_id; /* 0: not of a capture */
};

dlx_status dlx_pool_init(dlx_context *context, DLX_NULL dlx_error *err);

/* An event for exclusive use; created only where none is free. */
dlx_status dlx_pool_pop(dlx_context *context, DLX_GIVE dlx_event **out,
                        DLX_NULL dlx_error *err);

/* Back into the pool; no driver call. */
void dlx_pool_push(DLX_TAKE dlx_event *event);

/* Never use it again: something failed while its state mattered. */
void dlx_pool_quarantine(DLX_TAKE dlx_event *event);

typedef struct dlx_side dlx_side;

/* Record on a side, captures not asked; `capture_id` is what is known of them. */
dlx_status dlx_event_mark(dlx_side *side, uint64_t capture_id, DLX_GIVE dlx_event **out,
                          DLX_NULL dlx_error *err);

/* DLX_STOPPED where the event's driver is gone. */
dlx_status dlx_event_check(const dlx_event *event, DLX_NULL dlx_error *err);

/* DLX_CAPTURE_REFUSED for an event of a capture: it has no time at which it completes.
 */
dlx_status dlx_event_check_fires(const dlx_event *event, const char *call,
                                 DLX_NULL dlx_error *err);

/* ---- Sides: one stream, ready for calls ---- */

struct dlx_side {
    dlx_stream stream;
    dlx_context *context;
    bool enters; /* each call enters the context: default stream, or none is current */
};

/* What a driver says of a stream's capture. */
typedef struct dlx_capture {
    bool is_implicit; /* legacy stream while a blocking stream captures */
    int status;
    uint64_t id; /* 0: none */
} dlx_capture;

static inline bool
dlx_stream_is_legacy(dlx_stream s)
{
    return dlx_stream_is_default(s) && !dlx_stream_is_per_thread(s);
}

/* `fallback`: a context to enter where the thread has none and the stream is a handle;
 * NULL: the stream's own, which recording needs. */
dlx_status dlx_side_init(dlx_side *side, dlx_gpu *gpu, dlx_stream stream,
                         DLX_NULL dlx_context *fallback, DLX_NULL dlx_error *err);
/* For calls that name no stream: an event's, a callback's. */
void dlx_side_of_context(dlx_side *side, dlx_context *context);

/* After a call outside the context: whether to make it again inside. */
bool dlx_side_must_enter(dlx_side *side, int code);

/* Make one driver call, inside the side's context where it needs that. The expression
 * is evaluated at most twice, the second time after a refusal. */
#define DLX_CALL_ON_SIDE(side, code, expression)                                 \
    do {                                                                         \
        const dlx_context *context_ = (side)->context;                           \
        const dlx_context_ops *ops_ = context_->gpu->contexts;                   \
        if (!(side)->enters) {                                                   \
            (code) = (expression);                                               \
            if ((code) == DLX_GPU_SUCCESS || !dlx_side_must_enter(side, code)) { \
                break;                                                           \
            }                                                                    \
        }                                                                        \
        int saved_;                                                              \
        (code) = ops_->enter(context_, &saved_);                                 \
        if ((code) == DLX_GPU_SUCCESS) {                                         \
            (code) = (expression);                                               \
            (void)ops_->leave(context_, saved_); /* what was queued is queued */ \
        }                                                                        \
    } while (0)

dlx_status dlx_side_capture(dlx_side *side, dlx_capture *out, DLX_NULL dlx_error *err);
dlx_status dlx_side_record(dlx_side *side, DLX_GIVE dlx_event **out,
                           DLX_NULL dlx_error *err);
dlx_status dlx_side_wait(dlx_side *side, const dlx_event *event,
                         DLX_NULL dlx_error *err);
dlx_status dlx_side_query(dlx_side *side, DLX_NULL dlx_error *err);
/* Note that this thread is about to wait for a device. */
void dlx_host_wait_count(void);

dlx_status dlx_side_synchronize(dlx_side *side, DLX_NULL dlx_error *err);

/* Record on one side and wait on the other with a pooled event; captures are not asked.
 */
dlx_status dlx_side_order(dlx_side *from, dlx_side *to, bool is_waited,
                          DLX_NULL dlx_error *err);

/* ---- Rules of capture (pure) ---- */

dlx_capture_cause dlx_capture_judge_push(dlx_capture producer, dlx_capture consumer,
                                         bool may_fork);
dlx_capture_cause dlx_capture_judge_wait(uint64_t event_id, dlx_capture consumer);
bool dlx_capture_is_idle(dlx_capture capture);
bool dlx_capture_is_same(dlx_capture a, dlx_capture b);

/* DLX_CAPTURE_REFUSED, counted, with a sentence. An event's side has device_type 0. */
dlx_status dlx_capture_refuse(dlx_capture_cause cause, const char *call,
                              dlx_stream producer, dlx_stream consumer,
                              DLX_NULL dlx_error *err);

/* ---- Small things of driver.c ---- */

/* Fill *err and return `status`. `call` must be static. */
__attribute__((format(printf, 4, 5))) dlx_status dlx_fail(DLX_NULL dlx_error *err,
                                                          dlx_status status,
                                                          const char *call,
                                                          const char *format, ...);

extern _Atomic uint64_t dlx_counts[sizeof(dlx_counters) / sizeof(uint64_t)];

#define DLX_GAUGE(field) (offsetof(dlx_counters, field) / sizeof(uint64_t))
#define DLX_COUNT_BY(field, n)                                              \
    atomic_fetch_add_explicit(&dlx_counts[DLX_GAUGE(field)], (uint64_t)(n), \
                              memory_order_relaxed)
#define DLX_COUNT(field) DLX_COUNT_BY(field, 1)
#define DLX_UNCOUNT(field) \
    atomic_fetch_sub_explicit(&dlx_counts[DLX_GAUGE(field)], 1, memory_order_relaxed)

/* Have forks noticed; and, once a driver or the reaper exists, have children stopped.
 */
void dlx_fork_watch(void);
void dlx_fork_guard(void);

/* In a forked child: another thread may have been loading a driver in the parent. */
void dlx_loader_after_fork(void);
bool dlx_is_forked(void);
void dlx_mark_stopped(void);

#endif
