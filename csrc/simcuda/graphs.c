/* Graphs: nodes with dependencies, made by capture; executables; launching them on a
 * stream. SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "entry.h"

enum { MAX_NODES_FOR_RACES = 4096 };

struct sim_graph_exec {
    uint64_t handle;
    struct sim_graph *graph; /* a reference */
    struct sim_op *last; /* a reference: launches of one executable follow each other */
};

struct sim_graph *
sim_graph_new(void)
{
    struct sim_graph *graph = sim_alloc(sizeof(*graph));
    graph->refs = 1; /* the handle's */
    graph->handle = sim_handle_new(SIM_KIND_GRAPH, graph);
    return graph;
}

struct sim_node *
sim_graph_add(struct sim_graph *graph, struct sim_work *work,
              struct sim_node *const *needs, unsigned need_count)
{
    struct sim_node *node = sim_alloc(sizeof(*node));
    node->graph = graph;
    node->index = graph->node_count;
    node->work = work;
    work->refs++;
    node->needs = sim_alloc(need_count * sizeof(struct sim_node *));
    node->need_count = need_count;
    for (unsigned i = 0; i < need_count; i++) {
        node->needs[i] = needs[i];
    }
    node->handle = sim_handle_new(SIM_KIND_GRAPH_NODE, node);
    if (graph->node_count == graph->node_capacity) {
        graph->node_capacity = graph->node_capacity * 2 + 8;
        graph->nodes =
            sim_grow(graph->nodes, graph->node_capacity * sizeof(struct sim_node *));
    }
    graph->nodes[graph->node_count++] = node;
    return node;
}

void
sim_graph_release(struct sim_graph *graph)
{
    if (--graph->refs > 0) {
        return;
    }
    for (unsigned i = 0; i < graph->node_count; i++) {
        struct sim_node *node = graph->nodes[i];
        sim_handle_drop(SIM_KIND_GRAPH_NODE, node->handle);
        sim_work_release(node->work);
        free(node->needs);
        free(node);
    }
    free(graph->nodes);
    free(graph);
}

void
sim_graph_destroy(struct sim_graph *graph)
{
    sim_handle_drop(SIM_KIND_GRAPH, graph->handle);
    graph->handle = 0;
    sim_graph_release(graph);
}

void
sim_graph_exec_free(void *object)
{
    struct sim_graph_exec *exec = object;
    sim_op_release(exec->last);
    sim_graph_release(exec->graph);
    free(exec);
}

/* Nodes are in an order in which they could run, so one walk backwards is enough. */
void
sim_graph_ancestors(struct sim_node *const *from, unsigned count, bool *is_ancestor)
{
    if (count == 0) {
        return;
    }
    const struct sim_graph *graph = from[0]->graph;
    for (unsigned i = 0; i < count; i++) {
        is_ancestor[from[i]->index] = true;
    }
    for (unsigned i = graph->node_count; i-- > 0;) {
        for (unsigned k = 0; is_ancestor[i] && k < graph->nodes[i]->need_count; k++) {
            is_ancestor[graph->nodes[i]->needs[k]->index] = true;
        }
    }
}

static const struct sim_access *
conflict(const struct sim_work *one, const struct sim_work *two)
{
    for (unsigned i = 0; i < one->access_count; i++) {
        for (unsigned k = 0; k < two->access_count; k++) {
            const struct sim_access *a = &one->accesses[i], *b = &two->accesses[k];
            if (a->block == b->block && a->begin < b->end && b->begin < a->end &&
                (a->writes || b->writes)) {
                return a;
            }
        }
    }
    return NULL;
}

void
sim_graph_find_races(const struct sim_graph *graph)
{
    unsigned n = graph->node_count;
    if (n == 0 || n > MAX_NODES_FOR_RACES) {
        return;
    }
    bool *is_ancestor = sim_alloc(n);
    for (unsigned later = 0; later < n; later++) {
        const struct sim_work *work = graph->nodes[later]->work;
        if (work->access_count == 0) {
            continue;
        }
        memset(is_ancestor, 0, n);
        sim_graph_ancestors(&graph->nodes[later], 1, is_ancestor);
        for (unsigned i = 0; i < later; i++) {
            const struct sim_access *access =
                is_ancestor[i] ? NULL : conflict(graph->nodes[i]->work, work);
            if (access != NULL) {
                sim_finding(
                    "race", &graph->nodes[i]->work->site, &work->site,
                    "two nodes of a captured graph touch bytes %zu to %zu of block "
                    "0x%llx and no path of the graph orders them",
                    access->begin, access->end,
                    (unsigned long long)access->block->begin);
            }
        }
    }
    free(is_ancestor);
}

/* --- launching --- */

