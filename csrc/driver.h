/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver layer: streams, events, the push, ordered release, completion, copies.
 * For the upper half of the core and the C tests; nothing here knows Python.
 *
 * GIL: never needed; release it around every function that says "Drives" or "Blocks".
 * Threads: every function may be called from any thread at any time, unless it says
 * otherwise. CUDA and HIP share one body; the device_type of a stream selects the
 * driver.
 */
#ifndef DLX_DRIVER_H_
#define DLX_DRIVER_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dlexchange/dlpack_abi.h"
#include "ownership.h"

/* ---- Status and errors ---- */

typedef enum dlx_status {
    DLX_OK = 0,
    DLX_NOT_READY,   /* a query: work is pending. Not an error; *err is not written */
    DLX_NO_DRIVER,   /* no driver library could be loaded, or it has no such device */
    DLX_UNSUPPORTED, /* this driver lacks an entry point; the text names both */
    DLX_BAD_STREAM,  /* a stream number or handle that cannot be one on that device */
    DLX_CAPTURE_REFUSED, /* the push would harm a capture; nothing was recorded or
                            waited */
    DLX_NOT_PERMITTED,   /* called inside a driver's host callback */
    DLX_DEVICE_LOST,  /* the context is in error for good; only the process can end */
    DLX_DRIVER_ERROR, /* any other failed driver call */
    DLX_NO_MEMORY,    /* host or pinned memory is exhausted */
    DLX_STOPPED,      /* after dlx_stop(), or in a forked child: no driver call made */
} dlx_status;

/* Which rule of capture refused; DLX_CAPTURE_NONE for every other status. */
typedef enum dlx_capture_cause {
    DLX_CAPTURE_NONE = 0,
    DLX_CAPTURE_PRODUCER,  /* producer captures, consumer does not and was not named */
    DLX_CAPTURE_CONSUMER,  /* consumer captures, the work to wait for is outside */
    DLX_CAPTURE_DIFFERENT, /* the two sides are in two captures */
    DLX_CAPTURE_IMPLICIT,  /* legacy stream while a blocking stream captures */
    DLX_CAPTURE_INVALIDATED, /* a capture that an earlier call has already broken */
} dlx_capture_cause;

/* A view: where work is queued. `handle` is normalised by dlx_stream_init:
 * CUDA 1 = legacy default, 2 = per-thread default of the thread that makes the call,
 * HIP 0 = default, else the driver's own handle. Owns: nothing. */
typedef struct dlx_stream {
    int32_t device_type; /* kDLCUDA or kDLROCM; 0 = no stream */
    int32_t device_id;
    uintptr_t handle;
} dlx_stream;

/* What went wrong. Every function that fails fills the whole struct, every function
 * that succeeds leaves it alone; the pointer may be NULL. Plain data: copy it, never
 * free it. */
typedef struct dlx_error {
    dlx_status status;     /* the returned value */
    int32_t driver_status; /* CUresult or hipError_t; 0 where no driver call failed */
    const char *call; /* static: the driver's name of the call ("cuEventRecord"), or
                         ours where none was made ("dlx_push"); never NULL */
    dlx_capture_cause cause;
    dlx_stream producer; /* with DLX_CAPTURE_REFUSED: the two sides; device_type 0 */
    dlx_stream consumer; /* where a side is not a stream */
    char text[256];      /* one sentence: what was wrong and what to do */
} dlx_error;

/* Stable name of a status ("DLX_BAD_STREAM"). Static storage. */
const char *dlx_status_name(dlx_status status);

/* ---- Streams: identity ---- */

#define DLX_CUDA_LEGACY ((uintptr_t)1)
#define DLX_CUDA_PER_THREAD ((uintptr_t)2)
#define DLX_HIP_DEFAULT ((uintptr_t)0)

/* Make a stream from a driver's handle. CUDA: 0 and 1 become 1 (a NULL work stream of
 * the C exchange API is the legacy stream; Python's ambiguous 0 is refused above, not
 * here). HIP: 1 and 2 are DLX_BAD_STREAM. Another device_type, or a negative device_id,
 * too. Touches no driver. Clauses: S07, S10, S37. */
dlx_status dlx_stream_init(dlx_stream *out, int32_t device_type, int32_t device_id,
                           uintptr_t handle, DLX_NULL dlx_error *err);

