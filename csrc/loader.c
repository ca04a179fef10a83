/* SPDX-License-Identifier: Apache-2.0
 *
 * Drivers are loaded, never linked: dlopen at first need, one look-up per call of the
 * list in gpu.h, a stub for what is missing. No context is made here.
 * No GIL. Threads: any; loading is serialised.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc.h"
#include "gpu.h"

/* ---- Stubs for missing calls ---- */

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define DEFINE_STUB(field, arguments, ...) \
    static int missing_##field arguments   \
    {                                      \
        return DLX_GPU_NOT_SUPPORTED;      \
    }
DLX_GPU_CALLS(DEFINE_STUB)
#pragma GCC diagnostic pop

typedef void (*any_call)(void);

typedef struct symbol {
    const char *cuda;
    const char *suffix;
    const char *hip;
    int version;
    bool is_required;
    size_t offset;
    any_call stub;
} symbol;

enum { optional = false, required = true };

static const symbol symbols[] = {
#define DESCRIBE(field, arguments, cuda, version, suffix, hip, need) \
    {cuda,                                                           \
     suffix,                                                         \
     hip,                                                            \
     version,                                                        \
     need,                                                           \
     offsetof(dlx_gpu_calls, field),                                 \
     (any_call)missing_##field},
    DLX_GPU_CALLS(DESCRIBE)};

/* ---- Loaded drivers ---- */

/* CUDA, HIP, and whatever others bring (backend_gpu.c), which are never taken out. */
static _Atomic(dlx_gpu *) loaded[2 + DLX_MAX_BACKENDS];
static int32_t types[2 + DLX_MAX_BACKENDS] = {kDLCUDA, kDLROCM};
static _Atomic size_t n_types = 2; /* written under load_mutex */
static dlx_gpu *retired;
static _Atomic uint32_t generation;
static pthread_mutex_t load_mutex = PTHREAD_MUTEX_INITIALIZER;

/* NULL for a device type nobody drives. */
static _Atomic(dlx_gpu *) *
place_of(int32_t device_type)
{
    size_t n = atomic_load_explicit(&n_types, memory_order_acquire);
    for (size_t i = 0; i < n; i++) {
        if (types[i] == device_type) {
            return &loaded[i];
        }
    }
    return NULL;
}

/* Under load_mutex: make a place. False where there is none left. */
static bool
add_place(int32_t device_type)
{
    size_t n = atomic_load(&n_types);
    if (place_of(device_type) != NULL) {
        return true;
    }
    if (n < sizeof(types) / sizeof(types[0])) {
        types[n] = device_type;
        atomic_store_explicit(&n_types, n + 1, memory_order_release);
        return true;
    }
    return false;
}

dlx_gpu *
dlx_gpu_peek(int32_t device_type)
{
    _Atomic(dlx_gpu *) *place = place_of(device_type);
    return place != NULL ? atomic_load_explicit(place, memory_order_acquire) : NULL;
}

uint32_t
dlx_gpu_generation(void)
{
    return atomic_load(&generation);
}

/* Under load_mutex. */
static void
retire(int32_t device_type)
{
    dlx_gpu *gpu = atomic_exchange(place_of(device_type), NULL);
    if (gpu != NULL) {
        atomic_store(&gpu->is_retired, true);
        gpu->older = retired;
        retired = gpu;
        atomic_fetch_add(&generation, 1);
    }
}

/* NULL where the driver of that device type has no such call. */
static const char *
symbol_of(int32_t device_type, dlx_gpu_call call)
{
    return device_type == kDLROCM ? symbols[call].hip : symbols[call].cuda;
}

static dlx_gpu *
make_gpu(int32_t device_type, const dlx_gpu_calls *calls, const char *library)
{
    dlx_gpu *gpu = dlx_alloc_zeroed(sizeof(*gpu));
    if (gpu == NULL) {
        return NULL;
    }
    gpu->call = *calls;
    for (size_t i = 0; i < DLX_N_CALLS; i++) {
        any_call *entry = (any_call *)((char *)&gpu->call + symbols[i].offset);
        const char *name = symbol_of(device_type, (dlx_gpu_call)i);
        gpu->names[i] = name != NULL ? name : "(no such call)";
        if (*entry == NULL) {
            *entry = symbols[i].stub;
            gpu->missing |= UINT64_C(1) << i;
        }
    }
    gpu->contexts = device_type == kDLROCM   ? &dlx_hip_contexts
                    : device_type == kDLCUDA ? &dlx_cuda_contexts
                                             : &dlx_backend_contexts;
    gpu->device_type = device_type;
    gpu->device_count = DLX_MAX_DEVICES;
    snprintf(gpu->library, sizeof(gpu->library), "%s", library);
    pthread_mutex_init(&gpu->mutex, NULL);
    return gpu;
}

/* From here on any thread may use it. */
static void
publish(dlx_gpu *gpu)
{
    dlx_fork_guard();
    retire(gpu->device_type);
    atomic_store_explicit(place_of(gpu->device_type), gpu, memory_order_release);
}

dlx_gpu *
dlx_gpu_install(int32_t device_type, const dlx_gpu_calls *calls, const char *library)
{
    dlx_gpu *gpu = NULL;
    pthread_mutex_lock(&load_mutex);
    if (add_place(device_type)) {
        gpu = make_gpu(device_type, calls, library);
    }
    if (gpu != NULL) {
        publish(gpu);
    }
    pthread_mutex_unlock(&load_mutex);
    return gpu;
}

/* ---- Finding the library ---- */

static void *
open_library(int32_t device_type, const char **name)
{
    static const char *const cuda[] = {"libcuda.so.1", "libcuda.so", NULL};
    static const char *const hip[] = {"libamdhip64.so.7", "libamdhip64.so.6",
                                      "libamdhip64.so", NULL};
    const char *const *candidates = device_type == kDLROCM ? hip : cuda;
    const char *chosen =
        device_type == kDLROCM ? NULL : getenv("DLEXCHANGE_CUDA_DRIVER");
    if (chosen != NULL && chosen[0] != '\0') {
        *name = chosen;
        return dlopen(chosen, RTLD_NOW | RTLD_LOCAL);
    }
    /* A framework may have brought its own runtime; a second copy would not know its
     * streams, so one that is already loaded comes first. */
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; candidates[i] != NULL; i++) {
            int flags = RTLD_NOW | RTLD_LOCAL | (pass == 0 ? RTLD_NOLOAD : 0);
            void *library = dlopen(candidates[i], flags);
            if (library != NULL) {
                *name = candidates[i];
                return library;
            }
        }
    }
    *name = candidates[0];
    return NULL;
}

