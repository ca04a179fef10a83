/* Operations: work on its way through a stream. An operation needs the last one of its
 * stream, the points it waits for, and what the rules of the legacy default stream add.
 * Only pending operations are linked: what is done costs nothing, however long the run.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "scheduler.h"
#include "sim.h"

struct sim_schedule sim_schedule;

/* --- operations --- */

struct sim_op *
sim_op_keep(struct sim_op *op)
{
    op->refs++;
    return op;
}

static void
drop_needs(struct sim_op *op)
{
    for (unsigned i = 0; i < op->need_count; i++) {
        sim_op_release(op->needs[i]);
    }
    free(op->needs);
    op->needs = NULL;
    op->need_count = 0;
}

void
sim_op_release(struct sim_op *op)
{
    if (op == NULL || --op->refs > 0) {
        return;
    }
    drop_needs(op);
    free(op->feeds);
    free(op);
    sim_count(SIM_KIND_OP, -1);
}

void
sim_point_set(struct sim_point *point, struct sim_op *op, const struct sim_clock *clock)
{
    struct sim_op *old = point->op;
    point->op = op == NULL ? NULL : sim_op_keep(op);
    sim_op_release(old);
    point->clock.length = 0;
    if (clock != NULL) {
        sim_clock_join(&point->clock, clock);
    }
}

static void
set_ready(struct sim_op *op)
{
    struct sim_schedule *s = &sim_schedule;
    if (s->ready_count == s->ready_capacity) {
        s->ready_capacity = s->ready_capacity == 0 ? 64 : s->ready_capacity * 2;
        s->ready = sim_grow(s->ready, s->ready_capacity * sizeof(*s->ready));
    }
    op->ready_index = (int)s->ready_count;
    s->ready[s->ready_count++] = op;
}

static void
unset_ready(struct sim_op *op)
{
    struct sim_schedule *s = &sim_schedule;
    if (op->ready_index >= 0) {
        struct sim_op *moved = s->ready[--s->ready_count];
        s->ready[op->ready_index] = moved;
        moved->ready_index = op->ready_index;
        op->ready_index = -1;
    }
}

static void
add_need(struct sim_op *op, struct sim_op *need)
{
    if (need == NULL || need->state != SIM_PENDING) {
        return;
    }
    for (unsigned i = 0; i < op->need_count; i++) {
        if (op->needs[i] == need) {
            return;
        }
    }
    op->needs = sim_grow(op->needs, (op->need_count + 1) * sizeof(*op->needs));
    op->needs[op->need_count++] = sim_op_keep(need);
    if (need->feed_count == need->feed_capacity) {
        need->feed_capacity = need->feed_capacity == 0 ? 2 : need->feed_capacity * 2;
        need->feeds = sim_grow(need->feeds, need->feed_capacity * sizeof(*need->feeds));
    }
    need->feeds[need->feed_count++] = op;
    op->unmet++;
}

/* Takes the operation out of everything pending, done or cancelled. What is left of it
 * only says so to those who still hold it. */
static void
finish(struct sim_op *op, enum sim_op_state state)
{
    struct sim_schedule *s = &sim_schedule;
    unset_ready(op);
    op->state = state;
    sim.now_ms += 0.001;
    op->finished_at = sim.now_ms;
    *(op->older == NULL ? &s->oldest : &op->older->newer) = op->newer;
    *(op->newer == NULL ? &s->newest : &op->newer->older) = op->older;
    s->pending--;
    if (op->work->kind == SIM_HOST_FUNCTION || op->work->kind == SIM_CALLBACK) {
        sim.host_functions_pending--;
    }
    for (unsigned i = 0; i < op->feed_count; i++) {
        if (--op->feeds[i]->unmet == 0) {
            set_ready(op->feeds[i]);
        }
    }
    op->feed_count = 0;
    drop_needs(op);
    if (op->stream->tail.op == op) {
        op->stream->tail.op = NULL;
        sim_op_release(op);
    }
    sim_work_release(op->work);
    sim_stream_release(op->stream);
    op->work = NULL;
    op->stream = NULL;
    sim_op_release(op);
}

void
sim_op_run(struct sim_op *op)
{
    unset_ready(op);
    sim_execute(op);
    finish(op, SIM_DONE);
}

void
sim_op_cancel(struct sim_op *op)
{
    finish(op, SIM_CANCELLED);
}

/* --- submission --- */

static void
follow(struct sim_op *op, struct sim_clock *clock, const struct sim_point *point)
{
    add_need(op, point->op);
    sim_clock_join(clock, &point->clock);
}

/* The legacy default stream and the blocking streams of its context wait for each
 * other. */
static void
follow_legacy_rules(struct sim_op *op, struct sim_clock *clock)
{
    struct sim_stream *stream = op->stream;
    if (stream->is_legacy) {
        for (struct sim_stream *s = stream->context->streams; s != NULL; s = s->next) {
            if (s != stream && sim_stream_is_blocking(s)) {
                follow(op, clock, &s->tail);
            }
        }
    } else if (sim_stream_is_blocking(stream)) {
        follow(op, clock, &stream->context->legacy->tail);
    }
}

static void
link_pending(struct sim_op *op)
{
    struct sim_schedule *s = &sim_schedule;
    op->number = ++s->submitted;
    op->older = s->newest;
    *(s->newest == NULL ? &s->oldest : &s->newest->newer) = op;
    s->newest = op;
    s->pending++;
    if (op->unmet == 0) {
        set_ready(op);
    }
}

static struct sim_op *
op_new(struct sim_stream *stream, struct sim_work *work)
{
    struct sim_op *op = sim_alloc(sizeof(*op));
    sim_count(SIM_KIND_OP, 1);
    op->refs = 1; /* while pending */
    op->ready_index = -1;
    op->stream = stream;
    stream->refs++;
    stream->submitted++;
    op->work = work;
    work->refs++;
    return op;
}

static void
submit(struct sim_op *op)
{
    struct sim_work *work = op->work;
    sim_track(work->accesses, work->access_count, &work->site, &op->stream->tail.clock,
              op->stream->node);
    if (work->kind == SIM_HOST_FUNCTION || work->kind == SIM_CALLBACK) {
        sim.host_functions_pending++;
        sim_driver_thread_needed();
    }
    link_pending(op);
    sim_schedule.is_unsettled = true;
}

struct sim_op *
sim_enqueue(struct sim_stream *stream, struct sim_work *work,
            const struct sim_point *const *points, unsigned point_count)
{
    struct sim_op *op = op_new(stream, work);
    struct sim_clock *clock = &stream->tail.clock;
    work->site.stream = stream->name;
    sim_clock_join(clock, &sim.host);
    add_need(op, stream->tail.op);
    for (unsigned i = 0; i < point_count; i++) {
        follow(op, clock, points[i]);
    }
    follow_legacy_rules(op, clock);
    sim_values_meet(op, clock);
    sim_clock_tick(clock, stream->node);
    sim_op_release(stream->tail.op);
    stream->tail.op = sim_op_keep(op);
    submit(op);
    return op;
}

struct sim_op *
sim_enqueue_node(struct sim_stream *stream, struct sim_work *work,
                 struct sim_op *const *needs, unsigned need_count,
                 const struct sim_point *point)
{
    struct sim_op *op = op_new(stream, work);
    for (unsigned i = 0; i < need_count; i++) {
        add_need(op, needs[i]);
    }
    if (point != NULL) {
        follow(op, &stream->tail.clock, point);
    }
    submit(op);
    return op;
}