/* True for the handles that mean a default stream, whose meaning depends on the current
 * context or thread. */
static inline bool
dlx_stream_is_default(dlx_stream s)
{
    return s.device_type == kDLCUDA ? s.handle <= DLX_CUDA_PER_THREAD
                                    : s.handle == DLX_HIP_DEFAULT;
}

static inline bool
dlx_stream_is_per_thread(dlx_stream s)
{
    return s.device_type == kDLCUDA && s.handle == DLX_CUDA_PER_THREAD;
}

/* True where both name one stream. `same_thread`: both sides belong to the calling
 * thread (or to one and the same other thread); it decides handle 2 only. The legacy
 * streams of two devices are two streams. Clause: S05. */
static inline bool
dlx_stream_same(dlx_stream a, dlx_stream b, bool same_thread)
{
    return a.handle == b.handle && a.device_id == b.device_id &&
           a.device_type == b.device_type &&
           (same_thread || !dlx_stream_is_per_thread(a));
}

/* Number of the calling thread: never 0, never reused in one process. Store it beside a
 * stream whose handle may be 2. */
uint64_t dlx_thread_id(void);

/* ---- Drivers: presence and loading ---- */

typedef struct dlx_driver_info {
    bool is_loaded;       /* dlx_driver_load has succeeded */
    bool is_loadable;     /* the library is there; it may still find no device */
    bool is_simulated;    /* it is the simulated driver, and says so itself */
    int32_t version;      /* as the driver counts (12040, 60300000); 0 if not loaded */
    int32_t device_count; /* -1: not to be had without initialising the driver */
    char library[256];    /* path or soname, in use or to be used */
} dlx_driver_info;

/* Look, without side effects: initialises no driver and makes no context. Where the
 * driver is not loaded, the count is -1, unless someone else in this process has
 * initialised the driver and it answers. Clause: DESIGN 3.12. */
void dlx_driver_describe(int32_t device_type, dlx_driver_info *out);

/* 2 where the driver is loaded, 1 where its library is there, else 0. Asks the driver
 * nothing. */
int dlx_driver_presence(int32_t device_type);

/* The CUDA device of memory, as the driver knows; 0 where it knows nothing of it. For
 * protocols that do not say. Drives. */
int32_t dlx_device_of_address(uintptr_t address);

/* Load and initialise a driver now, once; later calls return at once. Not needed before
 * the functions below, which load at first need. Makes no context. Drives.
 * DLEXCHANGE_CUDA_DRIVER names another library for kDLCUDA (the simulated driver). */
dlx_status dlx_driver_load(int32_t device_type, DLX_NULL dlx_error *err);

/* For tests: forget drivers, pools and contexts, so that the next need loads anew. What
 * is parked or held is dropped at once, events of before become empty shells (waiting
 * on them is DLX_STOPPED), pending notifications get DLX_STOPPED. The caller makes sure
 * that no other call is under way. Blocks: until the reaper has let go. */
void dlx_driver_reset(void);

/* ---- The push ---- */

enum {
    /* The caller named the consumer's stream: a push out of a capture may fork. */
    DLX_PUSH_CONSUMER_NAMED = 1 << 0,
};

/* Make later work of `consumer` wait for all work now on `producer`.
 *
 * Same stream: nothing, no driver call. Else at most two capture-status queries, one
 * record, one wait; no allocation and no event creation in steady state. Handle 2 on
 * either side is that of the calling thread. The streams may be of two devices, but not
 * of two drivers (DLX_UNSUPPORTED).
 *
 * Orders: consumer after producer. Drives. Blocks: only where the driver's queue is
 * full. On failure: nothing has been ordered; DLX_CAPTURE_REFUSED comes before any
 * record. Clauses: S01, S02, S05, S25, S26, S39. */
dlx_status dlx_push(dlx_stream producer, dlx_stream consumer, unsigned options,
                    DLX_NULL dlx_error *err);

/* ---- Events ---- */

/* A mark in a stream, pooled, timing disabled. Reference counted and thread safe: each
 * function needs a reference that lasts for the call, so who shares an event between
 * threads takes one of its own (dlx_event_keep) under whatever lock guards its pointer.
 * A slot goes back to the pool with the last reference, without asking the driver. */
typedef struct dlx_event dlx_event;

