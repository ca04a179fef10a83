/* Simulated memory. Two arenas of reserved address space: device memory, which the host
 * cannot touch (PROT_NONE; the simulator uses a second mapping of the same pages), and
 * host memory (pinned, managed), which it can. Blocks carry a size, an owner and a
 * past. A freed block keeps its address, full of 0xDD, until the quarantine is over its
 * limit; then the oldest address can be handed out again, so that long runs stay flat.
 * SPDX-License-Identifier: Apache-2.0 */
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sim.h"

enum { SMALLEST_LOG2 = 9, CLASSES = 40, POISON_ENDS = 1 << 20 };
static const size_t arena_bytes = (size_t)1 << 36;
static const size_t quarantine_limit = (size_t)64 << 20;
static const size_t poison_all_below = (size_t)64 << 20;

struct arena {
    uint64_t seen;           /* address clients get */
    uint64_t data;           /* address the simulator uses */
    size_t used;             /* handed out from the start, ever */
    uint64_t *idle[CLASSES]; /* addresses whose quarantine is over, by size class */
    size_t idle_count[CLASSES], idle_capacity[CLASSES];
};

static struct arena device_arena, host_arena;
static void *blocks; /* search tree; blocks that overlap compare equal */
static struct sim_block *oldest_dead, *newest_dead;
static size_t quarantined;
static size_t used_bytes[SIM_MAX_DEVICES];

static int
compare_blocks(const void *a, const void *b)
{
    const struct sim_block *one = a, *two = b;
    if (one->begin + one->reserved <= two->begin) {
        return -1;
    }
    return two->begin + two->reserved <= one->begin ? 1 : 0;
}

static bool
map_arena(struct arena *arena, bool hidden)
{
    if (arena->seen != 0) {
        return true;
    }
    int file = memfd_create("simulated-cuda-memory", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, (off_t)arena_bytes) != 0) {
        goto fail;
    }
    int flags = MAP_SHARED | MAP_NORESERVE;
    void *data = mmap(NULL, arena_bytes, PROT_READ | PROT_WRITE, flags, file, 0);
    if (data == MAP_FAILED) {
        goto fail;
    }
    arena->data = arena->seen = (uint64_t)(uintptr_t)data;
    if (hidden) {
        void *seen = mmap(NULL, arena_bytes, PROT_NONE, flags, file, 0);
        if (seen == MAP_FAILED) {
            munmap(data, arena_bytes);
            arena->data = arena->seen = 0;
            goto fail;
        }
        arena->seen = (uint64_t)(uintptr_t)seen;
    }
    close(file);
    return true;
fail:
    if (file >= 0) {
        close(file);
    }
    return false;
}

static struct arena *
arena_of(uint64_t address)
{
    if (device_arena.seen != 0 && address - device_arena.seen < arena_bytes) {
        return &device_arena;
    }
    if (host_arena.seen != 0 && address - host_arena.seen < arena_bytes) {
        return &host_arena;
    }
    return NULL;
}

bool
sim_address_is_ours(uint64_t address)
{
    return arena_of(address) != NULL;
}

void *
sim_data(uint64_t address)
{
    struct arena *arena = arena_of(address);
    uint64_t data = arena == NULL ? address : address - arena->seen + arena->data;
    return (void *)(uintptr_t)data;
}

void *
simcuda_host_pointer(uint64_t address)
{
    return sim_address_is_ours(address) ? sim_data(address) : NULL;
}

size_t
sim_memory_used(int device)
{
    return used_bytes[device];
}

/* --- blocks --- */

struct sim_block *
sim_block_at(uint64_t address)
{
    struct sim_block key = {.begin = address, .reserved = 1};
    struct sim_block **node = tfind(&key, &blocks, compare_blocks);
    return node == NULL ? NULL : *node;
}

struct sim_block *
sim_block_keep(struct sim_block *block)
{
    block->refs++;
    return block;
}

void
sim_block_release(struct sim_block *block)
{
    if (--block->refs == 0) {
        free(block->past);
        free(block);
    }
}

void
sim_block_poison(struct sim_block *block, int pattern)
{
    char *data = sim_data(block->begin);
    if (block->nbytes <= poison_all_below) {
        memset(data, pattern, block->nbytes);
    } else {
        memset(data, pattern, POISON_ENDS);
        memset(data + block->nbytes - POISON_ENDS, pattern, POISON_ENDS);
    }
}

static int
class_of(size_t nbytes)
{
    int log2 = SMALLEST_LOG2;
    while (((size_t)1 << log2) < nbytes) {
        log2++;
    }
    return log2;
}

static void
set_idle(uint64_t address, size_t reserved)
{
    struct arena *arena = arena_of(address);
    int class = class_of(reserved);
    if (arena->idle_count[class] == arena->idle_capacity[class]) {
        size_t capacity = arena->idle_capacity[class] * 2 + 16;
        arena->idle[class] = sim_grow(arena->idle[class], capacity * sizeof(uint64_t));
        arena->idle_capacity[class] = capacity;
    }
    arena->idle[class][arena->idle_count[class]++] = address;
}

static uint64_t
take_address(struct arena *arena, int class)
{
    size_t reserved = (size_t)1 << class;
    if (arena->idle_count[class] > 0) {
        return arena->idle[class][--arena->idle_count[class]];
    }
    if (arena_bytes - arena->used < reserved) {
        return 0;
    }
    uint64_t address = arena->seen + arena->used;
    arena->used += reserved;
    return address;
}

