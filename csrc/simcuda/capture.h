/* Stream capture and the graphs it makes: what the other pieces need to know of them.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMCUDA_CAPTURE_H
#define SIMCUDA_CAPTURE_H

#include "sim.h"

struct sim_node {
    uint64_t handle;
    struct sim_graph *graph; /* borrowed */
    unsigned index;
    struct sim_work *work;   /* a reference */
    struct sim_node **needs; /* borrowed from the graph */
    unsigned need_count;
};

struct sim_graph {
    unsigned refs; /* the handle, a capture, executables */
    uint64_t handle;
    struct sim_node **nodes; /* owned, in an order in which they could run */
    unsigned node_count, node_capacity;
};

struct sim_capture {
    unsigned refs; /* its streams, events recorded in it */
    uint64_t id;
    CUstreamCaptureMode mode;
    uint64_t thread;
    struct sim_stream *origin; /* borrowed; NULL once the capture is over */
    struct sim_graph *graph;   /* a reference */
    bool is_invalidated, is_over;
    struct sim_capture *previous, *next; /* of those that are not over */
};

struct sim_graph *sim_graph_new(void);
struct sim_node *sim_graph_add(struct sim_graph *graph, struct sim_work *work,
                               struct sim_node *const *needs, unsigned need_count);
void sim_graph_release(struct sim_graph *graph);
/* Take away the handle and its reference. */
void sim_graph_destroy(struct sim_graph *graph);
void sim_graph_exec_free(void *exec);
/* Reports pairs of nodes that touch the same bytes with no path between them. */
void sim_graph_find_races(const struct sim_graph *graph);
/* Sets is_ancestor[i] for each node with a path to one of `from`, itself included. */
void sim_graph_ancestors(struct sim_node *const *from, unsigned count,
                         bool *is_ancestor);

void sim_capture_release(struct sim_capture *capture);
/* What a call means for captures under way. A refused call invalidates them. */
CUresult sim_capture_check_unsafe(const struct sim_thread *thread);
CUresult sim_capture_check_synchronize(struct sim_context *context);
CUresult sim_capture_check_stream(struct sim_stream *stream);
/* IMPLICIT if the legacy stream would have to wait for a capturing stream. */
CUresult sim_capture_check_legacy(struct sim_stream *stream, bool invalidates);
CUresult sim_capture_add(struct sim_stream *stream, struct sim_work *work);
CUresult sim_capture_record(struct sim_stream *stream, struct sim_event *event);
CUresult sim_capture_wait(struct sim_stream *stream, struct sim_event *event);
/* The stream is destroyed while it captures. */
void sim_capture_abandon(struct sim_stream *stream);

#endif
