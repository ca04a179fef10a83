/* What operations.c, scheduler.c and scheduler_policy.c share: what is pending.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMCUDA_SCHEDULER_H
#define SIMCUDA_SCHEDULER_H

#include "sim.h"

struct sim_schedule {
    struct sim_op *oldest, *newest; /* all that are pending, in order of submission */
    size_t pending;
    uint64_t submitted;
    struct sim_op *
        *ready; /* those with nothing unmet, in no order; gates may stop them */
    size_t ready_count, ready_capacity;
    uint64_t epoch;    /* of the last search for ancestors */
    bool is_unsettled; /* something was submitted since the policy had its turn */
    struct sim_op **stack;
    size_t stack_capacity;
};

extern struct sim_schedule sim_schedule;

struct sim_op *sim_pick_oldest(void);
void sim_op_run(struct sim_op *op);
void sim_op_cancel(struct sim_op *op);
/* Value waits and writes of the same word know of each other. */
void sim_values_meet(struct sim_op *op, struct sim_clock *clock);
void sim_values_reset(void);

#endif
