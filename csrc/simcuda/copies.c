/* Copies, of one to three dimensions, between device and host memory.
 * An asynchronous copy from pageable host memory takes its bytes at the call; one to
 * pageable host memory blocks until done, as documented: only pinned memory shows
 * asynchronous hazards. SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "entry.h"

/* One side of a copy. */
struct side {
    uint64_t address;
    size_t pitch, slice; /* bytes from row to row, from plane to plane */
};

struct extent {
    size_t width, height, depth;
};

static size_t
span(const struct side *side, const struct extent *extent)
{
    return (extent->depth - 1) * side->slice + (extent->height - 1) * side->pitch +
           extent->width;
}

static bool
is_pageable(uint64_t address)
{
    return sim_block_at(address) == NULL && !sim_address_is_ours(address);
}

static CUresult
touch(struct sim_work *work, const struct side *side, const struct extent *extent,
      bool writes)
{
    if (extent->depth > 1) {
        return sim_work_touch(work, side->address, span(side, extent), writes, true);
    }
    return sim_work_touch_rows(work, side->address, side->pitch, extent->width,
                               extent->height, writes, true);
}

static CUresult
submit_copy(struct sim_caller *by, struct sim_stream *stream, const struct side *target,
            const struct side *source, const struct extent *extent)
{
    struct sim_work *work = sim_work_new(by, SIM_COPY);
    work->u.copy.target = target->address;
    work->u.copy.source = source->address;
    work->u.copy.target_pitch = target->pitch;
    work->u.copy.source_pitch = source->pitch;
    work->u.copy.target_slice = target->slice;
    work->u.copy.source_slice = source->slice;
    work->u.copy.width = extent->width;
    work->u.copy.height = extent->height;
    work->u.copy.depth = extent->depth;
    CUresult status = touch(work, source, extent, false);
    if (status == CUDA_SUCCESS) {
        status = touch(work, target, extent, true);
    }
    if (status == CUDA_SUCCESS && is_pageable(source->address) &&
        stream->capture == NULL) {
        size_t nbytes = span(source, extent);
        work->u.copy.snapshot = sim_alloc(nbytes);
        memcpy(work->u.copy.snapshot, sim_data(source->address), nbytes);
    }
    if (status == CUDA_SUCCESS) {
        status = sim_submit(stream, work);
    }
    sim_work_release(work);
    return status;
}

static CUresult
copy(struct sim_caller *by, CUstream handle, const struct side *target,
     const struct side *source, const struct extent *extent, bool is_synchronous)
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status != CUDA_SUCCESS || extent->width == 0 || extent->height == 0 ||
        extent->depth == 0) {
        return status;
    }
    status = submit_copy(by, stream, target, source, extent);
    if (status != CUDA_SUCCESS || stream->capture != NULL) {
        return status;
    }
    const struct sim_block *to = sim_block_at(target->address);
    const struct sim_block *from = sim_block_at(source->address);
    bool is_on_device = to != NULL && from != NULL && to->memory == SIM_DEVICE_MEMORY &&
                        from->memory == SIM_DEVICE_MEMORY;
    if (is_synchronous && !is_on_device) {
        return sim_stream_await(stream);
    }
    if (!is_synchronous && is_pageable(target->address)) {
        sim_check_gil(by);
        return sim_stream_await(stream);
    }
    return CUDA_SUCCESS;
}

static CUresult
copy_bytes(struct sim_caller *by, CUstream stream, uint64_t target, uint64_t source,
           size_t nbytes, bool is_synchronous)
{
    struct side to = {target, nbytes, nbytes}, from = {source, nbytes, nbytes};
    struct extent extent = {nbytes, 1, 1};
    return copy(by, stream, &to, &from, &extent, is_synchronous);
}

/* --- one dimension --- */

enum { SYNCHRONOUS = SIM_CONTEXT | SIM_BLOCKS | SIM_UNSAFE };
#define ADDRESS(pointer) ((uint64_t)(uintptr_t)(pointer))

SIM_API_PT(cuMemcpy, , _ptds, SYNCHRONOUS, (CUdeviceptr to, CUdeviceptr from, size_t n),
           (to, from, n))
{
    return copy_bytes(by, NULL, to, from, n, true);
}

SIM_API_PT(cuMemcpyAsync, , _ptsz, SIM_CONTEXT,
           (CUdeviceptr to, CUdeviceptr from, size_t n, CUstream stream),
           (to, from, n, stream))
{
    return copy_bytes(by, stream, to, from, n, false);
}

SIM_API_PT(cuMemcpyHtoD, _v2, _ptds, SYNCHRONOUS,
           (CUdeviceptr to, const void *from, size_t n), (to, from, n))
{
    return copy_bytes(by, NULL, to, ADDRESS(from), n, true);
}

SIM_API_PT(cuMemcpyHtoDAsync, _v2, _ptsz, SIM_CONTEXT,
           (CUdeviceptr to, const void *from, size_t n, CUstream stream),
           (to, from, n, stream))
{
    return copy_bytes(by, stream, to, ADDRESS(from), n, false);
}

SIM_API_PT(cuMemcpyDtoH, _v2, _ptds, SYNCHRONOUS,
           (void *to, CUdeviceptr from, size_t n), (to, from, n))
{
    return copy_bytes(by, NULL, ADDRESS(to), from, n, true);
}