typedef int (*get_address_v1)(const char *, void **, int, uint64_t);
typedef int (*get_address_v2)(const char *, void **, int, uint64_t, int *);

/* POSIX lets dlsym's data pointer be a function; C says so only by way of memory. */
static any_call
as_call(void *address)
{
    any_call call;
    _Static_assert(sizeof(call) == sizeof(address), "function pointers are addresses");
    memcpy(&call, &address, sizeof(call));
    return call;
}

/* The signature wanted is the one of `version`; a driver hands out exactly that through
 * cuGetProcAddress, while plain dlsym finds it only under its suffixed name. */
static any_call
find_cuda_call(void *library, const symbol *wanted)
{
    void *address = NULL;
    char name[80];
    any_call v2 = as_call(dlsym(library, "cuGetProcAddress_v2"));
    any_call v1 = as_call(dlsym(library, "cuGetProcAddress"));
    int code = DLX_GPU_NOT_SUPPORTED;
    if (v2 != NULL) {
        int found;
        code = ((get_address_v2)v2)(wanted->cuda, &address, wanted->version, 0, &found);
    } else if (v1 != NULL) {
        code = ((get_address_v1)v1)(wanted->cuda, &address, wanted->version, 0);
    }
    if (code != DLX_GPU_SUCCESS || address == NULL) {
        snprintf(name, sizeof(name), "%s%s", wanted->cuda, wanted->suffix);
        address = dlsym(library, name);
    }
    return as_call(address);
}

static dlx_status
find_calls(int32_t device_type, void *library, const char *name, dlx_gpu_calls *out,
           dlx_error *err)
{
    for (size_t i = 0; i < DLX_N_CALLS; i++) {
        const symbol *wanted = &symbols[i];
        any_call *entry = (any_call *)((char *)out + wanted->offset);
        const char *symbol_name = symbol_of(device_type, (dlx_gpu_call)i);
        if (symbol_name == NULL) {
            continue;
        }
        *entry = device_type == kDLROCM ? as_call(dlsym(library, symbol_name))
                                        : find_cuda_call(library, wanted);
        if (*entry == NULL && wanted->is_required) {
            return dlx_fail(err, DLX_UNSUPPORTED, symbol_name,
                            "%s has no %s: the driver is too old, or not one", name,
                            symbol_name);
        }
    }
    return DLX_OK;
}

/* The simulated driver exports its controls beside the driver API. */
static bool
is_simulated(void *library)
{
    return dlsym(library, "simcuda_reset") != NULL;
}

/* ---- Loading ---- */

