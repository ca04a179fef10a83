/* Which of the operations that could run does run next, and when a gate is open.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "scheduler.h"

enum { MAX_CHOICES = 256, MAX_WRITES = 64 };

static uint64_t random_state;
static uint32_t choices[MAX_CHOICES], alternatives_met[MAX_CHOICES];
static unsigned choice_count, choices_made;

/* The last writes of value words, and what the writing stream knew: a wait that one of
 * them satisfies is ordered behind it. */
static struct {
    uint64_t address, value;
    struct sim_clock clock;
} writes[MAX_WRITES];
static unsigned write_count;

/* --- choosing --- */

uint64_t
sim_random(void)
{
    /* splitmix64 */
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

unsigned
sim_choose(unsigned alternatives)
{
    if (alternatives <= 1) {
        return 0;
    }
    unsigned at = choices_made++;
    if (at >= MAX_CHOICES) {
        return 0;
    }
    alternatives_met[at] = alternatives;
    unsigned choice = at < choice_count ? choices[at] : 0;
    return choice < alternatives ? choice : 0;
}

static bool
can_run(const struct sim_op *op)
{
    return op->work->kind != SIM_WAIT_VALUE || sim_gate_is_open(op->work);
}

struct sim_op *
sim_pick_oldest(void)
{
    struct sim_op *best = sim_schedule.oldest;
    if (best != NULL && can_run(best)) {
        return best; /* it can only have needed older ones */
    }
    best = NULL;
    sim.effort += sim_schedule.ready_count;
    for (size_t i = 0; i < sim_schedule.ready_count; i++) {
        struct sim_op *op = sim_schedule.ready[i];
        if ((best == NULL || op->number < best->number) && can_run(op)) {
            best = op;
        }
    }
    return best;
}

/* Lazy: frees as early as their own stream allows, so that readers nobody ordered see
 * 0xDD; else the latest of those in demand. */
static struct sim_op *
pick_latest(uint64_t epoch, bool forced)
{
    struct sim_op *best = NULL;
    sim.effort += sim_schedule.ready_count;
    for (size_t i = 0; i < sim_schedule.ready_count; i++) {
        struct sim_op *op = sim_schedule.ready[i];
        if (op->work->kind == SIM_FREE) {
            return op;
        }
        if (forced && op->mark != epoch) {
            continue;
        }
        if ((best == NULL || op->number > best->number) && can_run(op)) {
            best = op;
        }
    }
    return best;
}

static int
by_number(const void *a, const void *b)
{
    const struct sim_op *one = *(struct sim_op *const *)a,
                        *two = *(struct sim_op *const *)b;
    return one->number < two->number ? -1 : one->number > two->number;
}

/* Random and exhaustive: any operation that can run. Sorted, because the order of the
 * list of ready operations is an accident that a replay must not depend on. */
static struct sim_op *
pick_any(bool at_random)
{
    size_t count = 0;
    sim.effort += sim_schedule.ready_count;
    struct sim_op **open = sim_alloc((sim_schedule.ready_count + 1) * sizeof(*open));
    for (size_t i = 0; i < sim_schedule.ready_count; i++) {
        if (can_run(sim_schedule.ready[i])) {
            open[count++] = sim_schedule.ready[i];
        }
    }
    struct sim_op *picked = NULL;
    if (count > 0) {
        qsort(open, count, sizeof(*open), by_number);
        size_t index =
            at_random ? (size_t)(sim_random() % count) : sim_choose((unsigned)count);
        picked = open[index];
    }
    free(open);
    return picked;
}

struct sim_op *
sim_pick(uint64_t epoch, bool forced)
{
    switch (sim.config.policy) {
        case SIMCUDA_EAGER:
            return sim_pick_oldest();
        case SIMCUDA_RANDOM:
            return pick_any(true);
        case SIMCUDA_EXHAUSTIVE:
            return pick_any(false);
        default:
            return pick_latest(epoch, forced);
    }
}

void
sim_policy_reset(void)
{
    random_state = sim.config.seed;
    choices_made = 0;
    memset(alternatives_met, 0, sizeof(alternatives_met));
}

/* Lock: the caller's next step is simcuda_reset, which takes it. */
void
simcuda_choices_set(const uint32_t *wanted, unsigned n)
{
    pthread_mutex_lock(&sim.lock);
    choice_count = n < MAX_CHOICES ? n : MAX_CHOICES;
    if (choice_count > 0) {
        memcpy(choices, wanted, choice_count * sizeof(*choices));
    }
    pthread_mutex_unlock(&sim.lock);
}

unsigned
simcuda_choices_get(uint32_t *alternatives, unsigned capacity)
{
    pthread_mutex_lock(&sim.lock);
    unsigned met = choices_made < MAX_CHOICES ? choices_made : MAX_CHOICES;
    if (alternatives != NULL) {
        memcpy(alternatives, alternatives_met,
               (met < capacity ? met : capacity) * sizeof(*alternatives));
    }
    unsigned made = choices_made;
    pthread_mutex_unlock(&sim.lock);
    return made;
}

/* --- gates: waits for the value of a word --- */

static bool
satisfies(uint64_t word, const struct sim_work *wait)
{
    uint64_t value = wait->u.value.value;
    bool wide = wait->u.value.wide;
    switch (wait->u.value.flags & CU_STREAM_WAIT_VALUE_MASK) {
        case CU_STREAM_WAIT_VALUE_EQ:
            return word == value;
        case CU_STREAM_WAIT_VALUE_AND:
            return (word & value) != 0;
        case CU_STREAM_WAIT_VALUE_NOR:
            return (wide ? ~(word | value) : (uint64_t)(uint32_t)~(word | value)) != 0;
        default: /* cyclic greater-or-equal */
            return wide ? (int64_t)(word - value) >= 0
                        : (int32_t)((uint32_t)word - (uint32_t)value) >= 0;
    }
}

bool
sim_gate_is_open(const struct sim_work *wait)
{
    void *word = sim_data(wait->u.value.address);
    uint64_t value = wait->u.value.wide
                         ? __atomic_load_n((uint64_t *)word, __ATOMIC_ACQUIRE)
                         : __atomic_load_n((uint32_t *)word, __ATOMIC_ACQUIRE);
    return satisfies(value, wait);
}

static void
remember_write(const struct sim_work *work, const struct sim_clock *clock)
{
    unsigned at = 0;
    while (at < write_count && writes[at].address != work->u.value.address) {
        at++;
    }
    if (at == write_count) {
        at = write_count < MAX_WRITES ? write_count++ : 0;
    }
    writes[at].address = work->u.value.address;
    writes[at].value = work->u.value.value;
    writes[at].clock.length = 0;
    sim_clock_join(&writes[at].clock, clock);
}

/* A wait submitted after the write that satisfies it knows what the writer knew; a wait
 * submitted before it makes its stream know that from now on. Operations in between are
 * judged without: a race may be reported that the gate in fact prevents. */
void
sim_values_meet(struct sim_op *op, struct sim_clock *clock)
{
    const struct sim_work *work = op->work;
    if (work->kind == SIM_WAIT_VALUE) {
        for (unsigned i = 0; i < write_count; i++) {
            if (writes[i].address == work->u.value.address &&
                satisfies(writes[i].value, work)) {
                sim_clock_join(clock, &writes[i].clock);
            }
        }
    } else if (work->kind == SIM_WRITE_VALUE) {
        remember_write(work, clock);
        sim.effort += sim_schedule.pending;
        for (struct sim_op *other = sim_schedule.oldest; other != NULL;
             other = other->newer) {
            if (other->work->kind == SIM_WAIT_VALUE &&
                other->work->u.value.address == work->u.value.address &&
                satisfies(work->u.value.value, other->work)) {
                sim_clock_join(&other->stream->tail.clock, clock);
            }
        }
    }
}

void
sim_values_reset(void)
{
    for (unsigned i = 0; i < write_count; i++) {
        sim_clock_clear(&writes[i].clock);
    }
    write_count = 0;
}