/* Mark the work now on `stream`. A stream that captures gives an event of that capture.
 * One capture query, one record. Drives. */
dlx_status dlx_event_record(dlx_stream stream, DLX_GIVE dlx_event **out,
                            DLX_NULL dlx_error *err);

/* One more reference; returns `event`. No driver call. */
dlx_event *dlx_event_keep(dlx_event *event);

/* One reference less. NULL is allowed. No driver call, no lock that a driver call is
 * ever made under: callable from a deleter and from a driver's callback. */
void dlx_event_release(DLX_TAKE DLX_NULL dlx_event *event);

/* Make later work of `stream` wait for the event. Nothing where the event was recorded
 * on that very stream or has been seen complete; else one capture query and one wait.
 * A capture may wait only for events of its own; where it meets one of before, the
 * event is queried once, and an incomplete one is DLX_CAPTURE_REFUSED. Drives. */
dlx_status dlx_event_wait(dlx_event *event, dlx_stream stream, DLX_NULL dlx_error *err);

/* DLX_OK once complete (and for good), else DLX_NOT_READY. Never disturbs a capture.
 * An event of a capture never completes: DLX_CAPTURE_REFUSED. Drives. */
dlx_status dlx_event_query(dlx_event *event, DLX_NULL dlx_error *err);

/* Wait on the host. Counted in host_waits. Drives, Blocks. */
dlx_status dlx_event_synchronize(dlx_event *event, DLX_NULL dlx_error *err);

/* True once some call has seen it complete. No driver call. */
bool dlx_event_is_done(const dlx_event *event);

/* The stream it was recorded on, and the driver's handle (for interoperation only: the
 * event stays pooled and must not be destroyed or re-recorded). No driver call. */
dlx_stream dlx_event_stream(const dlx_event *event);
uintptr_t dlx_event_handle(const dlx_event *event);

/* ---- Streams: calls ---- */

/* Take a non-blocking stream of ours out of the device's pool; created lazily, never
 * destroyed, so a view of it stays valid for ever. Retains the primary context. Drives.
 */
dlx_status dlx_stream_acquire(int32_t device_type, int32_t device_id, dlx_stream *out,
                              DLX_NULL dlx_error *err);

/* Put an acquired stream back; it may have pending work. No driver call. */
void dlx_stream_release(dlx_stream stream);

/* DLX_OK where all work is done, else DLX_NOT_READY. Never disturbs a capture. Drives.
 */
dlx_status dlx_stream_query(dlx_stream stream, DLX_NULL dlx_error *err);

/* Wait on the host. Counted in host_waits. Drives, Blocks. */
dlx_status dlx_stream_synchronize(dlx_stream stream, DLX_NULL dlx_error *err);

/* Device of a stream handle, as the driver knows it. Default streams have none of their
 * own: DLX_BAD_STREAM. A handle of nothing is DLX_BAD_STREAM where the driver can tell
 * (a real driver may crash on one). Drives. */
dlx_status dlx_stream_find_device(int32_t device_type, uintptr_t handle,
                                  int32_t *device_id, DLX_NULL dlx_error *err);

/* ---- Release ---- */

/* Gives back what a release guards: the producer's memory. Runs exactly once, unless
 * the release is leaked, on the reaper's thread or in a call of dlx_reap, dlx_drain or
 * dlx_driver_reset, between the hooks of dlx_reaper_configure. It must not raise. Never
 * run inside a driver's callback; it may call anything here but dlx_drain, dlx_stop and
 * dlx_driver_reset. */
typedef void (*dlx_drop_fn)(void *arg);

typedef struct dlx_release_request {
    const dlx_stream *consumers; /* streams that have used the memory; copied */
    size_t n_consumers;
    dlx_stream producer; /* edge: P, owned and the allocation's; device_type 0: park */
    uint64_t thread;     /* dlx_thread_id() of the hand-off; meets handle 2 only */
    dlx_drop_fn drop;
    void *arg;
} dlx_release_request;

typedef enum dlx_release_result {
    DLX_RELEASE_NOW,    /* ordered: the caller runs drop(arg) itself, here and now */
    DLX_RELEASE_LATER,  /* taken: drop(arg) runs later, in a thread that may */
    DLX_RELEASE_LEAKED, /* taken and given up: drop never runs; counted in `leaked` */
} dlx_release_result;

