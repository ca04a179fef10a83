/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of sim.h. SIM_LIBRARY comes from the build.
 */
#include "sim.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "simcuda/simcuda.h"

sim_calls sim;
atomic_long dlx_alloc_countdown; /* the extension has its own */

static void *library;
static void *contexts[SIM_DEVICES];

/* A control of the simulation, by name. */
#define CONTROL(name) ((__typeof__(&name))find(#name))

typedef void (*any_call)(void);

static any_call
find_in(void *library, const char *name)
{
    any_call call;
    void *address = dlsym(library, name);
    if (address == NULL) {
        fprintf(stderr, "the simulated driver has no %s\n", name);
        exit(1);
    }
    memcpy(&call, &address, sizeof(call));
    return call;
}

static any_call
find(const char *name)
{
    return find_in(library, name);
}

/* Set-up only: whatever fails here is not what is tested. */
static void
must(int code, const char *what)
{
    if (code != 0) {
        fprintf(stderr, "%s failed with %d\n", what, code);
        exit(1);
    }
}
#define MUST(call) must(call, #call)

void
sim_open(void)
{
    struct simcuda_config config = {
        .devices = SIM_DEVICES,
        .policy = SIMCUDA_LAZY,
        .lazy_queries = 1,
        .idle_ms = 5,
        .timeout_s = 30,
        .device_memory = (uint64_t)1 << 30,
    };
    setenv("DLEXCHANGE_CUDA_DRIVER", SIM_LIBRARY, 1);
    library = dlopen(SIM_LIBRARY, RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
#define FIND(name, arguments) sim.name = (__typeof__(sim.name))find(#name);
    SIM_CALLS(FIND)
    CONTROL(simcuda_reset)(&config);
    MUST(dlx_driver_load(kDLCUDA, NULL));
    for (int i = 0; i < SIM_DEVICES; i++) {
        MUST(sim.cuDevicePrimaryCtxRetain(&contexts[i], i));
    }
    MUST(sim.cuCtxSetCurrent(contexts[0]));
}

/* Enter a device's primary context for the test's own calls. */
static void *
enter(int device)
{
    void *before = sim_current();
    MUST(sim.cuCtxSetCurrent(contexts[device]));
    return before;
}

dlx_stream
sim_stream(int device, unsigned flags)
{
    void *stream = NULL;
    void *before = enter(device);
    MUST(sim.cuStreamCreate(&stream, flags));
    MUST(sim.cuCtxSetCurrent(before));
    return (dlx_stream){kDLCUDA, device, (uintptr_t)stream};
}

uint64_t
sim_cell(int device)
{
    uint64_t cell = 0;
    dlx_stream stream = sim_stream(device, DLX_STREAM_NON_BLOCKING);
    void *before = enter(device);
    MUST(sim.cuMemAlloc_v2(&cell, 4));
    MUST(sim.cuMemsetD32Async(cell, 1, 1, (void *)stream.handle));
    MUST(sim.cuStreamSynchronize((void *)stream.handle));
    MUST(sim.cuCtxSetCurrent(before));
    return cell;
}

void
sim_write(uint64_t cell, unsigned value, dlx_stream stream)
{
    void *before = enter(stream.device_id);
    MUST(sim.cuMemsetD32Async(cell, value, 1, (void *)stream.handle));
    MUST(sim.cuCtxSetCurrent(before));
}

uint32_t *
sim_pinned(void)
{
    void *memory = NULL;
    void *before = enter(0);
    MUST(sim.cuMemHostAlloc(&memory, 64, DLX_HOST_PORTABLE));
    MUST(sim.cuCtxSetCurrent(before));
    return memset(memory, 0, 64);
}

void
sim_fetch(uint32_t *to, uint64_t cell, dlx_stream stream)
{
    void *before = enter(stream.device_id);
    MUST(sim.cuMemcpyDtoHAsync_v2(to, cell, 4, (void *)stream.handle));
    MUST(sim.cuCtxSetCurrent(before));
}

unsigned
sim_read(uint64_t cell, dlx_stream stream)
{
    uint32_t *to = sim_pinned();
    sim_fetch(to, cell, stream);
    void *before = enter(stream.device_id);
    MUST(sim.cuStreamSynchronize((void *)stream.handle));
    MUST(sim.cuCtxSetCurrent(before));
    return *to;
}

uint32_t *
sim_latch(dlx_stream stream)
{
    enum { GREATER_OR_EQUAL = 0 };
    uint32_t *latch = sim_pinned();
    void *before = enter(stream.device_id);
    MUST(sim.cuStreamWaitValue32_v2((void *)stream.handle, (uint64_t)(uintptr_t)latch,
                                    1, GREATER_OR_EQUAL));
    MUST(sim.cuCtxSetCurrent(before));
    return latch;
}

void
sim_open_latch(uint32_t *latch)
{
    __atomic_store_n(latch, 1, __ATOMIC_SEQ_CST);
    CONTROL(simcuda_poke)();
}

uint64_t
sim_count(const char *name)
{
    unsigned n = CONTROL(simcuda_name_count)();
    for (unsigned i = 0; i < n; i++) {
        if (strcmp(CONTROL(simcuda_name)(i), name) == 0) {
            return CONTROL(simcuda_calls)(i);
        }
    }
    fprintf(stderr, "the simulated driver counts no %s\n", name);
    exit(1);
}

uint64_t
sim_count_all(void)
{
    uint64_t sum = 0;
    unsigned n = CONTROL(simcuda_name_count)();
    for (unsigned i = 0; i < n; i++) {
        sum += CONTROL(simcuda_calls)(i);
    }
    return sum;
}

void
sim_forget(void)
{
    CONTROL(simcuda_reset_calls)();
}

unsigned
sim_findings(void)
{
    struct simcuda_finding finding;
    unsigned n = CONTROL(simcuda_finding_count)();
    for (unsigned i = 0; i < n; i++) {
        if (CONTROL(simcuda_finding_get)(i, &finding) == 0) {
            fprintf(stderr, "%s: %s (%s; %s)\n", finding.kind, finding.message,
                    finding.first, finding.second);
        }
    }
    return n;
}

void
sim_kill(int device, int status)
{
    CONTROL(simcuda_kill)(device, status);
}

sim_hip_calls sim_hip;

/* Opened first, so that the loader finds it already in the process, as it would find
 * the runtime that a framework has brought. */
void
sim_open_hip(void)
{
    void *hip = dlopen(SIM_HIP_LIBRARY, RTLD_NOW);
    if (hip == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
#define FIND_HIP(name, arguments) \
    sim_hip.name = (__typeof__(sim_hip.name))find_in(hip, #name);
    SIM_HIP_CALLS(FIND_HIP)
    MUST(dlx_driver_load(kDLROCM, NULL));
}

void *
sim_current(void)
{
    void *current = NULL;
    MUST(sim.cuCtxGetCurrent(&current));
    return current;
}

_Atomic int n_drops;

void
drop(void *arg)
{
    (void)arg;
    atomic_fetch_add(&n_drops, 1);
}

dlx_release_result
release(dlx_stream consumer, dlx_stream producer)
{
    dlx_release_request request = {&consumer, 1, producer, dlx_thread_id(), drop, NULL};
    return dlx_release(&request, NULL);
}
