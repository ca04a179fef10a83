/* When operations run. Nothing runs because it was submitted (policies apart): a
 * blocking call runs the ancestors of what it waits for, the latest first, so that what
 * nobody ordered comes out in the wrong order. SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "scheduler.h"
#include "sim.h"

static void
bound_pending(void)
{
    struct sim_op *op;
    while (sim.config.window > 0 && sim_schedule.pending > sim.config.window &&
           (op = sim_pick_oldest()) != NULL) {
        sim_op_run(op);
    }
}

/* What the policy runs of its own accord, once an entry point has submitted something.
 */
void
sim_settle(void)
{
    if (!sim_schedule.is_unsettled) {
        return;
    }
    sim_schedule.is_unsettled = false;
    struct sim_op *op;
    if (sim.config.policy == SIMCUDA_EAGER) {
        while ((op = sim_pick_oldest()) != NULL) {
            sim_op_run(op);
        }
    } else if (sim.config.policy == SIMCUDA_RANDOM) {
        for (uint64_t n = sim_random() % 3; n > 0 && (op = sim_pick(0, false)) != NULL;
             n--) {
            sim_op_run(op);
        }
    }
    bound_pending();
}

static void
mark_ancestors(struct sim_op *target, uint64_t epoch)
{
    struct sim_schedule *s = &sim_schedule;
    size_t depth = 0;
    struct sim_op *op = target;
    while (op != NULL) {
        sim.effort++;
        if (op->state == SIM_PENDING && op->mark != epoch) {
            op->mark = epoch;
            if (depth + op->need_count > s->stack_capacity) {
                s->stack_capacity = (depth + op->need_count) * 2 + 64;
                s->stack = sim_grow(s->stack, s->stack_capacity * sizeof(*s->stack));
            }
            for (unsigned i = 0; i < op->need_count; i++) {
                s->stack[depth++] = op->needs[i];
            }
        }
        op = depth == 0 ? NULL : s->stack[--depth];
    }
}

static bool
are_over(struct sim_op *const *ops, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (ops[i] != NULL && ops[i]->state == SIM_PENDING) {
            return false;
        }
    }
    return true;
}

/* Runs towards the operations for as long as no gate stops it. */
static bool
force(struct sim_op *const *ops, size_t count)
{
    uint64_t epoch = ++sim_schedule.epoch;
    for (size_t i = 0; i < count; i++) {
        mark_ancestors(ops[i], epoch);
    }
    struct sim_op *op;
    while (!are_over(ops, count) && (op = sim_pick(epoch, true)) != NULL) {
        sim_op_run(op);
    }
    return are_over(ops, count);
}

/* Everything of some kinds that is pending, which may open a gate. Returns whether it
 * ran. */
static bool
force_kinds(bool values)
{
    size_t count = 0;
    struct sim_op **ops =
        sim_alloc((sim_schedule.pending + 1) * sizeof(struct sim_op *));
    for (struct sim_op *op = sim_schedule.oldest; op != NULL; op = op->newer) {
        enum sim_work_kind kind = op->work->kind;
        if (kind == SIM_HOST_FUNCTION || kind == SIM_CALLBACK ||
            (values && kind == SIM_WRITE_VALUE)) {
            ops[count++] = sim_op_keep(op);
        }
    }
    size_t before = sim_schedule.pending;
    force(ops, count);
    bool progressed = sim_schedule.pending < before;
    for (size_t i = 0; i < count; i++) {
        sim_op_release(ops[i]);
    }
    free(ops);
    return progressed;
}

void
sim_run_for_host_functions(void)
{
    struct sim_op *op;
    if (sim.config.policy == SIMCUDA_EAGER) {
        while ((op = sim_pick_oldest()) != NULL) {
            sim_op_run(op);
        }
    }
    if (sim.host_functions_pending > 0) {
        force_kinds(false);
        pthread_cond_broadcast(&sim.progress);
    }
}

static double
seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void
report_stall(struct sim_op *const *ops, size_t count)
{
    char text[512] = "";
    size_t used = 0;
    unsigned more = 0;
    uint64_t epoch = ++sim_schedule.epoch;
    for (size_t i = 0; i < count; i++) {
        mark_ancestors(ops[i], epoch);
    }
    for (struct sim_op *op = sim_schedule.oldest; op != NULL; op = op->newer) {
        if (op->mark != epoch) {
            continue;
        }
        if (used > sizeof(text) - 120) {
            more++;
            continue;
        }
        char stream[64];
        sim_stream_text(&op->stream->name, stream, sizeof(stream));
        int n = snprintf(text + used, sizeof(text) - used, "%s%s on %s",
                         used == 0 ? "" : ", ", op->work->site.call, stream);
        used += n < 0 ? 0 : (size_t)n;
    }
    sim_finding(
        "stalled", NULL, NULL,
        "a blocking call waited %g s for a gate that nobody opened; blocked, oldest "
        "first: %s and %u more",
        sim.config.timeout_s, text, more);
}

CUresult
sim_await(struct sim_op *const *ops, size_t count)
{
    double give_up_at = 0;
    while (!force(ops, count)) {
        if (force_kinds(true)) {
            continue;
        }
        double now = seconds_now();
        if (give_up_at == 0) {
            give_up_at = now + sim.config.timeout_s;
        } else if (now > give_up_at) {
            report_stall(ops, count);
            return CUDA_ERROR_LAUNCH_TIMEOUT;
        }
        /* A host store opens a gate without a word to us: look again soon. */
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        pthread_cond_timedwait(&sim.progress, &sim.lock, &until);
    }
    for (size_t i = 0; i < count; i++) {
        if (ops[i] != NULL && ops[i]->state == SIM_CANCELLED) {
            return CUDA_ERROR_LAUNCH_FAILED; /* callers prefer the context's own error
                                              */
        }
    }
    return CUDA_SUCCESS;
}

CUresult
sim_poll(struct sim_op *op)
{
    if (op == NULL || op->state != SIM_PENDING) {
        return CUDA_SUCCESS;
    }
    if (sim.config.policy == SIMCUDA_EAGER) {
        force(&op, 1);
    } else if (op->queries++ >= sim.config.lazy_queries) {
        struct sim_op *kept = sim_op_keep(op);
        force(&kept, 1);
        enum sim_op_state state = kept->state;
        sim_op_release(kept);
        return state == SIM_PENDING ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
    }
    return op->state == SIM_PENDING ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

uint64_t
sim_run_all(void)
{
    struct sim_op *op;
    while ((op = sim_pick(0, false)) != NULL) {
        sim_op_run(op);
    }
    pthread_cond_broadcast(&sim.progress);
    return sim_schedule.pending;
}

/* The context is in error or gone: its operations never run. Stream callbacks are told
 * of an error; host functions are not. */
void
sim_cancel(struct sim_context *context)
{
    for (struct sim_op *op = sim_schedule.oldest, *newer; op != NULL; op = newer) {
        newer = op->newer;
        if (op->stream->context != context) {
            continue;
        }
        if (op->work->kind == SIM_CALLBACK && context->error != CUDA_SUCCESS) {
            sim_callback_later(op->work->u.callback.function,
                               op->work->u.callback.stream, context->error,
                               op->work->u.callback.user);
        }
        sim_op_cancel(op);
    }
    pthread_cond_broadcast(&sim.progress);
}

void
sim_scheduler_reset(void)
{
    while (sim_schedule.oldest != NULL) {
        sim_op_cancel(sim_schedule.oldest);
    }
    sim.now_ms = 0;
    sim_schedule.submitted = 0;
}