static void
forget(struct sim_block *block)
{
    tdelete(block, &blocks, compare_blocks);
    sim_block_release(block);
}

/* Reuse: the newest dead block of the right size whose free the caller's clock knows,
 * as a stream-ordered pool would pick it. */
static uint64_t
take_dead(struct arena *arena, int class, const struct sim_clock *knows)
{
    struct sim_block *best = NULL, *before_best = NULL, *before = NULL;
    for (struct sim_block *dead = oldest_dead; dead != NULL;
         before = dead, dead = dead->next) {
        if (arena_of(dead->begin) == arena && dead->reserved == (size_t)1 << class &&
            sim_clock_at(knows, dead->free_node) >= dead->free_node_tick) {
            best = dead;
            before_best = before;
        }
    }
    if (best == NULL) {
        return 0;
    }
    *(before_best == NULL ? &oldest_dead : &before_best->next) = best->next;
    if (newest_dead == best) {
        newest_dead = before_best;
    }
    quarantined -= best->reserved;
    uint64_t address = best->begin;
    forget(best);
    return address;
}

CUresult
sim_block_new(struct sim_block **out, enum sim_memory memory, size_t nbytes, int device,
              const struct sim_clock *knows)
{
    struct arena *arena = memory == SIM_DEVICE_MEMORY ? &device_arena : &host_arena;
    if (nbytes == 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (nbytes > arena_bytes || !map_arena(arena, memory == SIM_DEVICE_MEMORY) ||
        (memory != SIM_PINNED &&
         used_bytes[device] + nbytes > sim.config.device_memory)) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    int class = class_of(nbytes);
    uint64_t address = sim.config.reuse ? take_dead(arena, class, knows) : 0;
    if (address == 0) {
        address = take_address(arena, class);
    }
    if (address == 0) {
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    struct sim_block *block = sim_alloc(sizeof(*block));
    *block = (struct sim_block){.refs = 1,
                                .begin = address,
                                .nbytes = nbytes,
                                .reserved = (size_t)1 << class,
                                .memory = memory,
                                .device = device,
                                .id = ++sim.next_id};
    used_bytes[device] += memory == SIM_PINNED ? 0 : nbytes;
    tsearch(block, &blocks, compare_blocks);
    sim_count(SIM_KIND_BLOCK, 1);
    *out = block;
    return CUDA_SUCCESS;
}

CUresult
sim_block_register(struct sim_block **out, void *address, size_t nbytes)
{
    struct sim_block *block = sim_alloc(sizeof(*block));
    *block = (struct sim_block){.refs = 1,
                                .begin = (uint64_t)(uintptr_t)address,
                                .nbytes = nbytes,
                                .reserved = nbytes,
                                .memory = SIM_REGISTERED,
                                .id = ++sim.next_id};
    if (tfind(block, &blocks, compare_blocks) != NULL) {
        free(block);
        return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    }
    tsearch(block, &blocks, compare_blocks);
    sim_count(SIM_KIND_BLOCK, 1);
    *out = block;
    return CUDA_SUCCESS;
}

static const struct sim_pool *leaving;

static void
leave_pool(const void *node, VISIT when, int depth)
{
    (void)depth;
    struct sim_block *block = *(struct sim_block *const *)node;
    if ((when == postorder || when == leaf) && block->pool == leaving) {
        block->pool = NULL;
    }
}

void
sim_blocks_leave_pool(const struct sim_pool *pool)
{
    leaving = pool;
    twalk(blocks, leave_pool);
}

void
sim_block_free(struct sim_block *block, const struct sim_site *site)
{
    block->freed = true;
    block->died = *site;
    sim_count(SIM_KIND_BLOCK, -1);
}

void
sim_block_bury(struct sim_block *block)
{
    if (block->memory == SIM_REGISTERED) {
        forget(block);
        return;
    }
    used_bytes[block->device] -= block->memory == SIM_PINNED ? 0 : block->nbytes;
    block->next = NULL;
    *(newest_dead == NULL ? &oldest_dead : &newest_dead->next) = block;
    newest_dead = block;
    quarantined += block->reserved;
    while (quarantined > quarantine_limit && oldest_dead != newest_dead) {
        struct sim_block *dead = oldest_dead;
        if (sim.config.reuse &&
            sim_clock_at(&sim.host, dead->free_node) < dead->free_node_tick) {
            break; /* buried when its free was submitted, which may not have run */
        }
        oldest_dead = dead->next;
        quarantined -= dead->reserved;
        set_idle(dead->begin, dead->reserved);
        forget(dead);
    }
}

static void
forget_node(void *node)
{
    sim_block_release(node);
}

static void
empty_arena(struct arena *arena)
{
    for (int i = 0; i < CLASSES; i++) {
        free(arena->idle[i]);
    }
    /* Addresses stay mapped, so that a pointer of an earlier simulation is harmless;
     * their pages go back, and a new simulation starts above them. */
    if (arena->data != 0) {
        madvise((void *)(uintptr_t)arena->data, arena->used, MADV_REMOVE);
    }
    size_t used = arena->used > arena_bytes / 2 ? 0 : arena->used;
    *arena = (struct arena){.seen = arena->seen, .data = arena->data, .used = used};
}

void
sim_memory_reset(void)
{
    tdestroy(blocks, forget_node);
    blocks = NULL;
    oldest_dead = newest_dead = NULL;
    quarantined = 0;
    memset(used_bytes, 0, sizeof(used_bytes));
    empty_arena(&device_arena);
    empty_arena(&host_arena);
}
