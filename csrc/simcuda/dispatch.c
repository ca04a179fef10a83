/* Entering and leaving the driver: counting, injected failures, the lock, who may call
 * what. And cuGetProcAddress, which finds entry points by name, version and default
 * stream. SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "entry.h"

struct sim_state sim = {.lock = PTHREAD_MUTEX_INITIALIZER,
                        .progress = PTHREAD_COND_INITIALIZER};

static _Thread_local struct sim_thread self;
static atomic_ullong threads;
static atomic_ullong calls[SIM_CALL_COUNT];
static struct {
    uint64_t countdown; /* 0: none */
    CUresult status;
} failures[SIM_CALL_COUNT];

static const char *const names[SIM_CALL_COUNT] = {
#define SIM_NAME(name) #name,
#define SIM_ENTRY(name, version, symbol)
#define SIM_ENTRY_PT(name, version, symbol, pt_version, pt_symbol)
#define SIM_ALIAS(name, version, symbol)
#include "symbols.inc"
#undef SIM_NAME
#undef SIM_ENTRY
#undef SIM_ENTRY_PT
#undef SIM_ALIAS
};

void *
sim_alloc(size_t nbytes)
{
    void *memory = calloc(1, nbytes == 0 ? 1 : nbytes);
    if (memory == NULL) {
        fprintf(stderr, "simulated CUDA driver: the host is out of memory\n");
        abort();
    }
    return memory;
}

void *
sim_grow(void *array, size_t nbytes)
{
    void *memory = realloc(array, nbytes);
    if (memory == NULL) {
        fprintf(stderr, "simulated CUDA driver: the host is out of memory\n");
        abort();
    }
    return memory;
}

const char *
sim_name_text(enum sim_name name)
{
    return names[name];
}

/* --- configuration --- */

static uint64_t
from_environment(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);
    return text == NULL || *text == '\0' ? fallback : strtoull(text, NULL, 10);
}

static int32_t
policy_from_environment(void)
{
    static const char *const policies[] = {"lazy", "eager", "random", "exhaustive"};
    const char *text = getenv("SIMCUDA_POLICY");
    for (int32_t i = 0; text != NULL && i < 4; i++) {
        if (strcmp(text, policies[i]) == 0) {
            return i;
        }
    }
    return SIMCUDA_LAZY;
}

static void
in_child_after_fork(void)
{
    sim.is_forked = true;
}

/* Lock: held. Without a configuration, one from the environment, for clients that know
 * nothing of this library. */
void
sim_configure(const struct simcuda_config *config)
{
    static bool is_registered;
    if (!is_registered) {
        pthread_atfork(NULL, NULL, in_child_after_fork);
        is_registered = true;
    }
    if (config != NULL) {
        sim.config = *config;
    } else {
        sim.config = (struct simcuda_config){
            .devices = (int32_t)from_environment("SIMCUDA_DEVICES", 1),
            .policy = policy_from_environment(),
            .seed = from_environment("SIMCUDA_SEED", 0),
            .lazy_queries = (uint32_t)from_environment("SIMCUDA_LAZY_QUERIES", 1),
            .window = 4096,
            .idle_ms = 5,
            .timeout_s = (double)from_environment("SIMCUDA_TIMEOUT", 20),
            .device_memory = (uint64_t)16 << 30,
        };
    }
    if (sim.config.devices > SIM_MAX_DEVICES) {
        sim.config.devices = SIM_MAX_DEVICES;
    }
    sim.is_configured = true;
    sim_policy_reset();
}

/* --- entering and leaving --- */

static pthread_key_t thread_key;
static pthread_once_t thread_key_once = PTHREAD_ONCE_INIT;

static void
thread_ended(void *id)
{
    if (!sim.is_forked) {
        pthread_mutex_lock(&sim.lock);
        sim_streams_of_thread_kill((uint64_t)(uintptr_t)id);
        pthread_mutex_unlock(&sim.lock);
    }
}

static void
make_thread_key(void)
{
    pthread_key_create(&thread_key, thread_ended);
}

struct sim_thread *
sim_thread_self(void)
{
    if (self.id == 0) {
        self.id = atomic_fetch_add(&threads, 1) + 1;
        pthread_once(&thread_key_once, make_thread_key);
        pthread_setspecific(thread_key, (void *)(uintptr_t)self.id);
    }
    return &self;
}

struct sim_site
sim_site_of(const struct sim_caller *by)
{
    const struct sim_thread *thread = sim_thread_self();
    return (struct sim_site){
        .call = names[by->name], .label = thread->label, .address = by->address};
}

/* Blocking calls with the GIL held stall every Python thread, and deadlock with a host
 * function that needs it. */
