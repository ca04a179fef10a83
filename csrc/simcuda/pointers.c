/* What can be asked of an address.
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "entry.h"

static bool
is_host_visible(const struct sim_block *block)
{
    return block->memory != SIM_DEVICE_MEMORY;
}

/* The attributes that are 64 bits wide. Returns false for the others. */
static bool
get_wide(uint64_t *out, int attribute, const struct sim_block *block, uint64_t address)
{
    bool known = block != NULL;
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_CONTEXT:
            *out = known ? block->context : 0;
            return true;
        case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
            *out = known ? address : 0;
            return true;
        case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
            *out = known ? block->id : 0;
            return true;
        case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
            *out = known ? block->begin : 0;
            return true;
        case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
            *out = known ? block->nbytes : 0;
            return true;
        case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
            *out = 0;
            return true;
        case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
            *out = known && block->pool != NULL ? block->pool->handle : 0;
            return true;
        default:
            return false;
    }
}

static unsigned
memory_type(const struct sim_block *block)
{
    bool is_host = block->memory == SIM_PINNED || block->memory == SIM_REGISTERED;
    return is_host ? (unsigned)CU_MEMORYTYPE_HOST : (unsigned)CU_MEMORYTYPE_DEVICE;
}

/* Writes the attribute of the block; for NULL, the value for memory the driver does not
 * know. Returns INVALID_VALUE where the block has no such attribute. */
static CUresult
get_attribute(void *out, int attribute, const struct sim_block *block, uint64_t address)
{
    uint64_t wide;
    if (get_wide(&wide, attribute, block, address)) {
        memcpy(out, &wide, sizeof(wide));
        return CUDA_SUCCESS;
    }
    switch (attribute) {
        case CU_POINTER_ATTRIBUTE_HOST_POINTER:
            wide = block != NULL && !is_host_visible(block) ? 0 : address;
            memcpy(out, &wide, sizeof(wide));
            return wide == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
            *(unsigned *)out = block == NULL ? 0 : memory_type(block);
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
            *(int *)out = block == NULL ? -2 : block->device;
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_IS_MANAGED:
            *(unsigned char *)out = block != NULL && block->memory == SIM_MANAGED;
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_MAPPED:
            *(unsigned char *)out = block != NULL;
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
            *(unsigned char *)out = 0;
            return CUDA_SUCCESS;
        case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
            *(unsigned *)out = block == NULL ? 0 : 3;
            return CUDA_SUCCESS;
        default:
            return CUDA_ERROR_INVALID_VALUE;
    }
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
