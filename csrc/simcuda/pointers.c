/* What can be asked of an address, and memory pools.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "entry.h"

/* --- addresses --- */

static bool
is_host_visible(const struct sim_block *block)
{
    return block->memory != SIM_DEVICE_MEMORY;
}

/* Writes the attribute of the block; for NULL, the value for memory the driver does not
 * know. Returns INVALID_VALUE where the block has no such attribute. */
static CUresult
get_attribute(void *out, int attribute, const struct sim_block *block, uint64_t address)
{
    bool known = block != NULL;
    uint64_t wide = 0;
    bool is_managed = known && block->memory == SIM_MANAGED;
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE: {
            bool is_host = known && (block->memory == SIM_PINNED ||
                                     block->memory == SIM_REGISTERED);
            *(unsigned *)out = !known    ? 0
                               : is_host ? (unsigned)CU_MEMORYTYPE_HOST
                                         : (unsigned)CU_MEMORYTYPE_DEVICE;
            return CUDA_SUCCESS;
        }
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            *(int *)out = known ? block->device : -2;
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
            *(unsigned char *)out = is_managed;
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_MAPPED:
            *(unsigned char *)out = known;
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
            *(unsigned char *)out = 0;
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
            *(unsigned *)out = known ? 3 : 0;
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_CONTEXT:
            wide = known ? block->context : 0;
            break;
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
            wide = known ? address : 0;
            break;
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
            if (known && !is_host_visible(block)) {
                *(uint64_t *)out = 0;
                return CUDA_ERROR_INVALID_VALUE;
            }
            wide = address;
            break;
        case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
            wide = known ? block->id : 0;
            break;
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
            wide = known ? block->begin : 0;
            break;
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
            wide = known ? block->nbytes : 0;
            break;
        case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
            break;
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
            wide = known && block->pool != NULL ? block->pool->handle : 0;
            break;
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
    memcpy(out, &wide, sizeof(wide));
    return CUDA_SUCCESS;
}

static struct sim_block *
live_block_at(uint64_t address)
{
    struct sim_block *block = sim_block_at(address);
    return block == NULL || block->freed ? NULL : block;
}

SIM_API(cuPointerGetAttribute, , SIM_INIT,
        (void *out, int attribute, CUdeviceptr address), (out, attribute, address))
{
    struct sim_block *block = live_block_at(address);
    return out == NULL || block == NULL ? CUDA_ERROR_INVALID_VALUE
                                        : get_attribute(out, attribute, block, address);
}

SIM_API(cuPointerGetAttributes, , SIM_INIT,
        (unsigned int count, int *attributes, void **out, CUdeviceptr address),
        (count, attributes, out, address))
{
    struct sim_block *block = live_block_at(address);
    for (unsigned i = 0; i < count; i++) {
        get_attribute(out[i], attributes[i], block, address);
    }
    return CUDA_SUCCESS;
}

SIM_API(cuPointerSetAttribute, , SIM_INIT,
        (const void *value, int attribute, CUdeviceptr address),
        (value, attribute, address))
{
    (void)value;
    return attribute == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS &&
                   live_block_at(address) != NULL
               ? CUDA_SUCCESS
               : CUDA_ERROR_INVALID_VALUE;
}

SIM_API(cuMemGetAddressRange, _v2, SIM_CONTEXT,
        (CUdeviceptr * begin, size_t *nbytes, CUdeviceptr address),
        (begin, nbytes, address))
{
    struct sim_block *block = live_block_at(address);
    if (block == NULL) {
        return CUDA_ERROR_NOT_FOUND;
    }
    if (begin != NULL) {
        *begin = block->begin;
    }
    if (nbytes != NULL) {
        *nbytes = block->nbytes;
    }
    return CUDA_SUCCESS;
}

SIM_API(cuMemHostGetDevicePointer, _v2, SIM_CONTEXT,
        (CUdeviceptr * out, void *host, unsigned int flags), (out, host, flags))
{
    struct sim_block *block = live_block_at((uint64_t)(uintptr_t)host);
    if (out == NULL || flags != 0 || block == NULL || !is_host_visible(block)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *out = (CUdeviceptr)(uintptr_t)host;
    return CUDA_SUCCESS;
}

SIM_API(cuMemHostGetFlags, , SIM_CONTEXT, (unsigned int *out, void *host), (out, host))
{
    struct sim_block *block = live_block_at((uint64_t)(uintptr_t)host);
    if (out == NULL || block == NULL || block->memory != SIM_PINNED) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *out = block->flags;
    return CUDA_SUCCESS;
}

SIM_API(cuMemGetInfo, _v2, SIM_CONTEXT, (size_t *unused, size_t *total),
        (unused, total))
{
    *total = sim.config.device_memory;
    *unused = sim.config.device_memory - sim_memory_used(by->context->device);
    return CUDA_SUCCESS;
}

/* --- pools --- */

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
