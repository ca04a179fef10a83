/* Handles: numbers that look like addresses but are none, so that a stale or foreign
 * handle is an error and not a crash. A hash table maps those alive to their objects,
 * and counts them. Numbers are not handed out twice, unless reuse is on: then the last
 * freed is the next given. SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

struct slot {
    uint64_t handle; /* 0: empty */
    enum sim_kind kind;
    void *object;
};

static struct slot *slots;
static size_t capacity, used; /* capacity is a power of two */
static uint64_t serial;
static uint64_t last_dropped[SIM_KIND_COUNT];
static int64_t live[SIM_KIND_COUNT], peak[SIM_KIND_COUNT];

static const char *const kind_names[SIM_KIND_COUNT] = {
    "context",    "stream",  "event",  "pool",  "graph", "graph_exec",
    "graph_node", "library", "kernel", "block", "op"};

static size_t
home(uint64_t handle)
{
    return (size_t)((handle >> 6) * 0x9e3779b97f4a7c15u >> 20) & (capacity - 1);
}

static struct slot *
find(uint64_t handle)
{
    if (capacity == 0 || handle == 0) {
        return NULL;
    }
    for (size_t i = home(handle); slots[i].handle != 0; i = (i + 1) & (capacity - 1)) {
        if (slots[i].handle == handle) {
            return &slots[i];
        }
    }
    return NULL;
}

static void
place(struct slot entry)
{
    size_t i = home(entry.handle);
    while (slots[i].handle != 0) {
        i = (i + 1) & (capacity - 1);
    }
    slots[i] = entry;
}

static void
make_room(void)
{
    if (used * 2 < capacity) {
        return;
    }
    struct slot *old = slots;
    size_t old_capacity = capacity;
    capacity = capacity == 0 ? 256 : capacity * 2;
    slots = sim_alloc(capacity * sizeof(*slots));
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i].handle != 0) {
            place(old[i]);
        }
    }
    free(old);
}

void
sim_count(enum sim_kind kind, int change)
{
    live[kind] += change;
    if (live[kind] > peak[kind]) {
        peak[kind] = live[kind];
    }
}

uint64_t
sim_handle_new(enum sim_kind kind, void *object)
{
    make_room();
    uint64_t handle = sim.config.reuse ? last_dropped[kind] : 0;
    last_dropped[kind] = 0;
    if (handle == 0) {
        handle = 0x600000000000u + ++serial * 64;
    }
    place((struct slot){handle, kind, object});
    used++;
    sim_count(kind, 1);
    return handle;
}

void *
sim_handle_get(enum sim_kind kind, const void *handle)
{
    struct slot *slot = find((uint64_t)(uintptr_t)handle);
    return slot != NULL && slot->kind == kind ? slot->object : NULL;
}

void
sim_handle_drop(enum sim_kind kind, uint64_t handle)
{
    struct slot *slot = find(handle);
    if (slot == NULL) {
        return;
    }
    size_t hole = (size_t)(slot - slots);
    slots[hole].handle = 0;
    used--;
    last_dropped[kind] = handle;
    sim_count(kind, -1);
    for (size_t i = (hole + 1) & (capacity - 1); slots[i].handle != 0;
         i = (i + 1) & (capacity - 1)) {
        struct slot moved = slots[i];
        slots[i].handle = 0;
        place(moved);
    }
}

void
sim_handles_reset(void (*each)(enum sim_kind, void *))
{
    struct slot *old = slots; /* aside: `each` may drop handles */
    size_t old_capacity = capacity;
    slots = NULL;
    capacity = used = 0;
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i].handle != 0) {
            each(old[i].kind, old[i].object);
        }
    }
    free(old);
    memset(last_dropped, 0, sizeof(last_dropped));
    memset(live, 0, sizeof(live));
    memset(peak, 0, sizeof(peak));
}

static int64_t
lookup(const int64_t *table, const char *kind)
{
    int64_t found = -1;
    pthread_mutex_lock(&sim.lock);
    for (int i = 0; i < SIM_KIND_COUNT; i++) {
        if (strcmp(kind_names[i], kind) == 0) {
            found = table[i];
        }
    }
    pthread_mutex_unlock(&sim.lock);
    return found;
}

int64_t
simcuda_live(const char *kind)
{
    return lookup(live, kind);
}

int64_t
simcuda_peak(const char *kind)
{
    return lookup(peak, kind);
}
