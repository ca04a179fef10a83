/* SPDX-License-Identifier: Apache-2.0
 *
 * Ordered release: memory goes back to its producer after its consumers' work. An edge
 * makes the producer's stream wait; a park keeps the reference until the work is done;
 * a hold waits for a capture to end before it tries either. No GIL. Threads: any; from
 * where the driver must not be called, everything is deferred.
 */
#include "alloc.h"
#include "reaper.h"

typedef enum park_state { DEFERRED, HELD, PARKED } park_state;

/* A release that could not be finished at once. `events` has room for one a consumer.
 */
typedef struct park {
    dlx_task task;
    park_state state;
    dlx_stream producer;
    uint64_t thread;
    size_t n_consumers;
    size_t n_events;
    dlx_event **events;
    dlx_stream consumers[];
} park;

/* What one attempt came to. */
typedef enum outcome {
    ORDERED, /* drop now */
    DEAD,    /* drop now: no kernel will ever touch the memory again */
    WAITING, /* parked: the events are in place */
    BLOCKED, /* a capture is in the way: try again later */
    BARRED,  /* no driver call is allowed here */
    LOST,    /* nothing can order it */
} outcome;

/* ---- The request ---- */

static void
destroy_park(dlx_task *task)
{
    park *self = (park *)task;
    for (size_t i = 0; i < self->n_events; i++) {
        dlx_event_release(self->events[i]);
    }
    free(self);
}

static dlx_task_verdict examine_park(dlx_task *task, dlx_sweep *sweep, bool is_orphan);

static park *
make_park(const dlx_release_request *request)
{
    size_t n = request->n_consumers;
    if (n > (SIZE_MAX - sizeof(park)) / (sizeof(dlx_stream) + sizeof(dlx_event *))) {
        return NULL;
    }
    /* Streams first: they and the pointers behind them keep their alignment. */
    size_t nbytes = sizeof(park) + n * (sizeof(dlx_stream) + sizeof(dlx_event *));
    park *self = dlx_alloc(nbytes);
    if (self == NULL) {
        return NULL;
    }
    *self = (park){
        .task = {.examine = examine_park,
                 .destroy = destroy_park,
                 .drop = request->drop,
                 .arg = request->arg},
        .producer = request->producer,
        .thread = request->thread,
        .n_consumers = n,
        .events = (dlx_event **)(void *)(self->consumers + n),
    };
    if (n != 0) {
        memcpy(self->consumers, request->consumers, n * sizeof(dlx_stream));
    }
    return self;
}

/* ---- One attempt ---- */

/* The stream to record on for a consumer. A per-thread stream cannot be named from
 * another thread, but the legacy stream waits for it. */
static dlx_stream
reachable(dlx_stream consumer, uint64_t thread)
{
    if (dlx_stream_is_per_thread(consumer) && thread != dlx_thread_id() &&
        !DLX_MUTATED(foreign_thread)) {
        consumer.handle = DLX_CUDA_LEGACY;
    }
    return consumer;
}

/* Of the same hand-off, so of the same thread. */
static bool
is_producer(const dlx_release_request *request, size_t i)
{
    return dlx_stream_same(request->producer, request->consumers[i], true);
}

static bool
has_edge(const dlx_release_request *request)
{
    return request->producer.device_type != 0 &&
           !dlx_stream_is_per_thread(request->producer);
}

static outcome
outcome_of(dlx_status status)
{
    switch (status) {
        case DLX_OK:
            return ORDERED;
        case DLX_DEVICE_LOST:
            return DEAD;
        case DLX_NOT_PERMITTED:
            return BARRED;
        case DLX_CAPTURE_REFUSED:
            return BLOCKED;
        default:
            return LOST;
    }
}

static dlx_status
open_side(dlx_stream stream, dlx_side *side, dlx_error *err)
{
    dlx_gpu *gpu;
    dlx_status status = dlx_gpu_get(stream.device_type, &gpu, err);
    return status == DLX_OK ? dlx_side_init(side, gpu, stream, NULL, err) : status;
}

static dlx_status
ask_capture(dlx_stream stream, dlx_capture *out, dlx_error *err)
{
    dlx_side side;
    dlx_status status = open_side(stream, &side, err);
    return status == DLX_OK ? dlx_side_capture(&side, out, err) : status;
}

