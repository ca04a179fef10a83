/* HIP's names for the simulated driver: libamdhip64.so on top of libcuda.so.1, for the
 * parts of HIP that hand tensors over. Status numbers are the same in both. What
 * differs is here: a current device per thread instead of contexts, and streams, of
 * which 0 is the default one and 1 and 2 are none. Calls are counted under CUDA's
 * names. SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>
#include <stdbool.h>

#include "cuda_abi.h"

#define EXPORT __attribute__((visibility("default")))
enum { MAX_DEVICES = 16 };

CUresult cuInit(unsigned flags);
CUresult cuDeviceGetCount(int *count);
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device);
CUresult cuCtxGetCurrent(CUcontext *context);
CUresult cuCtxSetCurrent(CUcontext context);

static _Thread_local int current_device;
static _Atomic(CUcontext) contexts[MAX_DEVICES]; /* primary; stale after a reset */

/* Makes the current device's primary context current, as HIP's runtime does by itself.
 */
static CUresult
enter(void)
{
    CUcontext wanted = atomic_load(&contexts[current_device]), now = NULL;
    CUresult status = cuCtxGetCurrent(&now);
    if (status == CUDA_SUCCESS && now != NULL && now == wanted) {
        return CUDA_SUCCESS;
    }
    if (status == CUDA_SUCCESS && wanted != NULL &&
        cuCtxSetCurrent(wanted) == CUDA_SUCCESS) {
        return CUDA_SUCCESS;
    }
    status = cuInit(0);
    if (status == CUDA_SUCCESS) {
        status = cuDevicePrimaryCtxRetain(&wanted, current_device);
    }
    if (status == CUDA_SUCCESS) {
        atomic_store(&contexts[current_device], wanted);
        status = cuCtxSetCurrent(wanted);
    }
    return status;
}

static CUresult
check(CUstream stream)
{
    bool is_cudas = stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD;
    return is_cudas ? CUDA_ERROR_INVALID_HANDLE : enter();
}

/* A function of HIP that is one of CUDA under another name. */
#define SAME(hip, cuda, guard, params, args)                \
    CUresult cuda params;                                   \
    EXPORT CUresult hip params;                             \
    EXPORT CUresult hip params                              \
    {                                                       \
        CUresult status = guard;                            \
        return status != CUDA_SUCCESS ? status : cuda args; \
    }

/* One with parameters of its own. */
#define OTHER(hip, guard, params, call)                \
    EXPORT CUresult hip params;                        \
    EXPORT CUresult hip params                         \
    {                                                  \
        CUresult status = guard;                       \
        return status != CUDA_SUCCESS ? status : call; \
    }

/* --- the runtime and its devices --- */

SAME(hipDriverGetVersion, cuDriverGetVersion, CUDA_SUCCESS, (int *version), (version))
SAME(hipDrvGetErrorName, cuGetErrorName, CUDA_SUCCESS, (int code, const char **text),
     (code, text))
SAME(hipDrvGetErrorString, cuGetErrorString, CUDA_SUCCESS,
     (int code, const char **text), (code, text))
OTHER(hipInit, CUDA_SUCCESS, (unsigned flags), cuInit(flags))
OTHER(hipRuntimeGetVersion, CUDA_SUCCESS, (int *version), cuDriverGetVersion(version))
OTHER(hipGetDeviceCount, cuInit(0), (int *count), cuDeviceGetCount(count))
SAME(hipDeviceGetName, cuDeviceGetName, cuInit(0),
     (char *name, int size, CUdevice device), (name, size, device))

CUresult cuCtxSynchronize(void);
OTHER(hipDeviceSynchronize, enter(), (void), cuCtxSynchronize())

EXPORT CUresult hipSetDevice(int device);
EXPORT CUresult
hipSetDevice(int device)
{
    int count = 0;
    CUresult status = hipGetDeviceCount(&count);
    if (status != CUDA_SUCCESS) {
        return status;
    }
    if (device < 0 || device >= count || device >= MAX_DEVICES) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    current_device = device;
    return CUDA_SUCCESS;
}

EXPORT CUresult hipGetDevice(int *device);
EXPORT CUresult
hipGetDevice(int *device)
{
    *device = current_device;
    return CUDA_SUCCESS;
}

/* --- streams --- */