/* Order the release of memory after its consumers.
 *
 * With a producer stream: an edge (record on C, P waits), unless C is P. Without, or
 * where P is a per-thread default stream, or where the edge fails: park (record on C,
 * keep the request until that has fired). Where a capture is in the way: hold, without
 * a driver call, until it has ended. A dead context releases at once. Neither park nor
 * record can be had: leaked, and *err says why (it is not written otherwise). A
 * consumer with handle 2 that belongs to another thread is recorded on the legacy
 * stream.
 *
 * Never fails. Drives: so only from threads that may; inside a driver's callback, and
 * in a thread without a Python thread state, call dlx_release_defer instead. A driver
 * that answers "not permitted" is treated as if that had been called. */
dlx_release_result dlx_release(const dlx_release_request *request,
                               DLX_NULL dlx_error *err);

/* The same, left to the reaper: no driver call, no lock, never waits. Allocates; where
 * it cannot, leaks and counts. Callable from anywhere, also from a driver's callback.
 * With n_consumers 0: only runs drop(arg) on the reaper's thread. */
void dlx_release_defer(const dlx_release_request *request);

/* Keep (drop, arg) until `event` has fired, then run it on the reaper's thread. The
 * event is kept meanwhile. On failure (out of memory, or DLX_STOPPED) nothing is taken.
 */
dlx_status dlx_event_park(dlx_event *event, dlx_drop_fn drop, DLX_TAKE void *arg,
                          DLX_NULL dlx_error *err);

/* Called around every batch of drops on the reaper's thread: the place to take the GIL
 * once. `enter` returns false where drops can no longer run: that batch is leaked. Set
 * once, before the first release; NULL, NULL for none. */
void dlx_reaper_configure(bool (*enter)(void), void (*leave)(void));

/* Look at no more than `limit` tasks that wait, and run those drops that are due in the
 * calling thread; return how many. For calls that happen to come by: does nothing where
 * nothing waits, nor more often than every 100 us; never nests. Drives. */
enum { DLX_REAP_A_FEW = 4 };
size_t dlx_reap(size_t limit);

/* For tests: wait until nothing is parked, held, deferred or pending, or the time is
 * over. Returns what is left (0: all done). Must not be called from a drop. Drives,
 * Blocks. */
size_t dlx_drain(uint64_t timeout_ns);

/* ---- Completion ---- */

/* Called exactly once: DLX_OK when complete, DLX_DEVICE_LOST or DLX_DRIVER_ERROR when
 * it never will be, DLX_STOPPED by a reset. On a driver's thread, the reaper's or the
 * caller's: it must not block, take a lock that is held over driver calls, call a
 * driver or touch Python. After dlx_stop() and in a forked child it is never called.
 * `arg` belongs to the notification until then: who may cancel keeps a second
 * reference. */
typedef void (*dlx_notify_fn)(void *arg, dlx_status status);

/* Have fn(arg, status) called once the event has fired. A stream of ours waits for it,
 * so neither the recording stream nor another notification is delayed; the event may be
 * released right after. An event already seen complete calls fn before returning. A
 * lost context is noticed within about a second. On failure: nothing taken, fn is not
 * called. Drives. */
dlx_status dlx_event_notify(dlx_event *event, dlx_notify_fn fn, DLX_TAKE void *arg,
                            DLX_NULL dlx_error *err);

/* Record on `stream`, then the same. */
dlx_status dlx_stream_notify(dlx_stream stream, dlx_notify_fn fn, DLX_TAKE void *arg,
                             DLX_NULL dlx_error *err);

/* ---- Copies to the host ---- */

/* Pinned memory of at least `nbytes`, pooled; portable between devices. Drives. */
dlx_status dlx_pinned_alloc(int32_t device_type, int32_t device_id, size_t nbytes,
                            DLX_GIVE void **out, DLX_NULL dlx_error *err);

/* Give pinned memory back to the pool; no copy may be in flight. NULL is allowed.
 * No driver call, so callable from a drop. */
void dlx_pinned_free(DLX_TAKE DLX_NULL void *memory);

/* Copy `nbytes` of device memory at `src` to pinned `dst` on a stream of ours, after
 * `after` (NULL: at once), and give the event of its end. Source and destination must
 * live until that has fired: dlx_event_park(*done, ...) keeps them. Drives. */
