/* Entry points of the driver API: who calls, what a call needs, and how one is defined.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMCUDA_ENTRY_H
#define SIMCUDA_ENTRY_H

#include "sim.h"

enum sim_needs {
    SIM_ANYTIME = 0,
    SIM_INIT = 1,
    SIM_CONTEXT = 2 | SIM_INIT, /* a current one, not in error */
    SIM_BLOCKS = 4,             /* the host may wait: not with the GIL held */
    SIM_UNSAFE = 8,             /* not while a capture forbids it */
    SIM_PURE = 16               /* runs without the lock, in a host function too */
};

struct sim_thread {
    uint64_t id; /* 1, 2, ... in order of first call */
    unsigned generation;
    unsigned depth;
    uint64_t contexts[SIM_MAX_STACK]; /* handles: a context may die meanwhile */
    CUstreamCaptureMode capture_mode;
    const char *label;
    bool in_host_function;
};

/* One call into the driver. */
struct sim_caller {
    enum sim_name name;
    bool per_thread; /* stream 0 means the per-thread default stream */
    unsigned needs;
    const void *address;
    struct sim_thread *thread;
    struct sim_context *context; /* current one; set if SIM_CONTEXT was asked for */
};

struct sim_thread *sim_thread_self(void);
/* Counts, checks, takes the lock; on an error the lock is not held. */
CUresult sim_enter(struct sim_caller *by);
/* Gives the scheduling policy its turn and lets the lock go. */
CUresult sim_leave(struct sim_caller *by, CUresult status);

#define SIM_EXPORT __attribute__((visibility("default")))
#define SIM_UNPACK(...) __VA_ARGS__

/* Defines an entry point; the body that follows runs under the lock with `by`, the
 * caller. SIM_API_PT also defines the variant (suffix _ptsz or _ptds) for which stream
 * 0 is the per-thread default stream. */
#define SIM_DEFINE(name, version, variant, is_pt, needs, params, args)               \
    SIM_EXPORT CUresult name##version##variant(SIM_UNPACK params);                   \
    SIM_EXPORT CUresult name##version##variant(SIM_UNPACK params)                    \
    {                                                                                \
        struct sim_caller by = {                                                     \
            SIM_CALL_##name, is_pt, needs, __builtin_return_address(0), NULL, NULL}; \
        CUresult status = sim_enter(&by);                                            \
        return status ? status                                                       \
                      : sim_leave(&by, name##version##_body(&by, SIM_UNPACK args));  \
    }
#define SIM_BODY(name, version, params)   \
    static CUresult name##version##_body( \
        struct sim_caller *by __attribute__((unused)), SIM_UNPACK params)
#define SIM_API(name, version, needs, params, args)         \
    SIM_BODY(name, version, params);                        \
    SIM_DEFINE(name, version, , false, needs, params, args) \
    SIM_BODY(name, version, params)
#define SIM_API_PT(name, version, variant, needs, params, args)   \
    SIM_BODY(name, version, params);                              \
    SIM_DEFINE(name, version, , false, needs, params, args)       \
    SIM_DEFINE(name, version, variant, true, needs, params, args) \
    SIM_BODY(name, version, params)

#endif