static struct sim_op *
launch_node(struct sim_stream *stream, const struct sim_node *node,
            struct sim_op *entry, struct sim_op *const *ops)
{
    struct sim_work *work = node->work;
    for (unsigned i = 0; i < work->access_count; i++) {
        if (work->accesses[i].block->freed) {
            sim_finding(
                "use-after-free", &work->accesses[i].block->died, &work->site,
                "a graph is launched that touches a block freed since its capture");
        }
    }
    unsigned count = node->need_count;
    struct sim_op **needs = sim_alloc((count + 1) * sizeof(struct sim_op *));
    for (unsigned i = 0; i < count; i++) {
        needs[i] = ops[node->needs[i]->index];
    }
    needs[count] = entry;
    struct sim_event *event = work->kind == SIM_MARK ? work->u.mark.event : NULL;
    const struct sim_point *point =
        event != NULL && !work->u.mark.records && event->is_recorded ? &event->point
                                                                     : NULL;
    struct sim_op *op = sim_enqueue_node(stream, work, needs, count + 1, point);
    if (event != NULL && work->u.mark.records) {
        sim_event_set(event, op);
    }
    free(needs);
    return op;
}

static void
launch(struct sim_caller *by, struct sim_graph_exec *exec, struct sim_stream *stream)
{
    const struct sim_graph *graph = exec->graph;
    struct sim_work *mark = sim_work_new(by, SIM_MARK);
    struct sim_point last = {.op = exec->last};
    const struct sim_point *point = &last;
    struct sim_op *entry = sim_enqueue(stream, mark, &point, 1);
    struct sim_point *ends = sim_alloc((graph->node_count + 1) * sizeof(*ends));
    const struct sim_point **all = sim_alloc((graph->node_count + 1) * sizeof(*all));
    struct sim_op **ops = sim_alloc((graph->node_count + 1) * sizeof(struct sim_op *));
    for (unsigned i = 0; i < graph->node_count; i++) {
        ops[i] = launch_node(stream, graph->nodes[i], entry, ops);
        ends[i].op = ops[i];
        all[i] = &ends[i];
    }
    struct sim_op *exit = sim_enqueue(stream, mark, all, graph->node_count);
    sim_op_release(exec->last);
    exec->last = sim_op_keep(exit);
    free(ops);
    free(all);
    free(ends);
    sim_work_release(mark);
}

