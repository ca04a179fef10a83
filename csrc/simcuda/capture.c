/* The capture state machine: which streams are in which capture, what the next node of
 * each depends on, and what every other call means for captures under way. Error codes
 * are the documented ones; how much a refused call invalidates has not been compared
 * with a device. SPDX-License-Identifier: Apache-2.0 */
#include "capture.h"

#include <stdlib.h>
#include <string.h>

#include "entry.h"

static struct sim_capture *captures; /* those that are not over */

void
sim_capture_release(struct sim_capture *capture)
{
    if (--capture->refs == 0) {
        sim_graph_release(capture->graph);
        free(capture);
    }
}

static void
set_tail(struct sim_stream *stream, struct sim_node *const *nodes, unsigned count)
{
    struct sim_node **tail = sim_alloc(count * sizeof(struct sim_node *));
    for (unsigned i = 0; i < count; i++) {
        tail[i] = nodes[i];
    }
    free(stream->capture_tail);
    stream->capture_tail = tail;
    stream->capture_tail_count = count;
}

static void
join(struct sim_stream *stream, struct sim_capture *capture)
{
    stream->capture = capture;
    capture->refs++;
}

static void
leave(struct sim_stream *stream)
{
    struct sim_capture *capture = stream->capture;
    free(stream->capture_tail);
    stream->capture_tail = NULL;
    stream->capture_tail_count = 0;
    stream->capture = NULL;
    sim_capture_release(capture);
}

/* Every stream of every context, for captures may span devices. */
static void
each_captured_stream(struct sim_capture *capture,
                     void (*visit)(struct sim_stream *, void *), void *argument)
{
    for (struct sim_context *c = sim.contexts; c != NULL; c = c->next) {
        for (struct sim_stream *s = c->streams, *next; s != NULL; s = next) {
            next = s->next;
            if (s->capture == capture) {
                visit(s, argument);
            }
        }
    }
}

static void
visit_leave(struct sim_stream *stream, void *unused)
{
    (void)unused;
    leave(stream);
}

static void
end(struct sim_capture *capture, bool is_given)
{
    if (!is_given) {
        sim_graph_destroy(capture->graph);
    }
    capture->refs++;
    capture->is_over = true;
    capture->origin = NULL;
    *(capture->previous == NULL ? &captures : &capture->previous->next) = capture->next;
    if (capture->next != NULL) {
        capture->next->previous = capture->previous;
    }
    each_captured_stream(capture, visit_leave, NULL);
    sim_capture_release(capture);
}

void
sim_capture_abandon(struct sim_stream *stream)
{
    struct sim_capture *capture = stream->capture;
    if (capture == NULL) {
        return;
    }
    capture->is_invalidated = true;
    if (capture->origin == stream) {
        end(capture, false);
    } else {
        leave(stream);
    }
}

/* --- what other calls mean --- */

