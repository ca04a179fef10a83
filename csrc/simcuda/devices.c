/* Starting the driver, its devices, and finding entry points and the names of errors.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "entry.h"

enum { PER_THREAD_DEFAULT_STREAM = 2 };

SIM_API(cuInit, , SIM_ANYTIME, (unsigned int flags), (flags))
{
    if (flags != 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (sim.config.devices < 1) {
        return CUDA_ERROR_NO_DEVICE;
    }
    sim.is_initialized = true;
    return CUDA_SUCCESS;
}

SIM_API(cuDriverGetVersion, , SIM_PURE, (int *out), (out))
{
    if (out == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *out = SIM_DRIVER_VERSION;
    return CUDA_SUCCESS;
}

/* --- devices --- */

static bool
is_device(CUdevice device)
{
    return device >= 0 && device < sim.config.devices;
}

SIM_API(cuDeviceGetCount, , SIM_INIT, (int *out), (out))
{
    if (out == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *out = sim.config.devices;
    return CUDA_SUCCESS;
}

SIM_API(cuDeviceGet, , SIM_INIT, (CUdevice * out, int ordinal), (out, ordinal))
{
    if (out == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!is_device(ordinal)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    *out = ordinal;
    return CUDA_SUCCESS;
}

SIM_API(cuDeviceGetName, , SIM_INIT, (char *out, int size, CUdevice device),
        (out, size, device))
{
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    if (out == NULL || size <= 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    snprintf(out, (size_t)size, "Simulated CUDA device %d", device);
    return CUDA_SUCCESS;
}

static CUresult
get_uuid(CUuuid *out, CUdevice device)
{
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    memcpy(out->bytes, "simulated-cuda-", 15);
    out->bytes[15] = (char)device;
    return CUDA_SUCCESS;
}

SIM_API(cuDeviceGetUuid, , SIM_INIT, (CUuuid * out, CUdevice device), (out, device))
{
    return get_uuid(out, device);
}

SIM_API(cuDeviceGetUuid, _v2, SIM_INIT, (CUuuid * out, CUdevice device), (out, device))
{
    return get_uuid(out, device);
}

SIM_API(cuDeviceTotalMem, _v2, SIM_INIT, (size_t *out, CUdevice device), (out, device))
{
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    *out = sim.config.device_memory;
    return CUDA_SUCCESS;
}

SIM_API(cuDeviceComputeCapability, , SIM_INIT,
        (int *major, int *minor, CUdevice device), (major, minor, device))
{
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    *major = 9;
    *minor = 0;
    return CUDA_SUCCESS;
}

SIM_API(cuDeviceGetPCIBusId, , SIM_INIT, (char *out, int size, CUdevice device),
        (out, size, device))
{
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    snprintf(out, (size_t)size, "0000:%02x:00.0", (unsigned)device + 1);
    return CUDA_SUCCESS;
}

/* Attributes that are not 0. Their numbers are those of CUdevice_attribute. */
static const struct {
    int attribute, value;
} attributes[] = {
    {1, 1024}, /* max threads per block */
    {2, 1024}, /* max block dim x, y, z */
    {3, 1024},        {4, 64},
    {5, 2147483647}, /* max grid dim x, y, z */
    {6, 65535},       {7, 65535},
    {8, 49152},       /* max shared memory per block */
    {9, 65536},       /* constant memory */
    {10, 32},         /* warp size */
    {11, 2147483647}, /* max pitch */
    {12, 65536},      /* max registers per block */
    {13, 1000000},    /* clock rate */
    {14, 512},        /* texture alignment */
    {16, 4},          /* multiprocessors */
    {19, 1},          /* can map host memory */
    {31, 1},          /* concurrent kernels */
    {36, 1000000},    /* memory clock rate */
    {37, 256},        /* memory bus width */
    {38, 1 << 20},    /* L2 cache */
    {39, 2048},       /* max threads per multiprocessor */
    {40, 2},          /* asynchronous copy engines */
    {41, 1},          /* unified addressing */
    {75, 9},          /* compute capability major */
    {78, 1},          /* stream priorities */
    {81, 233472},     /* max shared memory per multiprocessor */
    {82, 65536},      /* max registers per multiprocessor */
    {83, 1},          /* managed memory */
    {92, 1},          /* stream memory operations, their first form */
    {93, 1},          {94, 1},
    {97, 232448}, /* max shared memory per block, opt in */
    {99, 1},      /* host registration */
    {115, 1},     /* memory pools */
    {122, 1},     /* 64-bit stream memory operations */
    {123, 1},     /* wait value NOR */
};

SIM_API(cuDeviceGetAttribute, , SIM_INIT, (int *out, int attribute, CUdevice device),
        (out, attribute, device))
{
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    if (out == NULL || attribute < 1 || attribute > 200) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *out = 0;
    for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++) {
        if (attributes[i].attribute == attribute) {
            *out = attributes[i].value;
        }
    }
    if (attribute == 33) { /* PCI bus */
        *out = device + 1;
    }
    return CUDA_SUCCESS;
}

/* --- entry points and errors --- */

static CUresult
get_proc_address(const struct sim_caller *by, const char *symbol, void **out,
                 int version, cuuint64_t flags, CUdriverProcAddressQueryResult *result)
{
    if (symbol == NULL || out == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    (void)by;
    CUdriverProcAddressQueryResult ignored;
    bool per_thread = (flags & PER_THREAD_DEFAULT_STREAM) != 0;
    sim_function found =
        sim_lookup(symbol, version, per_thread, result == NULL ? &ignored : result);
    memcpy(out, &found, sizeof(found));
    return found == NULL && result == NULL ? CUDA_ERROR_NOT_FOUND : CUDA_SUCCESS;
}

SIM_API(cuGetProcAddress, , SIM_PURE,
        (const char *symbol, void **out, int version, cuuint64_t flags),
        (symbol, out, version, flags))
{
    return get_proc_address(by, symbol, out, version, flags, NULL);
}

SIM_API(cuGetProcAddress, _v2, SIM_PURE,
        (const char *symbol, void **out, int version, cuuint64_t flags,
         CUdriverProcAddressQueryResult *result),
        (symbol, out, version, flags, result))
{
    CUdriverProcAddressQueryResult ignored;
    return get_proc_address(by, symbol, out, version, flags,
                            result == NULL ? &ignored : result);
}

static const struct {
    int number;
    const char *name, *text;
} errors[] = {
#define SIM_ERROR(name, number, text) {number, #name, text},
#include "errors.inc"
};

SIM_API(cuGetErrorName, , SIM_PURE, (int error, const char **out), (error, out))
{
    *out = NULL;
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        if (errors[i].number == error) {
            *out = errors[i].name;
        }
    }
    return *out == NULL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

SIM_API(cuGetErrorString, , SIM_PURE, (int error, const char **out), (error, out))
{
    *out = NULL;
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        if (errors[i].number == error) {
            *out = errors[i].text;
        }
    }
    return *out == NULL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}