void
sim_check_gil(const struct sim_caller *by)
{
    static int (*is_held)(void);
    static atomic_bool is_looked_up;
    if (!atomic_load(&is_looked_up)) {
        void *found = dlsym(RTLD_DEFAULT, "PyGILState_Check");
        memcpy(&is_held, &found, sizeof(found));
        atomic_store(&is_looked_up, true);
    }
    static int (*is_running)(void);
    if (is_held != NULL && is_running == NULL) {
        void *found = dlsym(RTLD_DEFAULT, "Py_IsInitialized");
        memcpy(&is_running, &found, sizeof(found));
    }
    if (is_held != NULL && is_running != NULL && is_running() != 0 && is_held() == 1) {
        struct sim_site site = sim_site_of(by);
        sim_finding(
            "gil-held", &site, NULL,
            "%s can block and was called with the GIL held: release it around the "
            "call",
            names[by->name]);
    }
}

static CUresult
injected(enum sim_name name)
{
    if (failures[name].countdown == 0 || --failures[name].countdown > 0) {
        return CUDA_SUCCESS;
    }
    return failures[name].status;
}

static CUresult
admit(struct sim_caller *by)
{
    CUresult status = injected(by->name);
    if (status != CUDA_SUCCESS) {
        return status;
    }
    if ((by->needs & SIM_INIT) != 0 && !sim.is_initialized) {
        return CUDA_ERROR_NOT_INITIALIZED;
    }
    by->context = sim_context_current(by->thread);
    if ((by->needs & SIM_CONTEXT) == SIM_CONTEXT) {
        if (by->context == NULL) {
            return by->thread->depth > 0 ? CUDA_ERROR_CONTEXT_IS_DESTROYED
                                         : CUDA_ERROR_INVALID_CONTEXT;
        }
        if (by->context->error != CUDA_SUCCESS) {
            return by->context->error;
        }
    }
    if ((by->needs & SIM_UNSAFE) != 0) {
        status = sim_capture_check_unsafe(by->thread);
    }
    return status;
}

static CUresult
enter_pure(const struct sim_caller *by)
{
    if (by->thread->in_host_function) {
        return CUDA_SUCCESS;
    }
    pthread_mutex_lock(&sim.lock);
    CUresult status = injected(by->name);
    pthread_mutex_unlock(&sim.lock);
    return status;
}

CUresult
sim_enter(struct sim_caller *by)
{
    if (sim.is_forked) {
        return CUDA_ERROR_NOT_INITIALIZED;
    }
    by->thread = sim_thread_self();
    atomic_fetch_add(&calls[by->name], 1);
    if ((by->needs & SIM_PURE) != 0) {
        return enter_pure(by);
    }
    if (by->thread->in_host_function) {
        struct sim_site site = sim_site_of(by);
        sim_finding(
            "call-in-host-function", &site, NULL,
            "%s was called from a host function, where no driver call is permitted",
            names[by->name]);
        return CUDA_ERROR_NOT_PERMITTED;
    }
    if ((by->needs & SIM_BLOCKS) != 0) {
        sim_check_gil(by);
    }
    pthread_mutex_lock(&sim.lock);
    if (!sim.is_configured) {
        sim_configure(NULL);
    }
    sim.last_call++;
    if (by->thread->generation != sim.generation) {
        by->thread->generation = sim.generation;
        by->thread->depth = 0;
        by->thread->capture_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
    }
    CUresult status = admit(by);
    if (status != CUDA_SUCCESS) {
        pthread_mutex_unlock(&sim.lock);
    }
    return status;
}

CUresult
sim_leave(struct sim_caller *by, CUresult status)
{
    if ((by->needs & SIM_PURE) == 0) {
        sim_settle();
        pthread_mutex_unlock(&sim.lock);
    }
    return status;
}

/* --- controls --- */

unsigned
simcuda_name_count(void)
{
    return SIM_CALL_COUNT;
}

const char *
simcuda_name(unsigned index)
{
    return index < SIM_CALL_COUNT ? names[index] : NULL;
}

uint64_t
simcuda_calls(unsigned index)
{
    return index < SIM_CALL_COUNT ? atomic_load(&calls[index]) : 0;
}

void
simcuda_reset_calls(void)
{
    for (unsigned i = 0; i < SIM_CALL_COUNT; i++) {
        atomic_store(&calls[i], 0);
    }
}

int
simcuda_fail(const char *name, uint64_t nth, int status)
{
    for (unsigned i = 0; i < SIM_CALL_COUNT; i++) {
        if (strcmp(names[i], name) == 0) {
            pthread_mutex_lock(&sim.lock);
            failures[i].countdown = nth;
            failures[i].status = (CUresult)status;
            pthread_mutex_unlock(&sim.lock);
            return 0;
        }
    }
    return -1;
}

void
sim_failures_clear(void)
{
    memset(failures, 0, sizeof(failures));
}

const char *
simcuda_label(const char *text)
{
    struct sim_thread *thread = sim_thread_self();
    const char *before = thread->label;
    thread->label = text == NULL ? NULL : sim_intern(text);
    return before;
}
