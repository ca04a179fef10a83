/* Events: marks of a place in a stream, or of a set of nodes in a graph being captured.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "capture.h"
#include "entry.h"

CUresult
sim_event_get(CUevent handle, struct sim_event **out)
{
    struct sim_event *event = sim_handle_get(SIM_KIND_EVENT, handle);
    if (event == NULL) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    struct sim_context *context =
        sim_handle_get(SIM_KIND_CONTEXT, SIM_HANDLE(void *, event->context));
    if (context == NULL) {
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    }
    *out = event;
    return context->error;
}

static void
leave_capture(struct sim_event *event)
{
    if (event->capture != NULL) {
        sim_capture_release(event->capture);
        event->capture = NULL;
    }
    free(event->nodes);
    event->nodes = NULL;
    event->node_count = 0;
}

void
sim_event_release(struct sim_event *event)
{
    if (--event->refs > 0) {
        return;
    }
    leave_capture(event);
    sim_point_set(&event->point, NULL, NULL);
    sim_clock_clear(&event->point.clock);
    free(event);
}

void
sim_event_set(struct sim_event *event, struct sim_op *op)
{
    leave_capture(event);
    event->is_recorded = true;
    sim_point_set(&event->point, op, &op->stream->tail.clock);
}

void
sim_event_set_captured(struct sim_event *event, struct sim_capture *capture,
                       struct sim_node *const *nodes, unsigned count)
{
    leave_capture(event);
    capture->refs++;
    event->capture = capture;
    event->nodes = sim_alloc(count * sizeof(struct sim_node *));
    event->node_count = count;
    for (unsigned i = 0; i < count; i++) {
        event->nodes[i] = nodes[i];
    }
}

/* --- entry points --- */

SIM_API(cuEventCreate, , SIM_CONTEXT, (CUevent * out, unsigned int flags), (out, flags))
{
    unsigned known =
        CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;
    bool is_shared_and_timed =
        (flags & CU_EVENT_INTERPROCESS) != 0 && (flags & CU_EVENT_DISABLE_TIMING) == 0;
    if (out == NULL || (flags & ~known) != 0 || is_shared_and_timed) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    struct sim_event *event = sim_alloc(sizeof(*event));
    event->refs = 1;
    event->context = by->context->handle;
    event->flags = flags;
    event->handle = sim_handle_new(SIM_KIND_EVENT, event);
    *out = SIM_HANDLE(CUevent, event->handle);
    return CUDA_SUCCESS;
}

SIM_API(cuEventDestroy, _v2, SIM_CONTEXT, (CUevent handle), (handle))
{
    struct sim_event *event = sim_handle_get(SIM_KIND_EVENT, handle);
    if (event == NULL) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    sim_handle_drop(SIM_KIND_EVENT, event->handle);
    event->handle = 0;
    sim_event_release(event);
    return CUDA_SUCCESS;
}

/* A node that, when its graph runs, records the event or waits for it. */
static CUresult
add_external(struct sim_caller *by, struct sim_stream *stream, struct sim_event *event,
             bool records)
{
    if (stream->capture == NULL) {
        return CUDA_ERROR_ILLEGAL_STATE;
    }
    struct sim_work *work = sim_work_new(by, SIM_MARK);
    event->refs++;
    work->u.mark.event = event;
    work->u.mark.records = records;
    CUresult status = sim_submit(stream, work);
    sim_work_release(work);
    return status;
}

static CUresult
record(struct sim_caller *by, CUevent event_handle, CUstream stream_handle,
       unsigned flags)
{
    struct sim_event *event;
    struct sim_stream *stream;
    CUresult status = sim_event_get(event_handle, &event);
    if (status == CUDA_SUCCESS) {
        status = sim_stream_get(by, stream_handle, &stream);
    }
    if (status == CUDA_SUCCESS && (flags & ~(unsigned)CU_EVENT_RECORD_EXTERNAL) != 0) {
        status = CUDA_ERROR_INVALID_VALUE;
    }
    if (status == CUDA_SUCCESS && event->context != stream->context->handle) {
        status = CUDA_ERROR_INVALID_HANDLE;
    }
    if (status == CUDA_SUCCESS) {
        status = sim_capture_check_legacy(stream, true);
    }
    if (status != CUDA_SUCCESS) {
        return status;
    }
    if (flags == CU_EVENT_RECORD_EXTERNAL) {
        return add_external(by, stream, event, true);
    }
    if (stream->capture != NULL) {
        return sim_capture_record(stream, event);
    }
    struct sim_work *work = sim_work_new(by, SIM_MARK);
    sim_event_set(event, sim_enqueue(stream, work, NULL, 0));
    sim_work_release(work);
    return CUDA_SUCCESS;
}