/* Launched on a capturing stream, the nodes become part of the graph being captured. */
static CUresult
launch_into_capture(struct sim_graph_exec *exec, struct sim_stream *stream)
{
    struct sim_capture *capture = stream->capture;
    if (capture->is_invalidated) {
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    const struct sim_graph *graph = exec->graph;
    struct sim_node **copies =
        sim_alloc((graph->node_count + 1) * sizeof(struct sim_node *));
    for (unsigned i = 0; i < graph->node_count; i++) {
        const struct sim_node *node = graph->nodes[i];
        struct sim_node **needs =
            sim_alloc((node->need_count + 1) * sizeof(struct sim_node *));
        for (unsigned k = 0; k < node->need_count; k++) {
            needs[k] = copies[node->needs[k]->index];
        }
        bool is_root = node->need_count == 0;
        copies[i] = sim_graph_add(
            capture->graph, node->work, is_root ? stream->capture_tail : needs,
            is_root ? stream->capture_tail_count : node->need_count);
        free(needs);
    }
    if (graph->node_count > 0) {
        /* A superset of the ends: harmless, as dependencies may be redundant. */
        free(stream->capture_tail);
        stream->capture_tail = copies;
        stream->capture_tail_count = graph->node_count;
    } else {
        free(copies);
    }
    return CUDA_SUCCESS;
}

SIM_API_PT(cuGraphLaunch, , _ptsz, SIM_CONTEXT,
           (CUgraphExec handle, CUstream stream_handle), (handle, stream_handle))
{
    struct sim_graph_exec *exec = sim_handle_get(SIM_KIND_GRAPH_EXEC, handle);
    struct sim_stream *stream;
    CUresult status = exec == NULL ? CUDA_ERROR_INVALID_VALUE
                                   : sim_stream_get(by, stream_handle, &stream);
    if (status == CUDA_SUCCESS) {
        status = sim_capture_check_legacy(stream, true);
    }
    if (status != CUDA_SUCCESS) {
        return status;
    }
    if (stream->capture != NULL) {
        return launch_into_capture(exec, stream);
    }
    launch(by, exec, stream);
    return CUDA_SUCCESS;
}

/* --- graphs and executables --- */

static CUresult
instantiate(CUgraphExec *out, CUgraph handle)
{
    struct sim_graph *graph = sim_handle_get(SIM_KIND_GRAPH, handle);
    if (graph == NULL || out == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    struct sim_graph_exec *exec = sim_alloc(sizeof(*exec));
    exec->graph = graph;
    graph->refs++;
    exec->handle = sim_handle_new(SIM_KIND_GRAPH_EXEC, exec);
    *out = SIM_HANDLE(CUgraphExec, exec->handle);
    return CUDA_SUCCESS;
}

SIM_API(cuGraphInstantiateWithFlags, , SIM_CONTEXT,
        (CUgraphExec * out, CUgraph graph, unsigned long long flags),
        (out, graph, flags))
{
    return instantiate(out, graph);
}

SIM_API(cuGraphInstantiate, _v2, SIM_CONTEXT,
        (CUgraphExec * out, CUgraph graph, CUgraphNode *error_node, char *log,
         size_t size),
        (out, graph, error_node, log, size))
{
    return instantiate(out, graph);
}

/* The parameters start with the flags; the result they carry is an output. */
struct instantiate_params {
    cuuint64_t flags;
    CUstream upload;
    CUgraphNode error_node;
    int result;
};

SIM_API_PT(cuGraphInstantiateWithParams, , _ptsz, SIM_CONTEXT,
           (CUgraphExec * out, CUgraph graph, struct instantiate_params *params),
           (out, graph, params))
{
    CUresult status = instantiate(out, graph);
    if (params != NULL) {
        params->error_node = NULL;
        params->result = status == CUDA_SUCCESS ? 0 : 1;
    }
    return status;
}

SIM_API_PT(cuGraphUpload, , _ptsz, SIM_CONTEXT, (CUgraphExec exec, CUstream stream),
           (exec, stream))
{
    (void)stream;
    return sim_handle_get(SIM_KIND_GRAPH_EXEC, exec) == NULL ? CUDA_ERROR_INVALID_VALUE
                                                             : CUDA_SUCCESS;
}

SIM_API(cuGraphExecDestroy, , SIM_INIT, (CUgraphExec handle), (handle))
{
    struct sim_graph_exec *exec = sim_handle_get(SIM_KIND_GRAPH_EXEC, handle);
    if (exec == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    sim_handle_drop(SIM_KIND_GRAPH_EXEC, exec->handle);
    sim_graph_exec_free(exec);
    return CUDA_SUCCESS;
}

SIM_API(cuGraphCreate, , SIM_INIT, (CUgraph * out, unsigned int flags), (out, flags))
{
    if (out == NULL || flags != 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    struct sim_graph *graph = sim_graph_new();
    *out = SIM_HANDLE(CUgraph, graph->handle);
    return CUDA_SUCCESS;
}

SIM_API(cuGraphDestroy, , SIM_INIT, (CUgraph handle), (handle))
{
    struct sim_graph *graph = sim_handle_get(SIM_KIND_GRAPH, handle);
    if (graph == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    sim_graph_destroy(graph);
    return CUDA_SUCCESS;
}

SIM_API(cuGraphGetNodes, , SIM_INIT, (CUgraph handle, CUgraphNode *out, size_t *count),
        (handle, out, count))
{
    struct sim_graph *graph = sim_handle_get(SIM_KIND_GRAPH, handle);
    if (graph == NULL || count == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    for (size_t i = 0; out != NULL && i < *count; i++) {
        out[i] = i < graph->node_count
                     ? SIM_HANDLE(CUgraphNode, graph->nodes[i]->handle)
                     : NULL;
    }
    if (out == NULL || *count > graph->node_count) {
        *count = graph->node_count;
    }
    return CUDA_SUCCESS;
}

SIM_API(cuGraphNodeGetType, , SIM_INIT, (CUgraphNode handle, CUgraphNodeType *out),
        (handle, out))
{
    static const CUgraphNodeType types[] = {
        [SIM_MARK] = CU_GRAPH_NODE_TYPE_EMPTY,
        [SIM_COPY] = CU_GRAPH_NODE_TYPE_MEMCPY,
        [SIM_FILL] = CU_GRAPH_NODE_TYPE_MEMSET,
        [SIM_KERNEL] = CU_GRAPH_NODE_TYPE_KERNEL,
        [SIM_HOST_FUNCTION] = CU_GRAPH_NODE_TYPE_HOST,
        [SIM_CALLBACK] = CU_GRAPH_NODE_TYPE_HOST,
        [SIM_WAIT_VALUE] = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP,
        [SIM_WRITE_VALUE] = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP,
        [SIM_ALLOC] = CU_GRAPH_NODE_TYPE_MEM_ALLOC,
        [SIM_FREE] = CU_GRAPH_NODE_TYPE_MEM_FREE,
    };
    struct sim_node *node = sim_handle_get(SIM_KIND_GRAPH_NODE, handle);
    if (node == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *out = types[node->work->kind];
    if (node->work->kind == SIM_MARK && node->work->u.mark.event != NULL) {
        *out = node->work->u.mark.records ? CU_GRAPH_NODE_TYPE_EVENT_RECORD
                                          : CU_GRAPH_NODE_TYPE_WAIT_EVENT;
    }
    return CUDA_SUCCESS;
}
