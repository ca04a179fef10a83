/* Allocating and freeing: device, pinned and managed memory, stream-ordered allocation.
 * SPDX-License-Identifier: Apache-2.0 */
#include "capture.h"
#include "entry.h"

static CUresult
allocate(struct sim_caller *by, enum sim_memory memory, size_t nbytes,
         struct sim_block **out)
{
    CUresult status =
        sim_block_new(out, memory, nbytes, by->context->device, &sim.host);
    if (status == CUDA_SUCCESS) {
        (*out)->context = by->context->handle;
        (*out)->born = sim_site_of(by);
        sim_block_poison(*out, 0xCB);
    }
    return status;
}

SIM_API(cuMemAlloc, _v2, SIM_CONTEXT | SIM_UNSAFE, (CUdeviceptr * out, size_t nbytes),
        (out, nbytes))
{
    if (out == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    struct sim_block *block;
    CUresult status = allocate(by, SIM_DEVICE_MEMORY, nbytes, &block);
    if (status == CUDA_SUCCESS) {
        *out = block->begin;
    }
    return status;
}

SIM_API(cuMemAllocPitch, _v2, SIM_CONTEXT | SIM_UNSAFE,
        (CUdeviceptr * out, size_t *pitch, size_t width, size_t height,
         unsigned int element),
        (out, pitch, width, height, element))
{
    if (out == NULL || pitch == NULL ||
        (element != 4 && element != 8 && element != 16)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    struct sim_block *block;
    *pitch = (width + 511) & ~(size_t)511;
    CUresult status = allocate(by, SIM_DEVICE_MEMORY, *pitch * height, &block);
    if (status == CUDA_SUCCESS) {
        *out = block->begin;
    }
    return status;
}

SIM_API(cuMemAllocManaged, , SIM_CONTEXT | SIM_UNSAFE,
        (CUdeviceptr * out, size_t nbytes, unsigned int flags), (out, nbytes, flags))
{
    if (out == NULL || (flags != 1 && flags != 2)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    struct sim_block *block;
    CUresult status = allocate(by, SIM_MANAGED, nbytes, &block);
    if (status == CUDA_SUCCESS) {
        *out = block->begin;
    }
    return status;
}

static CUresult
allocate_pinned(struct sim_caller *by, void **out, size_t nbytes, unsigned flags)
{
    if (out == NULL || (flags & ~7u) != 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    struct sim_block *block;
    CUresult status = allocate(by, SIM_PINNED, nbytes, &block);
    if (status == CUDA_SUCCESS) {
        block->flags = flags;
        *out = SIM_HANDLE(void *, block->begin);
    }
    return status;
}

SIM_API(cuMemAllocHost, _v2, SIM_CONTEXT | SIM_UNSAFE, (void **out, size_t nbytes),
        (out, nbytes))
{
    return allocate_pinned(by, out, nbytes, 0);
}

SIM_API(cuMemHostAlloc, , SIM_CONTEXT | SIM_UNSAFE,
        (void **out, size_t nbytes, unsigned int flags), (out, nbytes, flags))
{
    return allocate_pinned(by, out, nbytes, flags);
}

SIM_API(cuMemHostRegister, _v2, SIM_CONTEXT | SIM_UNSAFE,
        (void *address, size_t nbytes, unsigned int flags), (address, nbytes, flags))
{
    if (address == NULL || nbytes == 0 || (flags & ~15u) != 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    struct sim_block *block;
    CUresult status = sim_block_register(&block, address, nbytes);
    if (status == CUDA_SUCCESS) {
        block->context = by->context->handle;
        block->device = by->context->device;
        block->born = sim_site_of(by);
        block->flags = flags;
    }
    return status;
}

/* --- freeing --- */

static CUresult
find_to_free(struct sim_caller *by, uint64_t address, bool host, struct sim_block **out)
{
    struct sim_block *block = sim_block_at(address);
    struct sim_site site = sim_site_of(by);
    if (block != NULL && block->freed) {
        sim_finding("double-free", &block->died, &site, "block 0x%llx is freed twice",
                    (unsigned long long)block->begin);
        return CUDA_ERROR_INVALID_VALUE;
    }
    bool is_right_kind =
        block != NULL && block->begin == address &&
        (host ? block->memory == SIM_PINNED
              : block->memory == SIM_DEVICE_MEMORY || block->memory == SIM_MANAGED);
    if (!is_right_kind) {
        sim_finding("wild-pointer", &site, NULL,
                    "0x%llx is not the start of memory that %s frees",
                    (unsigned long long)address, site.call);
        return CUDA_ERROR_INVALID_VALUE;
    }
    *out = block;
    return CUDA_SUCCESS;
}

/* A free that is not stream-ordered waits for the device: right, but seldom what was
 * meant. */
static CUresult
free_now(struct sim_caller *by, struct sim_block *block)
{
    struct sim_site site = sim_site_of(by), user;
    CUresult status = CUDA_SUCCESS;
    if (sim_block_is_in_use(block, &user)) {
        sim_finding(
            "free-with-pending-work", &user, &site,
            "memory is freed that a stream may still be working on: %s waits for the "
            "whole context",
            site.call);
        struct sim_context *context =
            sim_handle_get(SIM_KIND_CONTEXT, SIM_HANDLE(void *, block->context));
        sim_block_keep(block);
        status = context == NULL ? CUDA_SUCCESS : sim_await_context(context);
        sim_block_release(block);
    }
    if (status != CUDA_SUCCESS || block->freed) {
        return status;
    }
    sim_block_free(block, &site);
    if (block->memory != SIM_REGISTERED) {
        sim_block_poison(block, 0xDD);
    }
    sim_block_bury(block);
    return CUDA_SUCCESS;
}

SIM_API(cuMemFree, _v2, SIM_CONTEXT | SIM_BLOCKS | SIM_UNSAFE, (CUdeviceptr address),
        (address))
{
    struct sim_block *block;
    if (address == 0) {
        return CUDA_SUCCESS;
    }
    CUresult status = find_to_free(by, address, false, &block);
    return status == CUDA_SUCCESS ? free_now(by, block) : status;
}

SIM_API(cuMemFreeHost, , SIM_CONTEXT | SIM_BLOCKS | SIM_UNSAFE, (void *address),
        (address))
{
    struct sim_block *block;
    CUresult status = find_to_free(by, (uint64_t)(uintptr_t)address, true, &block);
    return status == CUDA_SUCCESS ? free_now(by, block) : status;
}

SIM_API(cuMemHostUnregister, , SIM_CONTEXT | SIM_BLOCKS | SIM_UNSAFE, (void *address),
        (address))
{
    struct sim_block *block = sim_block_at((uint64_t)(uintptr_t)address);
    if (block == NULL || block->memory != SIM_REGISTERED ||
        block->begin != (uint64_t)(uintptr_t)address) {
        return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    }
    return free_now(by, block);
}

/* --- stream-ordered --- */

static CUresult
allocate_on(struct sim_caller *by, CUdeviceptr *out, size_t nbytes,
            struct sim_pool *pool, CUstream handle)
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status != CUDA_SUCCESS || out == NULL) {
        return status != CUDA_SUCCESS ? status : CUDA_ERROR_INVALID_VALUE;
    }
    struct sim_block *block;
    struct sim_clock knows = {0}; /* by the time the allocation runs */
    sim_clock_join(&knows, &sim.host);
    sim_clock_join(&knows, &stream->tail.clock);
    int device = pool == NULL ? stream->context->device : pool->device;
    status = sim_block_new(&block, SIM_DEVICE_MEMORY, nbytes, device, &knows);
    sim_clock_clear(&knows);
    if (status != CUDA_SUCCESS) {
        return status;
    }
    block->context = stream->context->handle;
    block->pool = pool == NULL ? sim_pool_of(device) : pool;
    struct sim_work *work = sim_work_new(by, SIM_ALLOC);
    block->born = work->site;
    work->u.block = block;
    status = sim_work_touch(work, block->begin, nbytes, true, false);
    if (status == CUDA_SUCCESS) {
        status = sim_submit(stream, work);
    }
    sim_work_release(work);
    if (status == CUDA_SUCCESS) {
        sim_pool_use(block->pool, nbytes, true);
        *out = block->begin;
    } else {
        struct sim_site site = sim_site_of(by);
        sim_block_free(block, &site);
        sim_block_bury(block);
    }
    return status;
}

SIM_API_PT(cuMemAllocAsync, , _ptsz, SIM_CONTEXT,
           (CUdeviceptr * out, size_t nbytes, CUstream stream), (out, nbytes, stream))
{
    return allocate_on(by, out, nbytes, NULL, stream);
}

SIM_API_PT(cuMemAllocFromPoolAsync, , _ptsz, SIM_CONTEXT,
           (CUdeviceptr * out, size_t nbytes, CUmemoryPool pool_handle,
            CUstream stream),
           (out, nbytes, pool_handle, stream))
{
    struct sim_pool *pool = sim_handle_get(SIM_KIND_POOL, pool_handle);
    return pool == NULL ? CUDA_ERROR_INVALID_VALUE
                        : allocate_on(by, out, nbytes, pool, stream);
}

/* Inside a capture: the graph overwrites the memory each time, the block itself stays.
 */
static CUresult
free_in_graph(struct sim_caller *by, struct sim_stream *stream, struct sim_block *block)
{
    struct sim_work *work = sim_work_new(by, SIM_FILL);
    work->u.fill.target = block->begin;
    work->u.fill.width = block->nbytes;
    work->u.fill.height = 1;
    work->u.fill.value = 0xDD;
    work->u.fill.element = 1;
    CUresult status = sim_work_touch(work, block->begin, block->nbytes, true, false);
    if (status == CUDA_SUCCESS) {
        status = sim_submit(stream, work);
    }
    sim_work_release(work);
    return status;
}

static CUresult
free_on(struct sim_caller *by, struct sim_stream *stream, struct sim_block *block)
{
    struct sim_work *work = sim_work_new(by, SIM_FREE);
    work->u.block = block;
    CUresult status = sim_work_touch(work, block->begin, block->nbytes, true, false);
    if (status == CUDA_SUCCESS) {
        status = sim_submit(stream, work);
    }
    if (status == CUDA_SUCCESS) {
        block->free_node = stream->node;
        block->free_node_tick = sim_clock_at(&stream->tail.clock, stream->node);
        sim_block_free(block, &work->site);
        if (block->pool != NULL) {
            sim_pool_use(block->pool, block->nbytes, false);
        }
        if (sim.config.reuse) {
            sim_block_bury(block);
        }
    }
    sim_work_release(work);
    return status;
}

SIM_API_PT(cuMemFreeAsync, , _ptsz, SIM_CONTEXT, (CUdeviceptr address, CUstream handle),
           (address, handle))
{
    struct sim_stream *stream;
    struct sim_block *block;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status == CUDA_SUCCESS && address == 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (status == CUDA_SUCCESS) {
        status = find_to_free(by, address, false, &block);
    }
    if (status != CUDA_SUCCESS) {
        return status;
    }
    return stream->capture != NULL ? free_in_graph(by, stream, block)
                                   : free_on(by, stream, block);
}
