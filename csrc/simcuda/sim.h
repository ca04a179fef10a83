/* What the pieces of the simulated driver share: its objects and one lock.
 * Threads: everything here is guarded by sim.lock, which an entry point holds from
 * sim_enter to sim_leave; it is let go only while a blocking call waits for a closed
 * gate. Host functions run under it too, on the driver's own thread, as deadlock-prone
 * as on a real driver. SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMCUDA_SIM_H
#define SIMCUDA_SIM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda_abi.h"
#include "simcuda.h"

enum { SIM_MAX_DEVICES = 16, SIM_MAX_STACK = 64, SIM_DRIVER_VERSION = 13000 };

struct sim_caller;
struct sim_thread;
struct sim_capture;
struct sim_context;
struct sim_event;
struct sim_kernel;
struct sim_node;
struct sim_pool;
struct sim_stream;
struct sim_work;

/* Names of the driver API, by what one asks cuGetProcAddress for. */
enum sim_name {
#define SIM_NAME(name) SIM_CALL_##name,
#define SIM_ENTRY(name, version, symbol)
#define SIM_ENTRY_PT(name, version, symbol, pt_version, pt_symbol)
#define SIM_ALIAS(name, version, symbol)
#include "symbols.inc"
#undef SIM_ALIAS
#undef SIM_NAME
#undef SIM_ENTRY
#undef SIM_ENTRY_PT
    SIM_CALL_COUNT
};

/* --- call sites and findings (findings.c) --- */

/* What a stream is called in findings; it outlives the stream. */
struct sim_stream_name {
    enum { SIM_NO_STREAM, SIM_LEGACY, SIM_PER_THREAD, SIM_CREATED } kind;
    int device;
    uint64_t number; /* of the stream, or of the thread */
};

struct sim_site {
    const char *call;    /* entry point */
    const char *label;   /* interned, NULL if none was set */
    const void *address; /* where the entry point returns to */
    struct sim_stream_name stream;
};

int sim_stream_text(const struct sim_stream_name *name, char *out, size_t size);

const char *sim_intern(const char *text);
/* Lock: needs none of sim.lock. Sites may be NULL. */
__attribute__((format(printf, 4, 5))) void sim_finding(const char *kind,
                                                       const struct sim_site *first,
                                                       const struct sim_site *second,
                                                       const char *format, ...);

/* --- vector clocks (clocks.c): component 0 is the host, the others are streams --- */

struct sim_clock {
    unsigned length;
    unsigned capacity;
    uint64_t *ticks;
};

uint64_t sim_clock_at(const struct sim_clock *clock, unsigned node);
void sim_clock_join(struct sim_clock *into, const struct sim_clock *from);
void sim_clock_tick(struct sim_clock *clock, unsigned node);
void sim_clock_clear(struct sim_clock *clock);
unsigned sim_node_take(void);
void sim_node_give(unsigned node, uint64_t last_tick);
void sim_nodes_reset(void);

/* --- memory (memory.c) --- */

enum sim_memory { SIM_DEVICE_MEMORY, SIM_PINNED, SIM_MANAGED, SIM_REGISTERED };

struct sim_access {
    struct sim_block *block; /* a reference */
    size_t begin, end;       /* bytes from the start of the block */
    bool writes;
};

struct sim_past; /* an access of earlier, kept while something could still race with it
                  */

struct sim_block {
    unsigned refs;
    uint64_t begin;
    size_t nbytes, reserved; /* asked for; set aside */
    enum sim_memory memory;
    int device;
    unsigned flags;
    uint64_t id;
    struct sim_pool *pool; /* NULL if not from a pool */
    uint64_t context;      /* handle of the one it was allocated in */
    bool freed;
    struct sim_site born, died;
    uint64_t
        free_node_tick; /* with free_node: the point of a stream the free belongs to */
    unsigned free_node;
    struct sim_past *past;
    unsigned past_count, past_capacity;
    struct sim_block *next; /* in quarantine */
};

CUresult sim_block_new(struct sim_block **out, enum sim_memory memory, size_t nbytes,
                       int device, const struct sim_clock *knows);
