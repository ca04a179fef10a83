/* The controls that concern the whole simulation. simcuda.h says what they do.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "entry.h"
#include "kernels.h"
#include "scheduler.h"
#include "sim.h"

static void
free_left_over(enum sim_kind kind, void *object)
{
    switch (kind) {
        case SIM_KIND_EVENT:
            sim_event_release(object);
            break;
        case SIM_KIND_GRAPH_EXEC:
            sim_graph_exec_free(object);
            break;
        case SIM_KIND_GRAPH:
            sim_graph_destroy(object);
            break;
        case SIM_KIND_LIBRARY:
            sim_library_free(object);
            break;
        case SIM_KIND_POOL:
            free(object);
            break;
        default:
            break; /* contexts and streams are gone, nodes belong to their graphs */
    }
}

void
simcuda_reset(const struct simcuda_config *config)
{
    pthread_mutex_lock(&sim.lock);
    sim.generation++;
    while (sim.contexts != NULL) {
        sim_context_destroy(sim.contexts);
    }
    sim_scheduler_reset();
    sim_handles_reset(free_left_over);
    memset(sim.devices, 0, sizeof(sim.devices));
    sim_kernels_reset();
    sim_values_reset();
    sim_memory_reset();
    sim_clock_clear(&sim.host);
    sim_nodes_reset();
    sim_failures_clear();
    sim.is_initialized = false;
    sim.next_id = sim.next_stream = 0;
    sim_configure(config);
    pthread_mutex_unlock(&sim.lock);
    simcuda_reset_calls();
    simcuda_findings_clear();
}

void
simcuda_kill(int device, int status)
{
    pthread_mutex_lock(&sim.lock);
    for (struct sim_context *context = sim.contexts; context != NULL;
         context = context->next) {
        if (context->device == device && context->error == CUDA_SUCCESS) {
            context->error = (CUresult)status;
            sim_cancel(context);
        }
    }
    pthread_mutex_unlock(&sim.lock);
}

uint64_t
simcuda_effort(void)
{
    pthread_mutex_lock(&sim.lock);
    uint64_t effort = sim.effort;
    pthread_mutex_unlock(&sim.lock);
    return effort;
}

uint64_t
simcuda_run(void)
{
    pthread_mutex_lock(&sim.lock);
    uint64_t pending = sim_run_all();
    pthread_mutex_unlock(&sim.lock);
    return pending;
}

void
simcuda_poke(void)
{
    pthread_mutex_lock(&sim.lock);
    sim_schedule.is_unsettled = true;
    sim_settle();
    pthread_cond_broadcast(&sim.progress);
    pthread_mutex_unlock(&sim.lock);
}

void
simcuda_host_access(uint64_t address, size_t nbytes, int writes)
{
    pthread_mutex_lock(&sim.lock);
    struct sim_block *block = sim_block_at(address);
    if (block != NULL) {
        struct sim_site site = {.call = "host access",
                                .label = sim_thread_self()->label};
        struct sim_access access = {block, (size_t)(address - block->begin),
                                    (size_t)(address - block->begin) + nbytes,
                                    writes != 0};
        sim_clock_tick(&sim.host, 0);
        sim_track(&access, 1, &site, &sim.host, 0);
    }
    pthread_mutex_unlock(&sim.lock);
}