/* ORDERED: no capture is in the way of an edge (with_edge) or of a park. */
static outcome
check_captures(const dlx_release_request *request, bool with_edge, dlx_error *err)
{
    dlx_capture producer = {0}, consumer;
    dlx_status status = DLX_OK;
    if (DLX_MUTATED(check_release)) {
        return ORDERED;
    }
    if (with_edge) {
        status = ask_capture(request->producer, &producer, err);
    }
    for (size_t i = 0; status == DLX_OK && i < request->n_consumers; i++) {
        if (is_producer(request, i)) {
            continue;
        }
        dlx_stream stream = reachable(request->consumers[i], request->thread);
        status = ask_capture(stream, &consumer, err);
        bool is_free = dlx_capture_is_idle(consumer) && dlx_capture_is_idle(producer);
        bool is_joint = with_edge && dlx_capture_is_same(consumer, producer);
        if (status == DLX_OK && !is_free && !is_joint) {
            return BLOCKED;
        }
    }
    return outcome_of(status);
}

/* Make the producer wait for each consumer. */
static outcome
make_edges(const dlx_release_request *request, dlx_error *err)
{
    dlx_side from, to;
    dlx_status status = DLX_OK;
    for (size_t i = 0; status == DLX_OK && i < request->n_consumers; i++) {
        if (is_producer(request, i) || DLX_MUTATED(edge)) {
            continue;
        }
        status =
            open_side(reachable(request->consumers[i], request->thread), &from, err);
        if (status == DLX_OK) {
            status = open_side(request->producer, &to, err);
        }
        if (status == DLX_OK) {
            status = dlx_side_order(&from, &to, !DLX_MUTATED(edge_wait), err);
        }
        if (status == DLX_OK) {
            DLX_COUNT(edges);
        }
    }
    return outcome_of(status);
}

/* Record an event on each consumer. */
static outcome
park_events(const dlx_release_request *request, park *self, dlx_error *err)
{
    dlx_side side;
    dlx_status status = DLX_OK;
    if (DLX_MUTATED(park)) {
        return ORDERED;
    }
    for (size_t i = 0; status == DLX_OK && i < request->n_consumers; i++) {
        if (is_producer(request, i)) {
            continue;
        }
        status =
            open_side(reachable(request->consumers[i], request->thread), &side, err);
        if (status == DLX_OK) {
            status = dlx_event_mark(&side, 0, &self->events[self->n_events], err);
        }
        if (status == DLX_OK) {
            self->n_events++;
        }
    }
    if (status != DLX_OK) {
        while (self->n_events > 0) {
            dlx_event_release(self->events[--self->n_events]);
        }
        return outcome_of(status);
    }
    return self->n_events == 0 ? ORDERED : WAITING;
}

static bool
needs_nothing(const dlx_release_request *request)
{
    for (size_t i = 0; i < request->n_consumers; i++) {
        if (!is_producer(request, i)) {
            return false;
        }
    }
    return true;
}

/* Try an edge, then a park. `*self` is made where it is needed and not there yet. */
static outcome
attempt(const dlx_release_request *request, park **self, dlx_error *err)
{
    if (needs_nothing(request)) {
        return ORDERED;
    }
    if (dlx_is_stopped()) {
        dlx_fail(err, DLX_STOPPED, "dlx_release", "nothing is driven any more");
        return LOST;
    }
    if (has_edge(request)) {
        outcome result = check_captures(request, true, err);
        if (result == ORDERED) {
            result = make_edges(request, err);
        }
        if (result != LOST) {
            return result;
        }
    }
    outcome result = check_captures(request, false, err);
    if (result != ORDERED) {
        return result;
    }
    if (*self == NULL) {
        *self = make_park(request);
    }
    if (*self == NULL) {
        dlx_fail(err, DLX_NO_MEMORY, "dlx_release", "out of memory");
        return LOST;
    }
    return park_events(request, *self, err);
}

/* ---- Later, in a sweep ---- */

static dlx_task_verdict
examine_parked(park *self, dlx_sweep *sweep)
{
    while (self->n_events > 0) {
        dlx_event *event = self->events[self->n_events - 1];
        if (!DLX_MUTATED(park_query)) {
            dlx_status status = dlx_sweep_query(sweep, event);
            if (status == DLX_NOT_READY) {
                return DLX_TASK_KEEP;
            }
            if (status != DLX_OK) {
                return status == DLX_DEVICE_LOST ? DLX_TASK_DROP : DLX_TASK_LEAK;
            }
        }
        self->n_events--;
        self->task.home = event->context;
        dlx_event_release(event);
    }
    return DLX_TASK_DROP;
}