CUresult sim_block_register(struct sim_block **out, void *address, size_t nbytes);
struct sim_block *sim_block_at(uint64_t address);
struct sim_block *sim_block_keep(struct sim_block *block);
void sim_block_release(struct sim_block *block);
/* Contents become `pattern`; only the ends of very large blocks. */
void sim_block_poison(struct sim_block *block, int pattern);
/* Freed as far as callers are concerned: touching it from now on is a finding. */
void sim_block_free(struct sim_block *block, const struct sim_site *site);
/* The block is dead: its address stays reserved for as long as the quarantine has room.
 */
void sim_block_bury(struct sim_block *block);
void sim_blocks_leave_pool(const struct sim_pool *pool);
bool sim_address_is_ours(uint64_t address);
/* Host address behind a simulated one (the same for host memory). */
void *sim_data(uint64_t address);
size_t sim_memory_used(int device);
void sim_memory_reset(void);

/* --- work (work.c) and operations (operations.c, scheduler.c) --- */

enum sim_work_kind {
    SIM_MARK, /* nothing to do: event record, event wait, graph entry and exit */
    SIM_COPY,
    SIM_FILL,
    SIM_KERNEL,
    SIM_HOST_FUNCTION,
    SIM_CALLBACK,
    SIM_WAIT_VALUE,
    SIM_WRITE_VALUE,
    SIM_ALLOC,
    SIM_FREE
};

/* What to do. Never changed once submitted: operations and graph nodes share it. */
struct sim_work {
    unsigned refs;
    enum sim_work_kind kind;
    struct sim_site site;
    struct sim_access *accesses;
    unsigned access_count;
    union {
        struct {
            uint64_t target, source;
            size_t target_pitch, source_pitch, target_slice, source_slice;
            size_t width, height, depth;
            void *snapshot; /* owned: pageable source as it was at the call */
        } copy;
        struct {
            uint64_t target;
            size_t pitch, width, height; /* width in elements */
            uint32_t value;
            unsigned element; /* 1, 2 or 4 bytes */
        } fill;
        struct {
            const struct sim_kernel *kernel;
            void *values;  /* owned */
            void **params; /* owned: into values */
        } kernel;
        struct {
            CUhostFn function;
            void *user;
        } host;
        struct {
            CUstreamCallback function;
            CUstream stream;
            void *user;
        } callback;
        struct {
            uint64_t address, value;
            unsigned flags;
            bool wide;
        } value;
        struct sim_block *block; /* SIM_ALLOC, SIM_FREE; owned by accesses[0] */
        struct {
            struct sim_event
                *event; /* external record or wait inside a graph, a reference */
            bool records;
        } mark;
    } u;
};

enum sim_op_state { SIM_PENDING, SIM_DONE, SIM_CANCELLED };

/* Work on its way through a stream. */
struct sim_op {
    unsigned refs;
    uint64_t number; /* order of submission */
    enum sim_op_state state;
    struct sim_stream *stream; /* a reference, while pending */
    struct sim_work *work;     /* a reference, while pending */
    struct sim_op **needs; /* references: what was pending when this was submitted */
    unsigned need_count;
    struct sim_op **feeds; /* borrowed: pending operations that need this one */
    unsigned feed_count, feed_capacity;
    unsigned unmet;     /* how many of `needs` are pending */
    int ready_index;    /* in the list of operations with nothing unmet, or -1 */
    uint64_t mark;      /* epoch of the last search that met it */
    unsigned queries;   /* that said NOT_READY */
    double finished_at; /* simulated milliseconds */
    struct sim_op *older, *newer;
};

/* A place in a stream that others can wait for. */
struct sim_point {
    struct sim_op *op; /* a reference; NULL: nothing there, or known done */
    struct sim_clock clock;
};

struct sim_work *sim_work_new(const struct sim_caller *by, enum sim_work_kind kind);
void sim_work_release(struct sim_work *work);
/* Adds bytes [address, address+nbytes) to what the work touches. Wrong addresses, freed
 * memory and overruns are findings and INVALID_VALUE; plain host memory is fine if
 * `host`. */
