/* Memory pools: one by default for each device. They count what they hold; where memory
 * comes from is memory.c's business. SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "entry.h"

static struct sim_pool *
pool_new(int device)
{
    struct sim_pool *pool = sim_alloc(sizeof(*pool));
    pool->device = device;
    pool->reuse[0] = pool->reuse[1] = pool->reuse[2] = 1;
    pool->handle = sim_handle_new(SIM_KIND_POOL, pool);
    return pool;
}

static struct sim_pool *
default_pool(int device)
{
    struct sim_device *d = &sim.devices[device];
    if (d->default_pool == NULL) {
        d->default_pool = pool_new(device);
    }
    return d->default_pool;
}

struct sim_pool *
sim_pool_of(int device)
{
    struct sim_device *d = &sim.devices[device];
    return d->pool != NULL ? d->pool : default_pool(device);
}

void
sim_pool_use(struct sim_pool *pool, size_t nbytes, bool more)
{
    pool->used = more ? pool->used + nbytes : pool->used - nbytes;
    if (pool->used > pool->used_high) {
        pool->used_high = pool->used;
    }
}

static bool
is_device(CUdevice device)
{
    return device >= 0 && device < sim.config.devices;
}

SIM_API(cuDeviceGetDefaultMemPool, , SIM_INIT, (CUmemoryPool * out, CUdevice device),
        (out, device))
{
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    *out = SIM_HANDLE(CUmemoryPool, default_pool(device)->handle);
    return CUDA_SUCCESS;
}

SIM_API(cuDeviceGetMemPool, , SIM_INIT, (CUmemoryPool * out, CUdevice device),
        (out, device))
{
    if (!is_device(device)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    *out = SIM_HANDLE(CUmemoryPool, sim_pool_of(device)->handle);
    return CUDA_SUCCESS;
}

SIM_API(cuDeviceSetMemPool, , SIM_INIT, (CUdevice device, CUmemoryPool handle),
        (device, handle))
{
    struct sim_pool *pool = sim_handle_get(SIM_KIND_POOL, handle);
    if (!is_device(device) || pool == NULL || pool->device != device) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    sim.devices[device].pool = pool;
    return CUDA_SUCCESS;
}

SIM_API(cuMemPoolCreate, , SIM_INIT,
        (CUmemoryPool * out, const CUmemPoolProps *properties), (out, properties))
{
    if (out == NULL || properties == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
        properties->handle_types != 0) {
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (!is_device(properties->location.id)) {
        return CUDA_ERROR_INVALID_DEVICE;
    }
    *out = SIM_HANDLE(CUmemoryPool, pool_new(properties->location.id)->handle);
    return CUDA_SUCCESS;
}

/* The pool's memory lives on: what was allocated from it can still be used and freed.
 */
SIM_API(cuMemPoolDestroy, , SIM_INIT, (CUmemoryPool handle), (handle))
{
    struct sim_pool *pool = sim_handle_get(SIM_KIND_POOL, handle);
    if (pool == NULL || pool == sim.devices[pool->device].default_pool) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (sim.devices[pool->device].pool == pool) {
        sim.devices[pool->device].pool = NULL;
    }
    sim_handle_drop(SIM_KIND_POOL, pool->handle);
    pool->handle = 0;
    sim_blocks_leave_pool(pool);
    free(pool);
    return CUDA_SUCCESS;
}

SIM_API(cuMemPoolTrimTo, , SIM_INIT, (CUmemoryPool pool, size_t keep), (pool, keep))
{
    return sim_handle_get(SIM_KIND_POOL, pool) == NULL ? CUDA_ERROR_INVALID_VALUE
                                                       : CUDA_SUCCESS;
}

SIM_API(cuMemPoolSetAccess, , SIM_INIT,
        (CUmemoryPool pool, const void *map, size_t count), (pool, map, count))
{
    return sim_handle_get(SIM_KIND_POOL, pool) == NULL ? CUDA_ERROR_INVALID_VALUE
                                                       : CUDA_SUCCESS;
}

SIM_API(cuMemPoolGetAccess, , SIM_INIT,
        (unsigned int *flags, CUmemoryPool handle, const CUmemLocation *location),
        (flags, handle, location))
{
    struct sim_pool *pool = sim_handle_get(SIM_KIND_POOL, handle);
    if (pool == NULL || location == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *flags = location->id == pool->device ? 3 : 0;
    return CUDA_SUCCESS;
}

SIM_API(cuMemPoolGetAttribute, , SIM_INIT,
        (CUmemoryPool handle, int attribute, void *out), (handle, attribute, out))
{
    struct sim_pool *pool = sim_handle_get(SIM_KIND_POOL, handle);
    if (pool == NULL || out == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    switch (attribute) {
        case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
            *(int *)out = pool->reuse[attribute - 1];
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
            *(uint64_t *)out = pool->release_threshold;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
        case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
            *(uint64_t *)out = pool->used;
            return CUDA_SUCCESS;
        case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
        case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
            *(uint64_t *)out = pool->used_high;
            return CUDA_SUCCESS;
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
}

SIM_API(cuMemPoolSetAttribute, , SIM_INIT,
        (CUmemoryPool handle, int attribute, const void *value),
        (handle, attribute, value))
{
    struct sim_pool *pool = sim_handle_get(SIM_KIND_POOL, handle);
    if (pool == NULL || value == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (attribute >= CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES &&
        attribute <= CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES) {
        pool->reuse[attribute - 1] = *(const int *)value != 0;
        return CUDA_SUCCESS;
    }
    if (attribute == CU_MEMPOOL_ATTR_RELEASE_THRESHOLD) {
        pool->release_threshold = *(const uint64_t *)value;
        return CUDA_SUCCESS;
    }
    if (attribute == CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH ||
        attribute == CU_MEMPOOL_ATTR_USED_MEM_HIGH) {
        pool->used_high = pool->used;
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_INVALID_VALUE;
}