dlx_status dlx_copy_to_host(DLX_KEEP void *dst, int32_t device_type, int32_t device_id,
                            uintptr_t src, size_t nbytes, DLX_NULL dlx_event *after,
                            DLX_GIVE dlx_event **done, DLX_NULL dlx_error *err);

/* ---- Device types from outside ---- */

/* What a device type that no driver here knows is driven by. A stream's handle is a
 * number of the caller's, never 0; an event is the caller's own. Called without locks
 * but that of a sweep, from any thread, with or without the GIL. */
typedef struct dlx_backend_calls {
    dlx_status (*event_create)(void **event); /* must not need the GIL */
    void (*event_destroy)(void *event);
    dlx_status (*record)(void *event, uintptr_t stream);
    dlx_status (*wait)(uintptr_t stream, void *event);
    dlx_status (*query)(void *event);
    dlx_status (*synchronize)(void *event);
    /* fn(NULL, 0 or a failure, arg) exactly once where DLX_OK is returned, else never.
     */
    dlx_status (*notify)(void *event, void (*fn)(void *, int, void *), void *arg);
    dlx_status (*stream_create)(int32_t device_type, int32_t device_id,
                                uintptr_t *stream);
    dlx_status (*stream_query)(uintptr_t stream);
    dlx_status (*stream_synchronize)(uintptr_t stream);
    dlx_status (*copy_to_host)(void *dst, uintptr_t src, size_t nbytes,
                               uintptr_t stream);
    const char *(*last_error)(void); /* of the calling thread; never NULL */
} dlx_backend_calls;

/* Have a device type driven so from now on; `name` is for messages. A second time:
 * nothing. All share one set of functions. */
dlx_status dlx_backend_install(int32_t device_type, const char *name,
                               const dlx_backend_calls *functions,
                               DLX_NULL dlx_error *err);
bool dlx_backend_is_installed(int32_t device_type);

/* ---- Process ---- */

/* Stop and join the reaper; from then on nothing is driven and every release is leaked
 * and counted. For interpreter exit. The caller must not hold the GIL: a drop may want
 * it. Blocks: for the batch of drops that is running. */
void dlx_stop(void);

/* Name a descriptor that a forked child must close (a notifier's eventfd), and forget
 * it. DLX_NO_MEMORY beyond 64 descriptors. */
dlx_status dlx_fork_fd_add(int fd);
void dlx_fork_fd_remove(int fd);

/* True after dlx_stop, and in a child forked after a driver was loaded: there nothing
 * is driven, and every release is leaked. */
bool dlx_is_stopped(void);

/* ---- Counters ---- */

/* One snapshot; each field is exact, the set of them is not taken at one instant. */
typedef struct dlx_counters {
    uint64_t pushes;         /* record + wait pairs made by dlx_push */
    uint64_t elided;         /* pushes and event waits that needed no driver call */
    uint64_t waits;          /* waits made by dlx_event_wait */
    uint64_t edges;          /* release edges made */
    uint64_t parked;         /* releases waiting for their event now */
    uint64_t parked_ever;    /* releases ever parked */
    uint64_t reaped;         /* of these, ended by a call that came by (dlx_reap) */
    uint64_t held;           /* releases waiting for a capture to end now */
    uint64_t deferred;       /* releases left to the reaper, not yet looked at */
    uint64_t leaked;         /* releases given up */
    uint64_t refused;        /* pushes, waits and records refused for a capture */
    uint64_t quarantined;    /* events put aside after an error, never used again */
    uint64_t events_created; /* driver events ever created */
    uint64_t events_in_use;  /* held by dlx_event references, releases, notifications */
    uint64_t streams_created; /* streams of ours, never destroyed */
    uint64_t capture_queries; /* capture-status queries asked of a driver */
    uint64_t host_waits;      /* times the host waited for a device */
    uint64_t notifications;   /* dlx_*_notify pending now */
    uint64_t copies;          /* dlx_copy_to_host ever made */
    uint64_t pinned_bytes;    /* pinned memory handed out now */
    uint64_t pinned_cached;   /* pinned memory in the pool */
} dlx_counters;

void dlx_counters_read(dlx_counters *out);

/* Times the calling thread has waited for a device. */
uint64_t dlx_host_waits_here(void);

#endif