static dlx_status
load(int32_t device_type, dlx_error *err)
{
    const char *name = NULL;
    dlx_gpu_calls calls = {0};
    int count = 0, version = 0;
    void *library = open_library(device_type, &name);
    if (library == NULL) {
        const char *why = dlerror();
        return dlx_fail(err, DLX_NO_DRIVER, "dlopen",
                        "no driver: %s cannot be loaded (%s)", name,
                        why != NULL ? why : "no reason given");
    }
    dlx_status status = find_calls(device_type, library, name, &calls, err);
    if (status != DLX_OK) {
        return status;
    }
    dlx_gpu_call call = DLX_CALL_init;
    int code = calls.init(0);
    if (code == DLX_GPU_SUCCESS) {
        call = DLX_CALL_device_get_count;
        code = calls.device_get_count(&count);
    }
    if (code == DLX_GPU_SUCCESS) {
        call = DLX_CALL_driver_get_version;
        code = calls.driver_get_version(&version);
    }
    if (code != DLX_GPU_SUCCESS) {
        const char *symbol = symbol_of(device_type, call);
        dlx_fail(err, DLX_NO_DRIVER, symbol,
                 "%s was loaded, but does not start (%s: status %d): no usable device",
                 name, symbol, code);
        if (err != NULL) {
            err->driver_status = code;
        }
        return DLX_NO_DRIVER;
    }
    dlx_gpu *gpu = make_gpu(device_type, &calls, name);
    if (gpu == NULL) {
        return dlx_fail(err, DLX_NO_MEMORY, "dlx_driver_load", "out of memory");
    }
    gpu->device_count = count < DLX_MAX_DEVICES ? count : DLX_MAX_DEVICES;
    gpu->version = version;
    gpu->is_simulated = is_simulated(library);
    publish(gpu);
    return DLX_OK;
}

dlx_status
dlx_gpu_get(int32_t device_type, dlx_gpu **out, dlx_error *err)
{
    dlx_status status = DLX_OK;
    if (dlx_is_stopped()) {
        return dlx_fail(err, DLX_STOPPED, "dlx_driver_load", "%s",
                        dlx_is_forked()
                            ? "a driver does not survive a fork: start the child with "
                              "\"spawn\" to use a device in it"
                            : "the interpreter is exiting: nothing is driven now");
    }
    *out = dlx_gpu_peek(device_type);
    if (*out == NULL && device_type != kDLCUDA && device_type != kDLROCM) {
        return dlx_fail(err, DLX_NO_DRIVER, "dlx_driver_load",
                        "device type %d has no driver here, and no backend",
                        device_type);
    }
    if (*out == NULL) {
        dlx_fork_watch();
        pthread_mutex_lock(&load_mutex);
        if (dlx_gpu_peek(device_type) == NULL) {
            status = load(device_type, err);
        }
        *out = dlx_gpu_peek(device_type);
        pthread_mutex_unlock(&load_mutex);
    }
    return status;
}

dlx_status
dlx_driver_load(int32_t device_type, dlx_error *err)
{
    dlx_gpu *gpu;
    return dlx_gpu_get(device_type, &gpu, err);
}

void
dlx_loader_after_fork(void)
{
    pthread_mutex_init(&load_mutex, NULL);
}

void
dlx_gpu_retire_all(void)
{
    pthread_mutex_lock(&load_mutex);
    retire(kDLCUDA);
    retire(kDLROCM);
    pthread_mutex_unlock(&load_mutex);
}

/* ---- Looking without touching ---- */

void
dlx_driver_describe(int32_t device_type, dlx_driver_info *out)
{
    *out = (dlx_driver_info){.device_count = -1};
    if (device_type != kDLCUDA && device_type != kDLROCM) {
        out->device_count = 0;
        return;
    }
    dlx_gpu *gpu = dlx_gpu_peek(device_type);
    if (gpu != NULL) {
        *out = (dlx_driver_info){
            .is_loaded = true,
            .is_loadable = true,
            .is_simulated = gpu->is_simulated,
            .version = gpu->version,
            .device_count = gpu->device_count,
        };
        memcpy(out->library, gpu->library, sizeof(out->library));
        return;
    }
    const char *name;
    void *library = open_library(device_type, &name);
    snprintf(out->library, sizeof(out->library), "%s", name);
    out->is_loadable = library != NULL;
    if (library == NULL) {
        out->device_count = 0;
    } else if (device_type == kDLCUDA) {
        /* Answers only where someone else has initialised the driver already; its
         * refusal is free of side effects. HIP initialises itself when asked, so is
         * not. */
        int count = 0;
        any_call ask = as_call(dlsym(library, "cuDeviceGetCount"));
        if (ask != NULL && ((int (*)(int *))ask)(&count) == DLX_GPU_SUCCESS) {
            out->device_count = count;
        }
        out->is_simulated = is_simulated(library);
    }
}

int
dlx_driver_presence(int32_t device_type)
{
    const char *name;
    if (device_type != kDLCUDA && device_type != kDLROCM) {
        return 0;
    }
    return dlx_gpu_peek(device_type) != NULL ? 2
                                             : open_library(device_type, &name) != NULL;
}
