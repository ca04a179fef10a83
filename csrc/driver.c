/* SPDX-License-Identifier: Apache-2.0
 *
 * What every part of the driver layer shares: errors, stream identity, counters, and
 * the process around it (threads, fork, stop). No driver call is made in this file.
 */
#include "driver.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gpu.h"

/* ---- Errors ---- */

const char *
dlx_status_name(dlx_status status)
{
    static const char *const names[] = {
        [DLX_OK] = "DLX_OK",
        [DLX_NOT_READY] = "DLX_NOT_READY",
        [DLX_NO_DRIVER] = "DLX_NO_DRIVER",
        [DLX_UNSUPPORTED] = "DLX_UNSUPPORTED",
        [DLX_BAD_STREAM] = "DLX_BAD_STREAM",
        [DLX_CAPTURE_REFUSED] = "DLX_CAPTURE_REFUSED",
        [DLX_NOT_PERMITTED] = "DLX_NOT_PERMITTED",
        [DLX_DEVICE_LOST] = "DLX_DEVICE_LOST",
        [DLX_DRIVER_ERROR] = "DLX_DRIVER_ERROR",
        [DLX_NO_MEMORY] = "DLX_NO_MEMORY",
        [DLX_STOPPED] = "DLX_STOPPED",
    };
    return (size_t)status < sizeof(names) / sizeof(names[0]) ? names[status] : "?";
}

dlx_status
dlx_fail(dlx_error *err, dlx_status status, const char *call, const char *format, ...)
{
    if (err != NULL) {
        va_list arguments;
        *err = (dlx_error){.status = status, .call = call};
        va_start(arguments, format);
        vsnprintf(err->text, sizeof(err->text), format, arguments);
        va_end(arguments);
    }
    return status;
}

/* ---- Streams ---- */

dlx_status
dlx_stream_init(dlx_stream *out, int32_t device_type, int32_t device_id,
                uintptr_t handle, dlx_error *err)
{
    bool is_registered = dlx_backend_is_installed(device_type);
    if (device_type != kDLCUDA && device_type != kDLROCM && !is_registered) {
        return dlx_fail(err, DLX_BAD_STREAM, "dlx_stream_init",
                        "device type %d has no streams here: only CUDA (2), ROCm (10) "
                        "and those registered with dlexchange.backends do",
                        device_type);
    }
    if (is_registered && handle == 0) {
        return dlx_fail(err, DLX_BAD_STREAM, "dlx_stream_init",
                        "0 is no stream of device type %d: pass the stream itself",
                        device_type);
    }
    if (device_id < 0 || device_id >= DLX_MAX_DEVICES) {
        return dlx_fail(err, DLX_BAD_STREAM, "dlx_stream_init",
                        "device id %d is not one of 0 to %d", device_id,
                        DLX_MAX_DEVICES - 1);
    }
    if (device_type == kDLROCM && (handle == 1 || handle == 2)) {
        return dlx_fail(err, DLX_BAD_STREAM, "dlx_stream_init",
                        "%d is no stream on ROCm: its default stream is 0",
                        (int)handle);
    }
    if (device_type == kDLCUDA && handle == 0) {
        handle = DLX_CUDA_LEGACY;
    }
    *out = (dlx_stream){device_type, device_id, handle};
    return DLX_OK;
}

uint64_t
dlx_thread_id(void)
{
    static _Atomic uint64_t threads;
    static _Thread_local uint64_t own;
    if (own == 0) {
        own = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) + 1;
    }
    return own;
}

/* ---- Counters ---- */

_Atomic uint64_t dlx_counts[sizeof(dlx_counters) / sizeof(uint64_t)];

void
dlx_counters_read(dlx_counters *out)
{
    uint64_t values[sizeof(dlx_counters) / sizeof(uint64_t)];
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        values[i] = atomic_load_explicit(&dlx_counts[i], memory_order_relaxed);
    }
    memcpy(out, values, sizeof(values));
}

/* ---- Stop and fork ---- */

static _Atomic bool stopped;
static _Atomic bool forked;
static _Atomic bool guarded;

enum { N_FORK_FDS = 64 };
static _Atomic int fork_fds[N_FORK_FDS]; /* descriptor + 1; 0: free */

bool
dlx_is_stopped(void)
{
    return atomic_load_explicit(&stopped, memory_order_relaxed);
}

bool
dlx_is_forked(void)
{
    return atomic_load_explicit(&forked, memory_order_relaxed);
}

void
dlx_mark_stopped(void)
{
    atomic_store(&stopped, true);
}

/* A CUDA context does not survive a fork, and neither does the reaper: the child drives
 * nothing, so that it can at least end in peace. Only async-signal-safe calls here. */
static void
in_forked_child(void)
{
    for (size_t i = 0; i < N_FORK_FDS; i++) {
        int fd = atomic_exchange(&fork_fds[i], 0) - 1;
        if (fd >= 0) {
            close(fd);
        }
    }
    dlx_loader_after_fork();
    if (atomic_load(&guarded)) {
        atomic_store(&forked, true);
        atomic_store(&stopped, true);
    }
}

static void
register_fork_handler(void)
{
    pthread_atfork(NULL, NULL, in_forked_child);
}

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

void
dlx_fork_watch(void)
{
    pthread_once(&fork_once, register_fork_handler);
}

void
dlx_fork_guard(void)
{
    dlx_fork_watch();
    atomic_store(&guarded, true);
}

dlx_status
dlx_fork_fd_add(int fd)
{
    dlx_fork_watch();
    for (size_t i = 0; i < N_FORK_FDS; i++) {
        int expected = 0;
        if (atomic_compare_exchange_strong(&fork_fds[i], &expected, fd + 1)) {
            return DLX_OK;
        }
    }
    return DLX_NO_MEMORY;
}

void
dlx_fork_fd_remove(int fd)
{
    for (size_t i = 0; i < N_FORK_FDS; i++) {
        int expected = fd + 1;
        if (atomic_compare_exchange_strong(&fork_fds[i], &expected, 0)) {
            return;
        }
    }
}

/* ---- Mutants ---- */

#ifdef DLX_MUTANTS
static _Atomic int mutant = -1; /* -1: the environment has not been read */

void
dlx_mutant_set(int number)
{
    atomic_store(&mutant, number);
}

int
dlx_mutant_active(void)
{
    int number = atomic_load_explicit(&mutant, memory_order_relaxed);
    if (number < 0) {
        const char *text = getenv("DLEXCHANGE_MUTANT");
        number = text != NULL ? atoi(text) : 0;
        atomic_store(&mutant, number);
    }
    return number;
}
#endif