SIM_API_PT(cuEventRecord, , _ptsz, SIM_CONTEXT, (CUevent event, CUstream stream),
           (event, stream))
{
    return record(by, event, stream, 0);
}

SIM_API_PT(cuEventRecordWithFlags, , _ptsz, SIM_CONTEXT,
           (CUevent event, CUstream stream, unsigned int flags), (event, stream, flags))
{
    return record(by, event, stream, flags);
}

SIM_API_PT(cuStreamWaitEvent, , _ptsz, SIM_CONTEXT,
           (CUstream stream_handle, CUevent event_handle, unsigned int flags),
           (stream_handle, event_handle, flags))
{
    struct sim_event *event;
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, stream_handle, &stream);
    if (status == CUDA_SUCCESS) {
        status = sim_event_get(event_handle, &event);
    }
    if (status == CUDA_SUCCESS && (flags & ~(unsigned)CU_EVENT_WAIT_EXTERNAL) != 0) {
        status = CUDA_ERROR_INVALID_VALUE;
    }
    if (status == CUDA_SUCCESS) {
        status = sim_capture_check_legacy(stream, true);
    }
    if (status != CUDA_SUCCESS) {
        return status;
    }
    if (flags == CU_EVENT_WAIT_EXTERNAL) {
        return add_external(by, stream, event, false);
    }
    if (stream->capture != NULL || event->capture != NULL) {
        return sim_capture_wait(stream, event);
    }
    if (!event->is_recorded) {
        return CUDA_SUCCESS;
    }
    struct sim_work *work = sim_work_new(by, SIM_MARK);
    const struct sim_point *point = &event->point;
    sim_enqueue(stream, work, &point, 1);
    sim_work_release(work);
    return CUDA_SUCCESS;
}

/* Asking about an event that was recorded in a capture spoils that capture. */
static CUresult
check_not_captured(struct sim_event *event)
{
    if (event->capture == NULL) {
        return CUDA_SUCCESS;
    }
    event->capture->is_invalidated = true;
    return CUDA_ERROR_CAPTURED_EVENT;
}

SIM_API(cuEventQuery, , SIM_CONTEXT | SIM_UNSAFE, (CUevent handle), (handle))
{
    struct sim_event *event;
    CUresult status = sim_event_get(handle, &event);
    if (status == CUDA_SUCCESS) {
        status = check_not_captured(event);
    }
    if (status == CUDA_SUCCESS) {
        status = sim_poll(event->point.op);
    }
    if (status == CUDA_SUCCESS) {
        sim_clock_join(&sim.host, &event->point.clock);
    }
    return status;
}

SIM_API(cuEventSynchronize, , SIM_CONTEXT | SIM_BLOCKS | SIM_UNSAFE, (CUevent handle),
        (handle))
{
    struct sim_event *event;
    CUresult status = sim_event_get(handle, &event);
    if (status == CUDA_SUCCESS) {
        status = check_not_captured(event);
    }
    if (status != CUDA_SUCCESS || event->point.op == NULL) {
        return status;
    }
    /* What the event marks now: it may be recorded anew, or destroyed, meanwhile. */
    struct sim_point point = {0};
    sim_point_set(&point, event->point.op, &event->point.clock);
    status = sim_await(&point.op, 1);
    if (status == CUDA_SUCCESS) {
        sim_clock_join(&sim.host, &point.clock);
    } else if (by->context->error != CUDA_SUCCESS) {
        status = by->context->error;
    }
    sim_point_set(&point, NULL, NULL);
    sim_clock_clear(&point.clock);
    return status;
}

static CUresult
elapsed(float *out, CUevent from, CUevent to)
{
    struct sim_event *start, *end;
    CUresult status = sim_event_get(from, &start);
    if (status == CUDA_SUCCESS) {
        status = sim_event_get(to, &end);
    }
    if (status != CUDA_SUCCESS) {
        return status;
    }
    if (out == NULL || !start->is_recorded || !end->is_recorded ||
        ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) != 0) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (start->point.op->state == SIM_PENDING || end->point.op->state == SIM_PENDING) {
        return CUDA_ERROR_NOT_READY;
    }
    *out = (float)(end->point.op->finished_at - start->point.op->finished_at);
    return CUDA_SUCCESS;
}

SIM_API(cuEventElapsedTime, , SIM_CONTEXT, (float *out, CUevent from, CUevent to),
        (out, from, to))
{
    return elapsed(out, from, to);
}

SIM_API(cuEventElapsedTime, _v2, SIM_CONTEXT, (float *out, CUevent from, CUevent to),
        (out, from, to))
{
    return elapsed(out, from, to);
}