static void
become_parked(park *self)
{
    self->state = PARKED;
    dlx_task_count_as(&self->task, DLX_GAUGE(parked));
    DLX_COUNT(parked_ever);
}

static dlx_task_verdict
examine_park(dlx_task *task, dlx_sweep *sweep, bool is_orphan)
{
    park *self = (park *)task;
    if (is_orphan) {
        return DLX_TASK_DROP;
    }
    if (self->state == PARKED) {
        return examine_parked(self, sweep);
    }
    dlx_release_request request = {
        .consumers = self->consumers,
        .n_consumers = self->n_consumers,
        .producer = self->producer,
        .thread = self->thread,
    };
    switch (attempt(&request, &self, NULL)) {
        case ORDERED:
        case DEAD:
            return DLX_TASK_DROP;
        case WAITING:
            become_parked(self);
            return DLX_TASK_KEEP;
        case BLOCKED:
            if (self->state != HELD) {
                self->state = HELD;
                dlx_task_count_as(task, DLX_GAUGE(held));
            }
            return DLX_TASK_KEEP;
        case BARRED:
            return DLX_TASK_KEEP;
        case LOST:
            break;
    }
    return DLX_TASK_LEAK;
}

/* ---- Entry ---- */

/* A stream runs in order: behind an incomplete event of it, none needs to be asked for.
 */
static uintptr_t
key_of(const park *self)
{
    dlx_stream stream = dlx_event_stream(self->events[0]);
    return self->n_events == 1 && !dlx_stream_is_default(stream) ? stream.handle : 0;
}

static void
push_as(park *self, park_state state)
{
    self->state = state;
    if (state == PARKED) {
        DLX_COUNT(parked_ever);
        self->task.key = key_of(self);
        dlx_task_push(&self->task, DLX_GAUGE(parked), false);
    } else if (state == HELD) {
        dlx_task_push(&self->task, DLX_GAUGE(held), false);
    } else {
        dlx_task_push(&self->task, DLX_GAUGE(deferred), true);
    }
}

dlx_release_result
dlx_release(const dlx_release_request *request, dlx_error *err)
{
    park *self = NULL;
    dlx_error local;
    outcome result = attempt(request, &self, &local);
    if (result == ORDERED || result == DEAD) {
        if (self != NULL) {
            destroy_park(&self->task);
        }
        return DLX_RELEASE_NOW;
    }
    if (result != LOST && self == NULL) {
        self = make_park(request);
        if (self == NULL) {
            dlx_fail(&local, DLX_NO_MEMORY, "dlx_release", "out of memory");
        }
    }
    if (result == LOST || self == NULL) {
        if (self != NULL) {
            destroy_park(&self->task);
        }
        if (err != NULL) {
            *err = local;
        }
        DLX_COUNT(leaked);
        return DLX_RELEASE_LEAKED;
    }
    push_as(self, result == WAITING ? PARKED : result == BLOCKED ? HELD : DEFERRED);
    return DLX_RELEASE_LATER;
}

void
dlx_release_defer(const dlx_release_request *request)
{
    park *self = dlx_is_stopped() ? NULL : make_park(request);
    if (self == NULL) {
        DLX_COUNT(leaked);
        return;
    }
    push_as(self, DEFERRED);
}

dlx_status
dlx_event_park(dlx_event *event, dlx_drop_fn drop, void *arg, dlx_error *err)
{
    dlx_stream stream = dlx_event_stream(event);
    dlx_release_request request = {&stream, 1, {0}, 0, drop, arg};
    dlx_status status = dlx_event_check(event, err);
    if (status == DLX_OK) {
        status = dlx_event_check_fires(event, "dlx_event_park", err);
    }
    if (status != DLX_OK) {
        return status;
    }
    park *self = make_park(&request);
    if (self == NULL) {
        return dlx_fail(err, DLX_NO_MEMORY, "dlx_event_park", "out of memory");
    }
    self->events[self->n_events++] = dlx_event_keep(event);
    push_as(self, PARKED);
    return DLX_OK;
}