CUresult cuStreamCreate(CUstream *out, unsigned flags);
SAME(hipStreamCreateWithFlags, cuStreamCreate, enter(),
     (CUstream * out, unsigned flags), (out, flags))
SAME(hipStreamCreateWithPriority, cuStreamCreateWithPriority, enter(),
     (CUstream * out, unsigned flags, int priority), (out, flags, priority))
OTHER(hipStreamCreate, enter(), (CUstream * out),
      cuStreamCreate(out, CU_STREAM_DEFAULT))
SAME(hipStreamDestroy, cuStreamDestroy_v2, check(stream), (CUstream stream), (stream))
SAME(hipStreamQuery, cuStreamQuery, check(stream), (CUstream stream), (stream))
SAME(hipStreamSynchronize, cuStreamSynchronize, check(stream), (CUstream stream),
     (stream))
SAME(hipStreamWaitEvent, cuStreamWaitEvent, check(stream),
     (CUstream stream, CUevent event, unsigned flags), (stream, event, flags))
SAME(hipStreamGetDevice, cuStreamGetDevice, check(stream),
     (CUstream stream, CUdevice *device), (stream, device))
SAME(hipStreamGetFlags, cuStreamGetFlags, check(stream),
     (CUstream stream, unsigned *flags), (stream, flags))
SAME(hipStreamAddCallback, cuStreamAddCallback, check(stream),
     (CUstream stream, CUstreamCallback function, void *user, unsigned flags),
     (stream, function, user, flags))
SAME(hipLaunchHostFunc, cuLaunchHostFunc, check(stream),
     (CUstream stream, CUhostFn function, void *user), (stream, function, user))
SAME(hipStreamWriteValue32, cuStreamWriteValue32_v2, check(stream),
     (CUstream stream, CUdeviceptr address, uint32_t value, unsigned flags),
     (stream, address, value, flags))
SAME(hipStreamWriteValue64, cuStreamWriteValue64_v2, check(stream),
     (CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned flags),
     (stream, address, value, flags))

/* HIP's waits compare under a mask; only the whole word is simulated. */
CUresult cuStreamWaitValue32_v2(CUstream stream, CUdeviceptr address, uint32_t value,
                                unsigned flags);
CUresult cuStreamWaitValue64_v2(CUstream stream, CUdeviceptr address, cuuint64_t value,
                                unsigned flags);
OTHER(hipStreamWaitValue32,
      mask != UINT32_MAX ? CUDA_ERROR_NOT_SUPPORTED : check(stream),
      (CUstream stream, CUdeviceptr address, uint32_t value, unsigned flags,
       uint32_t mask),
      cuStreamWaitValue32_v2(stream, address, value, flags))
OTHER(hipStreamWaitValue64,
      mask != UINT64_MAX ? CUDA_ERROR_NOT_SUPPORTED : check(stream),
      (CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned flags,
       cuuint64_t mask),
      cuStreamWaitValue64_v2(stream, address, value, flags))

/* --- events --- */

CUresult cuEventCreate(CUevent *out, unsigned flags);
/* Two more flags say how caches are flushed. */
OTHER(hipEventCreateWithFlags, enter(), (CUevent * out, unsigned flags),
      cuEventCreate(out, flags & ~0xc0000000u))
OTHER(hipEventCreate, enter(), (CUevent * out), cuEventCreate(out, 0))
SAME(hipEventRecord, cuEventRecord, check(stream), (CUevent event, CUstream stream),
     (event, stream))
SAME(hipEventDestroy, cuEventDestroy_v2, enter(), (CUevent event), (event))
SAME(hipEventQuery, cuEventQuery, enter(), (CUevent event), (event))
SAME(hipEventSynchronize, cuEventSynchronize, enter(), (CUevent event), (event))
SAME(hipEventElapsedTime, cuEventElapsedTime_v2, enter(),
     (float *out, CUevent from, CUevent to), (out, from, to))

/* --- capture and graphs --- */

SAME(hipThreadExchangeStreamCaptureMode, cuThreadExchangeStreamCaptureMode, cuInit(0),
     (CUstreamCaptureMode * mode), (mode))
SAME(hipStreamBeginCapture, cuStreamBeginCapture_v2, check(stream),
     (CUstream stream, CUstreamCaptureMode mode), (stream, mode))
