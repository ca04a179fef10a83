/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated CUDA driver as seen by a C test: its controls, the few driver calls
 * that make work, and streams with data in them. The lower half loads the same library
 * through its own loader, as it would a real driver.
 */
#ifndef SIM_H_
#define SIM_H_

#include "gpu.h"

#define SIM_CALLS(X)                                                                   \
    X(cuCtxSetCurrent, (void *context))                                                \
    X(cuCtxGetCurrent, (void **context))                                               \
    X(cuDevicePrimaryCtxRetain, (void **context, int device))                          \
    X(cuCtxCreate_v2, (void **context, unsigned flags, int device))                    \
    X(cuStreamCreate, (void **stream, unsigned flags))                                 \
    X(cuStreamSynchronize, (void *stream))                                             \
    X(cuStreamWaitValue32_v2,                                                          \
      (void *stream, uint64_t address, uint32_t value, unsigned flags))                \
    X(cuStreamBeginCapture_v2, (void *stream, int mode))                               \
    X(cuStreamEndCapture, (void *stream, void **graph))                                \
    X(cuStreamIsCapturing, (void *stream, int *status))                                \
    X(cuMemAlloc_v2, (uint64_t *address, size_t nbytes))                               \
    X(cuMemHostAlloc, (void **memory, size_t nbytes, unsigned flags))                  \
    X(cuMemsetD32Async, (uint64_t address, unsigned value, size_t n, void *stream))    \
    X(cuMemcpyDtoDAsync_v2, (uint64_t to, uint64_t from, size_t nbytes, void *stream)) \
    X(cuMemcpyDtoHAsync_v2, (void *to, uint64_t from, size_t nbytes, void *stream))    \
    X(cuLaunchHostFunc, (void *stream, void (*fn)(void *), void *arg))                 \
    X(simcuda_fail, (const char *name, uint64_t nth, int status))

typedef struct sim_calls {
#define SIM_FIELD(name, arguments) int(*name) arguments;
    SIM_CALLS(SIM_FIELD)
#undef SIM_FIELD
} sim_calls;

extern sim_calls sim;

enum { SIM_DEVICES = 2 };

static const uint64_t LONG = 20000000000u; /* ns; only reached by a failure */
static const dlx_stream NO_PRODUCER = {0};

/* Drops so far, and a release that makes one. */
extern _Atomic int n_drops;
void drop(void *arg);
dlx_release_result release(dlx_stream consumer, dlx_stream producer);

/* Load the simulated driver (lazy: nothing runs until something forces it), make both
 * devices' primary contexts, and the first one current. */
void sim_open(void);

/* A new stream of a device; flags: 0 blocking, 1 non-blocking. */
dlx_stream sim_stream(int device, unsigned flags);

/* One int32 of device memory, holding 1. */
uint64_t sim_cell(int device);

/* Queue: cell = value. Read: make the stream's work happen, and the cell's value. */
void sim_write(uint64_t cell, unsigned value, dlx_stream stream);
unsigned sim_read(uint64_t cell, dlx_stream stream);

/* Queue: *to = cell, into pinned memory from sim_pinned(). */
uint32_t *sim_pinned(void);
void sim_fetch(uint32_t *to, uint64_t cell, dlx_stream stream);

/* Hold a stream until the latch, a pinned word of zero, is opened. */
uint32_t *sim_latch(dlx_stream stream);
void sim_open_latch(uint32_t *latch);

/* Calls of an entry point so far, of all of them, and findings. */
uint64_t sim_count(const char *name);
uint64_t sim_count_all(void);
void sim_forget(void);
unsigned sim_findings(void);

/* Put a device in error. */
void sim_kill(int device, int status);

void *sim_current(void);

/* HIP's names for the same simulation: the few that make work. After sim_open(). */
#define SIM_HIP_CALLS(X)                                                             \
    X(hipSetDevice, (int device))                                                    \
    X(hipGetDevice, (int *device))                                                   \
    X(hipStreamCreateWithFlags, (void **stream, unsigned flags))                     \
    X(hipStreamSynchronize, (void *stream))                                          \
    X(hipMalloc, (uint64_t *address, size_t nbytes))                                 \
    X(hipMemsetD32Async, (uint64_t address, unsigned value, size_t n, void *stream)) \
    X(hipMemcpyDtoHAsync, (void *to, uint64_t from, size_t nbytes, void *stream))

typedef struct sim_hip_calls {
#define SIM_FIELD(name, arguments) int(*name) arguments;
    SIM_HIP_CALLS(SIM_FIELD)
#undef SIM_FIELD
} sim_hip_calls;

extern sim_hip_calls sim_hip;
void sim_open_hip(void);

#endif