CUresult
sim_capture_check_unsafe(const struct sim_thread *thread)
{
    if (captures == NULL || thread->capture_mode == CU_STREAM_CAPTURE_MODE_RELAXED) {
        return CUDA_SUCCESS;
    }
    CUresult status = CUDA_SUCCESS;
    for (struct sim_capture *c = captures; c != NULL; c = c->next) {
        bool is_mine =
            c->thread == thread->id && c->mode != CU_STREAM_CAPTURE_MODE_RELAXED;
        bool is_everyones = thread->capture_mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
                            c->mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
        if (is_mine || is_everyones) {
            c->is_invalidated = true;
            status = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
    }
    return status;
}

CUresult
sim_capture_check_synchronize(struct sim_context *context)
{
    CUresult status = CUDA_SUCCESS;
    for (struct sim_stream *s = context->streams; captures != NULL && s != NULL;
         s = s->next) {
        if (s->capture != NULL) {
            s->capture->is_invalidated = true;
            status = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
    }
    return status;
}

CUresult
sim_capture_check_legacy(struct sim_stream *stream, bool invalidates)
{
    CUresult status = CUDA_SUCCESS;
    if (!stream->is_legacy || captures == NULL) {
        return status;
    }
    for (struct sim_stream *s = stream->context->streams; s != NULL; s = s->next) {
        if (s->capture != NULL && sim_stream_is_blocking(s)) {
            s->capture->is_invalidated |= invalidates;
            status = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
        }
    }
    return status;
}

CUresult
sim_capture_check_stream(struct sim_stream *stream)
{
    if (stream->capture == NULL) {
        return sim_capture_check_legacy(stream, true);
    }
    if (stream->capture->is_invalidated) {
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    stream->capture->is_invalidated = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

/* --- work on a capturing stream --- */

CUresult
sim_capture_add(struct sim_stream *stream, struct sim_work *work)
{
    if (stream->capture->is_invalidated) {
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    work->site.stream = stream->name;
    struct sim_node *node = sim_graph_add(
        stream->capture->graph, work, stream->capture_tail, stream->capture_tail_count);
    set_tail(stream, &node, 1);
    return CUDA_SUCCESS;
}

CUresult
sim_capture_record(struct sim_stream *stream, struct sim_event *event)
{
    if (stream->capture->is_invalidated) {
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    sim_event_set_captured(event, stream->capture, stream->capture_tail,
                           stream->capture_tail_count);
    return CUDA_SUCCESS;
}

static void
add_to_tail(struct sim_stream *stream, struct sim_node *const *nodes, unsigned count)
{
    unsigned total = stream->capture_tail_count;
    struct sim_node **both = sim_alloc((total + count) * sizeof(struct sim_node *));
    for (unsigned i = 0; i < total; i++) {
        both[i] = stream->capture_tail[i];
    }
    for (unsigned i = 0; i < count; i++) {
        bool is_there = false;
        for (unsigned k = 0; k < total; k++) {
            is_there |= both[k] == nodes[i];
        }
        if (!is_there) {
            both[total++] = nodes[i];
        }
    }
    set_tail(stream, both, total);
    free(both);
}

CUresult
sim_capture_wait(struct sim_stream *stream, struct sim_event *event)
{
    struct sim_capture *of_stream = stream->capture, *of_event = event->capture;
    if (of_stream != NULL && of_stream->is_invalidated) {
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    if (of_event == NULL) {
        if (!event->is_recorded) {
            return CUDA_SUCCESS;
        }
        of_stream->is_invalidated = true;
        return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    if (of_event->is_over) {
        if (of_stream != NULL) {
            of_stream->is_invalidated = true;
        }
        return CUDA_ERROR_CAPTURED_EVENT;
    }
    if (of_event->is_invalidated) {
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    if (stream->is_legacy || (of_stream != NULL && of_stream != of_event)) {
        of_event->is_invalidated = true;
        if (of_stream != NULL) {
            of_stream->is_invalidated = true;
        }
        return stream->is_legacy ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
                                 : CUDA_ERROR_STREAM_CAPTURE_MERGE;
    }
    if (of_stream == NULL) {
        join(stream, of_event);
    }
    add_to_tail(stream, event->nodes, event->node_count);
    return CUDA_SUCCESS;
}

/* --- beginning and ending --- */

SIM_API(cuThreadExchangeStreamCaptureMode, , SIM_INIT, (CUstreamCaptureMode * mode),
        (mode))
{
    if (mode == NULL || *mode > CU_STREAM_CAPTURE_MODE_RELAXED) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    CUstreamCaptureMode old = by->thread->capture_mode;
    by->thread->capture_mode = *mode;
    *mode = old;
    return CUDA_SUCCESS;
}

SIM_API_PT(cuStreamBeginCapture, _v2, _ptsz, SIM_CONTEXT,
           (CUstream handle, CUstreamCaptureMode mode), (handle, mode))
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status != CUDA_SUCCESS || mode > CU_STREAM_CAPTURE_MODE_RELAXED) {
        return status != CUDA_SUCCESS ? status : CUDA_ERROR_INVALID_VALUE;
    }
    if (stream->is_legacy) {
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    if (stream->capture != NULL) {
        return CUDA_ERROR_ILLEGAL_STATE;
    }
    struct sim_capture *capture = sim_alloc(sizeof(*capture));
    capture->id = ++sim.next_id;
    capture->mode = mode;
    capture->thread = by->thread->id;
    capture->origin = stream;
    capture->graph = sim_graph_new();
    capture->graph->refs++;
    capture->next = captures;
    if (captures != NULL) {
        captures->previous = capture;
    }
    captures = capture;
    join(stream, capture);
    return CUDA_SUCCESS;
}

struct unjoined {
    const bool *is_ancestor;
    bool found;
};

static void
visit_unjoined(struct sim_stream *stream, void *argument)
{
    struct unjoined *state = argument;
    for (unsigned i = 0; i < stream->capture_tail_count; i++) {
        state->found |= !state->is_ancestor[stream->capture_tail[i]->index];
    }
}

static bool
has_unjoined_work(struct sim_capture *capture)
{
    const struct sim_graph *graph = capture->graph;
    bool *is_ancestor = sim_alloc(graph->node_count);
    sim_graph_ancestors(capture->origin->capture_tail,
                        capture->origin->capture_tail_count, is_ancestor);
    struct unjoined state = {is_ancestor, false};
    for (unsigned i = 0; i < graph->node_count; i++) {
        state.found |= !is_ancestor[i];
    }
    each_captured_stream(capture, visit_unjoined, &state);
    free(is_ancestor);
    return state.found;
}

SIM_API_PT(cuStreamEndCapture, , _ptsz, SIM_CONTEXT, (CUstream handle, CUgraph *out),
           (handle, out))
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status != CUDA_SUCCESS || out == NULL) {
        return status != CUDA_SUCCESS ? status : CUDA_ERROR_INVALID_VALUE;
    }
    *out = NULL;
    struct sim_capture *capture = stream->capture;
    if (capture == NULL) {
        return CUDA_ERROR_ILLEGAL_STATE;
    }
    if (capture->origin != stream) {
        return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    }
    if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
        capture->thread != by->thread->id) {
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    }
    if (capture->is_invalidated) {
        status = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    } else if (has_unjoined_work(capture)) {
        status = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    } else {
        *out = SIM_HANDLE(CUgraph, capture->graph->handle);
        sim_graph_find_races(capture->graph);
    }
    end(capture, status == CUDA_SUCCESS);
    return status;
}

/* --- asking --- */

static CUstreamCaptureStatus
status_of(const struct sim_stream *stream)
{
    return stream->capture == NULL           ? CU_STREAM_CAPTURE_STATUS_NONE
           : stream->capture->is_invalidated ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                             : CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

SIM_API_PT(cuStreamIsCapturing, , _ptsz, SIM_CONTEXT,
           (CUstream handle, CUstreamCaptureStatus *out), (handle, out))
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status == CUDA_SUCCESS) {
        status = sim_capture_check_legacy(stream, false);
    }
    if (status == CUDA_SUCCESS) {
        *out = status_of(stream);
    }
    return status;
}

static CUresult
capture_info(struct sim_caller *by, CUstream handle, CUstreamCaptureStatus *out,
             cuuint64_t *id, CUgraph *graph, const CUgraphNode **needs,
             const CUgraphEdgeData **edges, size_t *need_count)
{
    static _Thread_local CUgraphNode shown[64];
    static const CUgraphEdgeData plain[64];
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    if (status == CUDA_SUCCESS) {
        status = sim_capture_check_legacy(stream, false);
    }
    if (status != CUDA_SUCCESS) {
        return status;
    }
    *out = status_of(stream);
    if (*out != CU_STREAM_CAPTURE_STATUS_ACTIVE) {
        return CUDA_SUCCESS;
    }
    if (id != NULL) {
        *id = stream->capture->id;
    }
    if (graph != NULL) {
        *graph = SIM_HANDLE(CUgraph, stream->capture->graph->handle);
    }
    unsigned n = stream->capture_tail_count < 64 ? stream->capture_tail_count : 64;
    for (unsigned i = 0; i < n; i++) {
        shown[i] = SIM_HANDLE(CUgraphNode, stream->capture_tail[i]->handle);
    }
    if (needs != NULL) {
        *needs = shown;
    }
    if (edges != NULL) {
        *edges = plain;
    }
    if (need_count != NULL) {
        *need_count = n;
    }
    return CUDA_SUCCESS;
}

SIM_API_PT(cuStreamGetCaptureInfo, , _ptsz, SIM_CONTEXT,
           (CUstream stream, CUstreamCaptureStatus *out, cuuint64_t *id),
           (stream, out, id))
{
    return capture_info(by, stream, out, id, NULL, NULL, NULL, NULL);
}

SIM_API_PT(cuStreamGetCaptureInfo, _v2, _ptsz, SIM_CONTEXT,
           (CUstream stream, CUstreamCaptureStatus *out, cuuint64_t *id, CUgraph *graph,
            const CUgraphNode **needs, size_t *need_count),
           (stream, out, id, graph, needs, need_count))
{
    return capture_info(by, stream, out, id, graph, needs, NULL, need_count);
}

SIM_API_PT(cuStreamGetCaptureInfo, _v3, _ptsz, SIM_CONTEXT,
           (CUstream stream, CUstreamCaptureStatus *out, cuuint64_t *id, CUgraph *graph,
            const CUgraphNode **needs, const CUgraphEdgeData **edges,
            size_t *need_count),
           (stream, out, id, graph, needs, edges, need_count))
{
    return capture_info(by, stream, out, id, graph, needs, edges, need_count);
}
