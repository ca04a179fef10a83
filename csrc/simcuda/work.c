/* Work: what an operation or a graph node does, and which bytes it touches.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "sim.h"

enum { MAX_ROWS_TRACKED = 64 };

struct sim_work *
sim_work_new(const struct sim_caller *by, enum sim_work_kind kind)
{
    struct sim_work *work = sim_alloc(sizeof(*work));
    work->refs = 1;
    work->kind = kind;
    work->site = sim_site_of(by);
    return work;
}

void
sim_work_release(struct sim_work *work)
{
    if (--work->refs > 0) {
        return;
    }
    for (unsigned i = 0; i < work->access_count; i++) {
        sim_block_release(work->accesses[i].block);
    }
    free(work->accesses);
    if (work->kind == SIM_COPY) {
        free(work->u.copy.snapshot);
    } else if (work->kind == SIM_KERNEL) {
        free(work->u.kernel.values);
        free(work->u.kernel.params);
    } else if (work->kind == SIM_MARK && work->u.mark.event != NULL) {
        sim_event_release(work->u.mark.event);
    }
    free(work);
}

static CUresult
refuse(const struct sim_work *work, const struct sim_block *block, uint64_t address,
       size_t nbytes)
{
    unsigned long long at = address;
    if (block == NULL) {
        sim_finding(
            "wild-pointer", &work->site, NULL,
            "%s was given address 0x%llx, which is not (or no longer) part of any "
            "allocation",
            work->site.call, at);
    } else if (block->freed) {
        sim_finding("use-after-free", &block->died, &work->site,
                    "%s touches 0x%llx (%zu bytes) of a block that has been freed",
                    work->site.call, at, nbytes);
    } else {
        sim_finding(
            "out-of-bounds", &block->born, &work->site,
            "%s touches %zu bytes from 0x%llx, past the end of a block of %zu bytes "
            "at 0x%llx",
            work->site.call, nbytes, at, block->nbytes,
            (unsigned long long)block->begin);
    }
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult
sim_work_touch(struct sim_work *work, uint64_t address, size_t nbytes, bool writes,
               bool host)
{
    if (nbytes == 0) {
        return CUDA_SUCCESS;
    }
    struct sim_block *block = sim_block_at(address);
    if (block == NULL && host && !sim_address_is_ours(address) && address != 0) {
        return CUDA_SUCCESS;
    }
    if (block == NULL || block->freed || address - block->begin > block->nbytes ||
        block->nbytes - (address - block->begin) < nbytes) {
        return refuse(work, block, address, nbytes);
    }
    size_t begin = (size_t)(address - block->begin);
    work->accesses =
        sim_grow(work->accesses, (work->access_count + 1) * sizeof(*work->accesses));
    work->accesses[work->access_count++] =
        (struct sim_access){sim_block_keep(block), begin, begin + nbytes, writes};
    return CUDA_SUCCESS;
}

CUresult
sim_work_touch_rows(struct sim_work *work, uint64_t address, size_t pitch, size_t width,
                    size_t height, bool writes, bool host)
{
    if (height == 1 || pitch == width || height > MAX_ROWS_TRACKED) {
        return sim_work_touch(work, address, (height - 1) * pitch + width, writes,
                              host);
    }
    CUresult status = CUDA_SUCCESS;
    for (size_t y = 0; y < height && status == CUDA_SUCCESS; y++) {
        status = sim_work_touch(work, address + y * pitch, width, writes, host);
    }
    return status;
}

/* --- doing it --- */

static void
copy(const struct sim_work *work)
{
    char *target = sim_data(work->u.copy.target);
    const char *source = work->u.copy.snapshot != NULL ? work->u.copy.snapshot
                                                       : sim_data(work->u.copy.source);
    for (size_t z = 0; z < work->u.copy.depth; z++) {
        for (size_t y = 0; y < work->u.copy.height; y++) {
            memmove(
                target + z * work->u.copy.target_slice + y * work->u.copy.target_pitch,
                source + z * work->u.copy.source_slice + y * work->u.copy.source_pitch,
                work->u.copy.width);
        }
    }
}

static void
fill(const struct sim_work *work)
{
    unsigned element = work->u.fill.element;
    for (size_t y = 0; y < work->u.fill.height; y++) {
        char *row = sim_data(work->u.fill.target + y * work->u.fill.pitch);
        if (element == 1) {
            memset(row, (int)work->u.fill.value, work->u.fill.width);
            continue;
        }
        uint16_t half = (uint16_t)work->u.fill.value;
        const void *value = element == 2 ? (const void *)&half : &work->u.fill.value;
        for (size_t x = 0; x < work->u.fill.width; x++) {
            memcpy(row + x * element, value, element);
        }
    }
}

static void
write_value(const struct sim_work *work)
{
    void *word = sim_data(work->u.value.address);
    if (work->u.value.wide) {
        __atomic_store_n((uint64_t *)word, work->u.value.value, __ATOMIC_RELEASE);
    } else {
        __atomic_store_n((uint32_t *)word, (uint32_t)work->u.value.value,
                         __ATOMIC_RELEASE);
    }
}

static void
call_back(void *argument)
{
    const struct sim_work *work = argument;
    work->u.callback.function(work->u.callback.stream, CUDA_SUCCESS,
                              work->u.callback.user);
}

void
sim_execute(const struct sim_op *op)
{
    struct sim_work *work = op->work;
    switch (work->kind) {
        case SIM_COPY:
            copy(work);
            break;
        case SIM_FILL:
            fill(work);
            break;
        case SIM_KERNEL:
            sim_kernel_run(work->u.kernel.kernel, work->u.kernel.params);
            break;
        case SIM_HOST_FUNCTION:
            sim_call_on_driver_thread(work->u.host.function, work->u.host.user);
            break;
        case SIM_CALLBACK:
            sim_call_on_driver_thread(call_back, work);
            break;
        case SIM_WRITE_VALUE:
            write_value(work);
            break;
        case SIM_ALLOC:
            sim_block_poison(work->u.block, 0xCB);
            break;
        case SIM_FREE:
            sim_block_poison(work->u.block, 0xDD);
            if (!sim.config.reuse) {
                sim_block_bury(work->u.block); /* with reuse: when it was submitted */
            }
            break;
        default:
            break; /* marks and value waits: their being run is all */
    }
}
