/* Fills, and the stream memory operations: waits for and writes of the value of a word.
 * SPDX-License-Identifier: Apache-2.0 */
#include "entry.h"

/* --- fills: synchronous ones do not wait either, they only go to the default stream
 * --- */

static CUresult
fill(struct sim_caller *by, CUstream handle, uint64_t target, size_t pitch,
     uint32_t value, unsigned element, size_t width, size_t height)
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status != CUDA_SUCCESS || width == 0 || height == 0) {
        return status;
    }
    size_t row = width * element;
    if (target % element != 0 || (height > 1 && pitch < row)) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    struct sim_work *work = sim_work_new(by, SIM_FILL);
    work->u.fill.target = target;
    work->u.fill.pitch = pitch;
    work->u.fill.width = width;
    work->u.fill.height = height;
    work->u.fill.value = value;
    work->u.fill.element = element;
    status = sim_work_touch_rows(work, target, pitch, row, height, true, false);
    if (status == CUDA_SUCCESS) {
        status = sim_submit(stream, work);
    }
    sim_work_release(work);
    return status;
}

#define FILL(bits, type)                                                         \
    SIM_API_PT(cuMemsetD##bits, _v2, _ptds, SIM_CONTEXT,                         \
               (CUdeviceptr to, unsigned type value, size_t n), (to, value, n))  \
    {                                                                            \
        return fill(by, NULL, to, 0, value, bits / 8, n, 1);                     \
    }                                                                            \
    SIM_API_PT(cuMemsetD##bits##Async, , _ptsz, SIM_CONTEXT,                     \
               (CUdeviceptr to, unsigned type value, size_t n, CUstream stream), \
               (to, value, n, stream))                                           \
    {                                                                            \
        return fill(by, stream, to, 0, value, bits / 8, n, 1);                   \
    }                                                                            \
    SIM_API_PT(cuMemsetD2D##bits, _v2, _ptds, SIM_CONTEXT,                       \
               (CUdeviceptr to, size_t pitch, unsigned type value, size_t width, \
                size_t height),                                                  \
               (to, pitch, value, width, height))                                \
    {                                                                            \
        return fill(by, NULL, to, pitch, value, bits / 8, width, height);        \
    }                                                                            \
    SIM_API_PT(cuMemsetD2D##bits##Async, , _ptsz, SIM_CONTEXT,                   \
               (CUdeviceptr to, size_t pitch, unsigned type value, size_t width, \
                size_t height, CUstream stream),                                 \
               (to, pitch, value, width, height, stream))                        \
    {                                                                            \
        return fill(by, stream, to, pitch, value, bits / 8, width, height);      \
    }

FILL(8, char)
FILL(16, short)
FILL(32, int)

/* --- words: the address is device or pinned memory, the word is not tracked for races
 * --- */

static CUresult
value_work(struct sim_caller *by, struct sim_stream *stream, enum sim_work_kind kind,
           uint64_t address, uint64_t value, unsigned flags, bool wide)
{
    size_t size = wide ? 8 : 4;
    struct sim_block *block = sim_block_at(address);
    if (block == NULL || block->freed || address % size != 0 ||
        block->nbytes - (address - block->begin) < size) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    struct sim_work *work = sim_work_new(by, kind);
    work->u.value.address = address;
    work->u.value.value = value;
    work->u.value.flags = flags;
    work->u.value.wide = wide;
    CUresult status = sim_submit(stream, work);
    sim_work_release(work);
    return status;
}

static CUresult
value_operation(struct sim_caller *by, CUstream handle, enum sim_work_kind kind,
                uint64_t address, uint64_t value, unsigned flags, bool wide)
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    return status != CUDA_SUCCESS
               ? status
               : value_work(by, stream, kind, address, value, flags, wide);
}

#define VALUE_OPERATION(name, version, kind, type, wide)                               \
    SIM_API_PT(name, version, _ptsz, SIM_CONTEXT,                                      \
               (CUstream stream, CUdeviceptr address, type value, unsigned int flags), \
               (stream, address, value, flags))                                        \
    {                                                                                  \
        return value_operation(by, stream, kind, address, value, flags, wide);         \
    }

VALUE_OPERATION(cuStreamWaitValue32, , SIM_WAIT_VALUE, cuuint32_t, false)
VALUE_OPERATION(cuStreamWaitValue32, _v2, SIM_WAIT_VALUE, cuuint32_t, false)
VALUE_OPERATION(cuStreamWaitValue64, , SIM_WAIT_VALUE, cuuint64_t, true)
VALUE_OPERATION(cuStreamWaitValue64, _v2, SIM_WAIT_VALUE, cuuint64_t, true)
VALUE_OPERATION(cuStreamWriteValue32, , SIM_WRITE_VALUE, cuuint32_t, false)
VALUE_OPERATION(cuStreamWriteValue32, _v2, SIM_WRITE_VALUE, cuuint32_t, false)
VALUE_OPERATION(cuStreamWriteValue64, , SIM_WRITE_VALUE, cuuint64_t, true)
VALUE_OPERATION(cuStreamWriteValue64, _v2, SIM_WRITE_VALUE, cuuint64_t, true)

SIM_API_PT(cuStreamBatchMemOp, _v2, _ptsz, SIM_CONTEXT,
           (CUstream handle, unsigned int count, CUstreamBatchMemOpParams *params,
            unsigned int flags),
           (handle, count, params, flags))
{
    enum {
        WAIT_32 = 1,
        WRITE_32 = 2,
        FLUSH = 3,
        WAIT_64 = 4,
        WRITE_64 = 5,
        BARRIER = 6
    };
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    for (unsigned i = 0; i < count && status == CUDA_SUCCESS; i++) {
        const CUstreamBatchMemOpParams *p = &params[i];
        bool wide = p->operation == WAIT_64 || p->operation == WRITE_64;
        bool waits = p->operation == WAIT_32 || p->operation == WAIT_64;
        if (p->operation == FLUSH || p->operation == BARRIER) {
            continue;
        }
        if (p->operation < WAIT_32 || p->operation > WRITE_64) {
            return CUDA_ERROR_INVALID_VALUE;
        }
        uint64_t value = wide ? p->value.value : (uint32_t)p->value.value;
        status = value_work(by, stream, waits ? SIM_WAIT_VALUE : SIM_WRITE_VALUE,
                            p->value.address, value, p->value.flags, wide);
    }
    return status;
}