CUresult sim_work_touch(struct sim_work *work, uint64_t address, size_t nbytes,
                        bool writes, bool host);
/* Row by row where there are few, so that neighbours in the gaps of a pitch do not
 * race. */
CUresult sim_work_touch_rows(struct sim_work *work, uint64_t address, size_t pitch,
                             size_t width, size_t height, bool writes, bool host);
struct sim_op *sim_op_keep(struct sim_op *op);
void sim_op_release(struct sim_op *op);
/* Puts work behind what the stream holds and behind `points`; returns a borrowed
 * operation. */
struct sim_op *sim_enqueue(struct sim_stream *stream, struct sim_work *work,
                           const struct sim_point *const *points, unsigned point_count);
/* Work of a graph on its way through `stream`: behind `needs`, not behind what was
 * submitted to the stream since. Returns a borrowed operation. */
struct sim_op *sim_enqueue_node(struct sim_stream *stream, struct sim_work *work,
                                struct sim_op *const *needs, unsigned need_count,
                                const struct sim_point *point);
/* sim_enqueue, or a node of the graph that the stream is capturing. */
CUresult sim_submit(struct sim_stream *stream, struct sim_work *work);
/* Blocks until all of the operations are over; the caller keeps them alive. Lock: let
 * go while a gate is closed. */
CUresult sim_await(struct sim_op *const *ops, size_t count);
CUresult sim_poll(struct sim_op *op);
/* Everything pending in the context (all contexts: NULL), and the host learns of it. */
CUresult sim_await_context(struct sim_context *context);
void sim_cancel(struct sim_context *context);
uint64_t sim_run_all(void);
void sim_run_for_host_functions(void);
/* The policy's turn: called when an entry point ends. */
void sim_settle(void);
void sim_scheduler_reset(void);

/* scheduler_policy.c: who is next, among the operations with nothing unmet */
struct sim_op *sim_pick(uint64_t epoch, bool forced);
bool sim_gate_is_open(const struct sim_work *work);
uint64_t sim_random(void);
unsigned sim_choose(unsigned alternatives);
void sim_policy_reset(void);

/* Does the work of one operation (work.c). */
void sim_execute(const struct sim_op *op);
/* Finds races of the accesses with those of before, and remembers them (clocks.c). */
void sim_track(struct sim_access *accesses, unsigned count, const struct sim_site *site,
               const struct sim_clock *clock, unsigned node);
/* Whether something touched the block that the host has not waited for. */
bool sim_block_is_in_use(const struct sim_block *block, struct sim_site *who);

/* driver_thread.c */
void sim_call_on_driver_thread(void (*function)(void *), void *argument);
void sim_callback_later(CUstreamCallback function, CUstream stream, CUresult status,
                        void *user);
void sim_driver_thread_needed(void);

/* --- objects --- */

enum sim_kind {
    SIM_KIND_CONTEXT,
    SIM_KIND_STREAM,
    SIM_KIND_EVENT,
    SIM_KIND_POOL,
    SIM_KIND_GRAPH,
    SIM_KIND_GRAPH_EXEC,
    SIM_KIND_GRAPH_NODE,
    SIM_KIND_LIBRARY,
    SIM_KIND_KERNEL,
    SIM_KIND_BLOCK,
    SIM_KIND_OP,
    SIM_KIND_COUNT
};

struct sim_context {
    uint64_t handle;
    uint64_t id;
    int device;
    bool is_primary;
    unsigned flags;
    CUresult error; /* sticky */
    struct sim_stream *legacy;
    struct sim_stream *streams; /* all of them, the legacy one too */
    struct sim_context *previous, *next;
};

struct sim_stream {
    unsigned refs;   /* its own, and one for each pending operation */
    uint64_t handle; /* 0 for the default streams, and once destroyed */
    uint64_t id;
    struct sim_context *context;
    unsigned flags;
    int priority;
    bool is_legacy;
    uint64_t thread; /* of a per-thread default stream, else 0 */
    struct sim_stream_name name;
    unsigned node;
    struct sim_point tail; /* its last operation */
    uint64_t submitted;
    struct sim_capture *capture;    /* a reference, or NULL */
    struct sim_node **capture_tail; /* borrowed: what the next node depends on */
    unsigned capture_tail_count;
    struct sim_stream *previous, *next; /* in the context */
};