SIM_API_PT(cuMemcpyDtoHAsync, _v2, _ptsz, SIM_CONTEXT,
           (void *to, CUdeviceptr from, size_t n, CUstream stream),
           (to, from, n, stream))
{
    return copy_bytes(by, stream, ADDRESS(to), from, n, false);
}

SIM_API_PT(cuMemcpyDtoD, _v2, _ptds, SYNCHRONOUS,
           (CUdeviceptr to, CUdeviceptr from, size_t n), (to, from, n))
{
    return copy_bytes(by, NULL, to, from, n, true);
}

SIM_API_PT(cuMemcpyDtoDAsync, _v2, _ptsz, SIM_CONTEXT,
           (CUdeviceptr to, CUdeviceptr from, size_t n, CUstream stream),
           (to, from, n, stream))
{
    return copy_bytes(by, stream, to, from, n, false);
}

SIM_API_PT(cuMemcpyPeer, , _ptds, SYNCHRONOUS,
           (CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
            CUcontext from_context, size_t n),
           (to, to_context, from, from_context, n))
{
    return copy_bytes(by, NULL, to, from, n, true);
}

SIM_API_PT(cuMemcpyPeerAsync, , _ptsz, SIM_CONTEXT,
           (CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
            CUcontext from_context, size_t n, CUstream stream),
           (to, to_context, from, from_context, n, stream))
{
    return copy_bytes(by, stream, to, from, n, false);
}

/* --- two and three dimensions --- */

static CUresult
base_of(CUmemorytype type, const void *host, CUdeviceptr device, uint64_t *out)
{
    switch (type) {
        case CU_MEMORYTYPE_HOST:
            *out = ADDRESS(host);
            return CUDA_SUCCESS;
        case CU_MEMORYTYPE_DEVICE:
        case CU_MEMORYTYPE_UNIFIED:
            *out = device;
            return CUDA_SUCCESS;
        default:
            return CUDA_ERROR_NOT_SUPPORTED; /* arrays */
    }
}

static CUresult
copy_2d(struct sim_caller *by, const CUDA_MEMCPY2D *p, CUstream stream,
        bool is_synchronous)
{
    struct side to, from;
    CUresult status = base_of(p->dst_type, p->dst_host, p->dst_device, &to.address);
    if (status == CUDA_SUCCESS) {
        status = base_of(p->src_type, p->src_host, p->src_device, &from.address);
    }
    if (status != CUDA_SUCCESS) {
        return status;
    }
    struct extent extent = {p->width, p->height, 1};
    to.pitch = p->dst_pitch == 0 ? p->width : p->dst_pitch;
    from.pitch = p->src_pitch == 0 ? p->width : p->src_pitch;
    to.address += p->dst_y * to.pitch + p->dst_x;
    from.address += p->src_y * from.pitch + p->src_x;
    to.slice = from.slice = 0;
    if (to.pitch < p->width || from.pitch < p->width) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return copy(by, stream, &to, &from, &extent, is_synchronous);
}

static CUresult
copy_3d(struct sim_caller *by, const CUDA_MEMCPY3D *p, CUstream stream,
        bool is_synchronous)
{
    struct side to, from;
    CUresult status = base_of(p->dst_type, p->dst_host, p->dst_device, &to.address);
    if (status == CUDA_SUCCESS) {
        status = base_of(p->src_type, p->src_host, p->src_device, &from.address);
    }
    if (status != CUDA_SUCCESS) {
        return status;
    }
    struct extent extent = {p->width, p->height, p->depth};
    to.pitch = p->dst_pitch == 0 ? p->width : p->dst_pitch;
    from.pitch = p->src_pitch == 0 ? p->width : p->src_pitch;
    to.slice = to.pitch * (p->dst_height == 0 ? p->height : p->dst_height);
    from.slice = from.pitch * (p->src_height == 0 ? p->height : p->src_height);
    to.address += p->dst_z * to.slice + p->dst_y * to.pitch + p->dst_x;
    from.address += p->src_z * from.slice + p->src_y * from.pitch + p->src_x;
    if (to.pitch < p->width || from.pitch < p->width) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    return copy(by, stream, &to, &from, &extent, is_synchronous);
}

SIM_API_PT(cuMemcpy2D, _v2, _ptds, SYNCHRONOUS, (const CUDA_MEMCPY2D *p), (p))
{
    return copy_2d(by, p, NULL, true);
}

SIM_API_PT(cuMemcpy2DUnaligned, _v2, _ptds, SYNCHRONOUS, (const CUDA_MEMCPY2D *p), (p))
{
    return copy_2d(by, p, NULL, true);
}

SIM_API_PT(cuMemcpy2DAsync, _v2, _ptsz, SIM_CONTEXT,
           (const CUDA_MEMCPY2D *p, CUstream stream), (p, stream))
{
    return copy_2d(by, p, stream, false);
}

SIM_API_PT(cuMemcpy3D, _v2, _ptds, SYNCHRONOUS, (const CUDA_MEMCPY3D *p), (p))
{
    return copy_3d(by, p, NULL, true);
}

SIM_API_PT(cuMemcpy3DAsync, _v2, _ptsz, SIM_CONTEXT,
           (const CUDA_MEMCPY3D *p, CUstream stream), (p, stream))
{
    return copy_3d(by, p, stream, false);
}
