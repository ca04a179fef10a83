/* SPDX-License-Identifier: Apache-2.0
 *
 * A shared library that looks like a CUDA driver to the loader, and does nothing.
 * Variants by macro: STUB_LACKS_RECORD leaves out a required call, STUB_HAS_TABLE hands
 * calls out through cuGetProcAddress_v2.
 */
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define DO_NOTHING(name)   \
    EXPORT int name(void); \
    int name(void)         \
    {                      \
        return 0;          \
    }

static int is_initialised;

EXPORT int stub_is_initialised(void);
int
stub_is_initialised(void)
{
    return is_initialised;
}

EXPORT int cuInit(unsigned flags);
int
cuInit(unsigned flags)
{
    is_initialised = 1;
    return (int)flags;
}

EXPORT int cuDeviceGetCount(int *count);
int
cuDeviceGetCount(int *count)
{
    *count = 3;
    return is_initialised ? 0 : 3;
}

EXPORT int cuDriverGetVersion(int *version);
int
cuDriverGetVersion(int *version)
{
    *version = 12040;
    return 0;
}

DO_NOTHING(simcuda_reset)
DO_NOTHING(cuEventCreate)
DO_NOTHING(cuEventDestroy_v2)
#ifndef STUB_LACKS_RECORD
DO_NOTHING(cuEventRecord)
#endif
DO_NOTHING(cuEventQuery)
DO_NOTHING(cuEventSynchronize)
DO_NOTHING(cuStreamCreate)
DO_NOTHING(cuStreamWaitEvent)
DO_NOTHING(cuStreamQuery)
DO_NOTHING(cuStreamSynchronize)
DO_NOTHING(cuThreadExchangeStreamCaptureMode)
DO_NOTHING(cuMemHostAlloc)
DO_NOTHING(cuMemFreeHost)
DO_NOTHING(cuMemcpyDtoHAsync_v2)
DO_NOTHING(cuDeviceGet)
DO_NOTHING(cuDevicePrimaryCtxRetain)
DO_NOTHING(cuDevicePrimaryCtxGetState)
DO_NOTHING(cuCtxPushCurrent_v2)
DO_NOTHING(cuCtxPopCurrent_v2)
DO_NOTHING(cuCtxGetCurrent)
DO_NOTHING(cuCtxGetDevice)
DO_NOTHING(cuStreamGetCtx)

#ifdef STUB_HAS_TABLE
/* The look-up must ask for the signature it means, by its version. */
static int
capture_info(void)
{
    return 0;
}

EXPORT int cuGetProcAddress_v2(const char *name, void **address, int version,
                               uint64_t flags, int *found);
int
cuGetProcAddress_v2(const char *name, void **address, int version, uint64_t flags,
                    int *found)
{
    int (*call)(void) = capture_info;
    *address = NULL;
    *found = 1;
    if (strcmp(name, "cuStreamGetCaptureInfo") == 0 && version == 11030 && flags == 0) {
        memcpy(address, &call, sizeof(call));
        return 0;
    }
    return 500; /* not found: then by its own name */
}
#else
DO_NOTHING(cuStreamGetCaptureInfo_v2)
#endif