struct sim_event {
    unsigned refs;
    uint64_t handle;  /* 0 once destroyed */
    uint64_t context; /* its handle: a context can die first */
    unsigned flags;
    bool is_recorded;
    struct sim_point point;
    struct sim_capture *capture; /* a reference: last recorded in a capture */
    struct sim_node **nodes; /* owned array, nodes borrowed from the capture's graph */
    unsigned node_count;
};

struct sim_pool {
    uint64_t handle;
    int device;
    uint64_t release_threshold, used, used_high;
    int reuse[3];
};

struct sim_device {
    struct sim_context *primary; /* NULL while inactive */
    unsigned retained, primary_flags;
    struct sim_pool *default_pool, *pool;
};

struct sim_state {
    pthread_mutex_t lock;
    pthread_cond_t progress; /* something ran, or a gate may have opened */
    struct simcuda_config config;
    bool is_configured, is_initialized, is_forked;
    unsigned generation; /* of simulations in this process */
    struct sim_device devices[SIM_MAX_DEVICES];
    struct sim_context *contexts; /* all of them */
    struct sim_clock host;
    uint64_t next_id, next_stream;
    double now_ms; /* fake clock: one microsecond an operation */
    unsigned host_functions_pending;
    uint64_t effort;    /* steps of searching and comparing */
    uint64_t last_call; /* counts calls, to see when the driver has been idle */
};

extern struct sim_state sim;

/* handles.c */
uint64_t sim_handle_new(enum sim_kind kind, void *object);
void *sim_handle_get(enum sim_kind kind, const void *handle);
void sim_handle_drop(enum sim_kind kind, uint64_t handle);
void sim_handles_reset(void (*each)(enum sim_kind, void *));
void sim_count(enum sim_kind kind, int change);
#define SIM_HANDLE(type, value) ((type)(uintptr_t)(value))

/* contexts.c, streams.c, events.c */
struct sim_context *sim_context_primary(int device);
void sim_context_destroy(struct sim_context *context);
struct sim_context *sim_context_current(const struct sim_thread *thread);
CUresult sim_stream_get(const struct sim_caller *by, CUstream handle,
                        struct sim_stream **out);
struct sim_stream *sim_stream_new(struct sim_context *context, unsigned flags);
void sim_stream_kill(struct sim_stream *stream);
/* The thread's default streams: what they hold still runs. */
void sim_streams_of_thread_kill(uint64_t thread);
void sim_stream_release(struct sim_stream *stream);
bool sim_stream_is_blocking(const struct sim_stream *stream);
/* The host now knows what the stream's work so far knows. */
CUresult sim_stream_await(struct sim_stream *stream);
CUresult sim_event_get(CUevent handle, struct sim_event **out);
void sim_event_release(struct sim_event *event);
void sim_event_set(struct sim_event *event, struct sim_op *op);
void sim_event_set_captured(struct sim_event *event, struct sim_capture *capture,
                            struct sim_node *const *nodes, unsigned count);
struct sim_pool *sim_pool_of(int device);
void sim_pool_use(struct sim_pool *pool, size_t nbytes, bool more);
void sim_point_set(struct sim_point *point, struct sim_op *op,
                   const struct sim_clock *clock);

/* dispatch.c, lookup.c */
struct sim_site sim_site_of(const struct sim_caller *by);
/* Blocking with the GIL held is a finding; SIM_BLOCKS asks for this check. */
void sim_check_gil(const struct sim_caller *by);
void sim_configure(const struct simcuda_config *config);
void sim_failures_clear(void);
const char *sim_name_text(enum sim_name name);
void *sim_alloc(size_t nbytes); /* zeroed; a test tool may end where memory does */
void *sim_grow(void *array, size_t nbytes);
typedef void (*sim_function)(void);
sim_function sim_lookup(const char *name, int version, bool per_thread,
                        CUdriverProcAddressQueryResult *result);

#endif
