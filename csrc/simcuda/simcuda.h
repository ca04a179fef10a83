/* Controls of the simulated CUDA driver: what a test can ask of it beyond the driver
 * API. Threads: every function may be called from any thread, none needs the GIL; none
 * may be called from a host function, except simcuda_host_pointer. dlexchange.testing
 * wraps them. SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMCUDA_H
#define SIMCUDA_H

#include <stddef.h>
#include <stdint.h>

#define SIMCUDA_EXPORT __attribute__((visibility("default")))

enum simcuda_policy {
    SIMCUDA_LAZY,      /* nothing runs until forced; only ancestors, latest first */
    SIMCUDA_EAGER,     /* in the order of submission, at once where possible */
    SIMCUDA_RANDOM,    /* seeded */
    SIMCUDA_EXHAUSTIVE /* follows, and reports, a list of choices */
};

struct simcuda_config {
    int32_t devices;
    int32_t policy;
    uint64_t seed;
    uint32_t
        lazy_queries; /* queries of pending work that say NOT_READY before it may run */
    uint32_t window;  /* pending operations before the oldest are run; 0: no limit */
    uint32_t idle_ms; /* host functions nobody forces run after this; 0: never */
    uint32_t reuse;   /* 1: hand out freed addresses and handles at once */
    double timeout_s; /* of a blocking call that waits for a closed gate */
    uint64_t device_memory; /* bytes a device claims to have */
};

struct simcuda_finding {
    const char *kind;
    const char *message;
    const char *first; /* call site, "" if there is none */
    const char *second;
    uint64_t times;
};

/* Forgets everything and starts anew: handles of before are invalid, memory is
 * unmapped. */
SIMCUDA_EXPORT void simcuda_reset(const struct simcuda_config *config);

/* Calls by entry point, counted under the name one asks cuGetProcAddress for. */
SIMCUDA_EXPORT unsigned simcuda_name_count(void);
SIMCUDA_EXPORT const char *simcuda_name(unsigned index);
SIMCUDA_EXPORT uint64_t simcuda_calls(unsigned index);
SIMCUDA_EXPORT void simcuda_reset_calls(void);
/* Makes the nth call from now (1 is the next) of a name return `status`; 0, or -1 for a
 * name that does not exist. */
SIMCUDA_EXPORT int simcuda_fail(const char *name, uint64_t nth, int status);

SIMCUDA_EXPORT unsigned simcuda_finding_count(void);
SIMCUDA_EXPORT int simcuda_finding_get(unsigned index, struct simcuda_finding *out);
SIMCUDA_EXPORT void simcuda_findings_clear(void);

/* Names the call site of what this thread submits next; NULL goes back to code
 * addresses. Returns the name it had before, NULL for none. */
SIMCUDA_EXPORT const char *simcuda_label(const char *text);
/* Puts every context of a device in error: `status` is what later calls return. */
SIMCUDA_EXPORT void simcuda_kill(int device, int status);
/* Runs whatever can run; returns how many operations are still pending. */
SIMCUDA_EXPORT uint64_t simcuda_run(void);
/* Tells waiting threads that the host has stored to a word they may be waiting for. */
SIMCUDA_EXPORT void simcuda_poke(void);
/* Operations submitted to a stream of a device so far; 0 for one that is not alive. 1
 * is the legacy default stream of the device's primary context, 2 the calling thread's.
 */
SIMCUDA_EXPORT uint64_t simcuda_submitted(int device, const void *stream);
/* Steps of searching and comparing so far: what an operation costs, without a clock. */
SIMCUDA_EXPORT uint64_t simcuda_effort(void);
/* Objects alive, and the most there were: "stream", "event", "block", "graph", ... */
SIMCUDA_EXPORT int64_t simcuda_live(const char *kind);
SIMCUDA_EXPORT int64_t simcuda_peak(const char *kind);

/* Where simulated memory lies in the host's memory; NULL for an address that is not
 * ours. */
SIMCUDA_EXPORT void *simcuda_host_pointer(uint64_t address);
/* Tells the race tracker that the host itself reads or writes pinned or managed memory.
 */
SIMCUDA_EXPORT void simcuda_host_access(uint64_t address, size_t nbytes, int writes);

/* A kernel body: `params` points at the values given at launch. Runs on the driver's
 * thread. */
typedef void (*simcuda_kernel)(void *user, void **params);
/* `sizes` in bytes and `modes` ('r', 'w', 'b' or '-') have one entry a parameter. */
SIMCUDA_EXPORT int simcuda_register_kernel(const char *name, simcuda_kernel body,
                                           void *user, unsigned nparams,
                                           const size_t *sizes, const char *modes);

/* Policy exhaustive: the choices to follow; afterwards the number of alternatives met
 * at each. */
SIMCUDA_EXPORT void simcuda_choices_set(const uint32_t *choices, unsigned n);
SIMCUDA_EXPORT unsigned simcuda_choices_get(uint32_t *alternatives, unsigned capacity);

#endif