SAME(hipStreamEndCapture, cuStreamEndCapture, check(stream),
     (CUstream stream, CUgraph *graph), (stream, graph))
SAME(hipStreamIsCapturing, cuStreamIsCapturing, check(stream),
     (CUstream stream, CUstreamCaptureStatus *status_out), (stream, status_out))
SAME(hipStreamGetCaptureInfo, cuStreamGetCaptureInfo, check(stream),
     (CUstream stream, CUstreamCaptureStatus *status_out, cuuint64_t *id),
     (stream, status_out, id))
SAME(hipStreamGetCaptureInfo_v2, cuStreamGetCaptureInfo_v2, check(stream),
     (CUstream stream, CUstreamCaptureStatus *status_out, cuuint64_t *id,
      CUgraph *graph, const CUgraphNode **needs, size_t *need_count),
     (stream, status_out, id, graph, needs, need_count))
SAME(hipGraphInstantiateWithFlags, cuGraphInstantiateWithFlags, enter(),
     (CUgraphExec * out, CUgraph graph, unsigned long long flags), (out, graph, flags))
SAME(hipGraphLaunch, cuGraphLaunch, check(stream), (CUgraphExec exec, CUstream stream),
     (exec, stream))
SAME(hipGraphDestroy, cuGraphDestroy, enter(), (CUgraph graph), (graph))
SAME(hipGraphExecDestroy, cuGraphExecDestroy, enter(), (CUgraphExec exec), (exec))

/* --- memory --- */

SAME(hipMalloc, cuMemAlloc_v2, enter(), (CUdeviceptr * out, size_t nbytes),
     (out, nbytes))
SAME(hipFree, cuMemFree_v2, enter(), (CUdeviceptr address), (address))
SAME(hipMallocAsync, cuMemAllocAsync, check(stream),
     (CUdeviceptr * out, size_t nbytes, CUstream stream), (out, nbytes, stream))
SAME(hipFreeAsync, cuMemFreeAsync, check(stream),
     (CUdeviceptr address, CUstream stream), (address, stream))
SAME(hipMallocManaged, cuMemAllocManaged, enter(),
     (CUdeviceptr * out, size_t nbytes, unsigned flags), (out, nbytes, flags))
CUresult cuMemHostAlloc(void **out, size_t nbytes, unsigned flags);
/* More flags say how memory is cached and where it lies. */
OTHER(hipHostMalloc, enter(), (void **out, size_t nbytes, unsigned flags),
      cuMemHostAlloc(out, nbytes, flags & 7u))
SAME(hipHostFree, cuMemFreeHost, enter(), (void *address), (address))
SAME(hipHostRegister, cuMemHostRegister_v2, enter(),
     (void *address, size_t nbytes, unsigned flags), (address, nbytes, flags))
SAME(hipHostUnregister, cuMemHostUnregister, enter(), (void *address), (address))
SAME(hipMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2, check(stream),
     (void *to, CUdeviceptr from, size_t n, CUstream stream), (to, from, n, stream))
SAME(hipMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2, check(stream),
     (CUdeviceptr to, const void *from, size_t n, CUstream stream),
     (to, from, n, stream))
SAME(hipMemcpyDtoDAsync, cuMemcpyDtoDAsync_v2, check(stream),
     (CUdeviceptr to, CUdeviceptr from, size_t n, CUstream stream),
     (to, from, n, stream))
SAME(hipMemsetD32Async, cuMemsetD32Async, check(stream),
     (CUdeviceptr to, unsigned value, size_t n, CUstream stream),
     (to, value, n, stream))

/* The kind of a copy says where the two sides lie, which their addresses say too. */
CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t n);
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream stream);
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t n,
                         CUstream stream);
OTHER(hipMemcpy, enter(), (CUdeviceptr to, CUdeviceptr from, size_t n, int kind),
      cuMemcpy(to, from, n))
OTHER(hipMemcpyAsync, check(stream),
      (CUdeviceptr to, CUdeviceptr from, size_t n, int kind, CUstream stream),
      cuMemcpyAsync(to, from, n, stream))
OTHER(hipMemsetAsync, check(stream),
      (CUdeviceptr to, int value, size_t n, CUstream stream),
      cuMemsetD8Async(to, (unsigned char)value, n, stream))
