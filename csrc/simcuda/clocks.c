/* Vector clocks and the races they show.
 * Every submission joins what its stream, its dependencies and the host know, then
 * ticks its stream's component. Two accesses race if neither's clock knows the other:
 * decided when work is submitted, from what was asked for, so it does not depend on
 * what has happened to run. The past of a block keeps only what could still race: what
 * the host has waited for is known to everything that comes, and an access is forgotten
 * when a later one covers it. SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

enum { MAX_PAST = 256, MAX_RETIRED_NODES = 256 };

struct sim_past {
    size_t begin, end;
    bool writes;
    unsigned node;
    uint64_t tick;
    struct sim_site site;
};

/* Components of streams that are gone, with their last tick: oldest first. */
static struct {
    unsigned node;
    uint64_t tick;
} retired[MAX_RETIRED_NODES];
static unsigned retired_count;
static unsigned node_count = 1;

uint64_t
sim_clock_at(const struct sim_clock *clock, unsigned node)
{
    return node < clock->length ? clock->ticks[node] : 0;
}

static void
reach(struct sim_clock *clock, unsigned length)
{
    if (length > clock->capacity) {
        unsigned capacity = length < 8 ? 8 : length * 2;
        clock->ticks = sim_grow(clock->ticks, capacity * sizeof(uint64_t));
        clock->capacity = capacity;
    }
    if (length > clock->length) {
        memset(clock->ticks + clock->length, 0,
               (length - clock->length) * sizeof(uint64_t));
        clock->length = length;
    }
}

void
sim_clock_join(struct sim_clock *into, const struct sim_clock *from)
{
    sim.effort += from->length;
    reach(into, from->length);
    for (unsigned i = 0; i < from->length; i++) {
        if (from->ticks[i] > into->ticks[i]) {
            into->ticks[i] = from->ticks[i];
        }
    }
}

void
sim_clock_tick(struct sim_clock *clock, unsigned node)
{
    reach(clock, node + 1);
    clock->ticks[node]++;
}

void
sim_clock_clear(struct sim_clock *clock)
{
    free(clock->ticks);
    *clock = (struct sim_clock){0};
}

/* A component can be given to a new stream once the host knows all of its ticks. Where
 * many streams die and the host never waits, the oldest is taken all the same: a race
 * with that stream's last accesses may then be missed, never invented. */
unsigned
sim_node_take(void)
{
    unsigned at = retired_count;
    for (unsigned i = 0; i < retired_count && at == retired_count; i++) {
        if (sim_clock_at(&sim.host, retired[i].node) >= retired[i].tick) {
            at = i;
        }
    }
    if (at == retired_count && retired_count == MAX_RETIRED_NODES) {
        at = 0;
    }
    if (at == retired_count) {
        return node_count++;
    }
    unsigned node = retired[at].node;
    retired_count--;
    memmove(&retired[at], &retired[at + 1], (retired_count - at) * sizeof(retired[0]));
    return node;
}

void
sim_node_give(unsigned node, uint64_t last_tick)
{
    if (retired_count < MAX_RETIRED_NODES) {
        retired[retired_count].node = node;
        retired[retired_count].tick = last_tick;
        retired_count++;
    }
}

void
sim_nodes_reset(void)
{
    retired_count = 0;
    node_count = 1;
}

static void
report(const struct sim_access *access, const struct sim_past *past,
       const struct sim_site *site)
{
    size_t begin = access->begin > past->begin ? access->begin : past->begin;
    size_t end = access->end < past->end ? access->end : past->end;
    sim_finding(
        "race", &past->site, site,
        "%s, then %s, of bytes %zu to %zu of block 0x%llx (%zu bytes): nothing "
        "orders them; an event recorded after the first and waited for before the "
        "second is missing",
        past->writes ? "write" : "read", access->writes ? "write" : "read", begin, end,
        (unsigned long long)access->block->begin, access->block->nbytes);
}

static void
remember(struct sim_block *block, struct sim_past entry)
{
    if (block->past_count == MAX_PAST) {
        /* Many disjoint accesses without a wait of the host: forget the older half. */
        block->past_count = MAX_PAST / 2;
        memmove(block->past, block->past + MAX_PAST / 2,
                block->past_count * sizeof(*block->past));
    }
    if (block->past_count == block->past_capacity) {
        block->past_capacity = block->past_capacity == 0 ? 4 : block->past_capacity * 2;
        block->past =
            sim_grow(block->past, block->past_capacity * sizeof(*block->past));
    }
    block->past[block->past_count++] = entry;
}

static void
track(struct sim_access *access, const struct sim_site *site,
      const struct sim_clock *clock, unsigned node)
{
    struct sim_block *block = access->block;
    unsigned kept = 0;
    sim.effort += block->past_count;
    for (unsigned i = 0; i < block->past_count; i++) {
        struct sim_past *past = &block->past[i];
        bool is_known = sim_clock_at(clock, past->node) >= past->tick;
        bool overlaps = past->begin < access->end && access->begin < past->end;
        if (!is_known && overlaps && (past->writes || access->writes)) {
            report(access, past, site);
        }
        bool is_covered = is_known && access->begin <= past->begin &&
                          past->end <= access->end && (access->writes || !past->writes);
        bool is_settled = sim_clock_at(&sim.host, past->node) >= past->tick;
        if (!is_covered && !is_settled) {
            block->past[kept++] = *past;
        }
    }
    block->past_count = kept;
    struct sim_past entry = {
        access->begin, access->end, access->writes, node, sim_clock_at(clock, node),
        *site};
    remember(block, entry);
}

void
sim_track(struct sim_access *accesses, unsigned count, const struct sim_site *site,
          const struct sim_clock *clock, unsigned node)
{
    for (unsigned i = 0; i < count; i++) {
        track(&accesses[i], site, clock, node);
    }
}

bool
sim_block_is_in_use(const struct sim_block *block, struct sim_site *who)
{
    for (unsigned i = 0; i < block->past_count; i++) {
        const struct sim_past *past = &block->past[i];
        if (sim_clock_at(&sim.host, past->node) < past->tick) {
            *who = past->site;
            return true;
        }
    }
    return false;
}
