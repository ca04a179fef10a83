/* SPDX-License-Identifier: Apache-2.0
 *
 * The library's own cost of a push: dlx_push on a table of calls that do nothing, in
 * nanoseconds, the best and the median of many rounds; and of pushes round a ring of so
 * many streams. One JSON line.
 * usage: bench_push [rounds]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "alloc.h"
#include "gpu.h"

enum { PUSHES = 20000, MOST_STREAMS = 2048 };
atomic_long dlx_alloc_countdown; /* the extension has its own */

static int
null_create(void **out, unsigned flags)
{
    (void)flags;
    *out = out;
    return 0;
}

static int
null_record(void *event, void *stream)
{
    (void)event, (void)stream;
    return 0;
}

static int
null_wait(void *stream, void *event, unsigned flags)
{
    (void)stream, (void)event, (void)flags;
    return 0;
}

static int
null_capture(void *stream, int *status, uint64_t *id, void **graph, void **dependencies,
             size_t *n)
{
    (void)stream, (void)graph, (void)dependencies, (void)n;
    *status = 0;
    *id = 0;
    return 0;
}

static int
null_mode(int *mode)
{
    (void)mode;
    return 0;
}

static int
null_retain(void **context, int device)
{
    (void)device;
    *context = context;
    return 0;
}

static int
null_int(int *out)
{
    *out = 0;
    return 0;
}

static int
null_state(int device, unsigned *flags, int *is_active)
{
    (void)device;
    *flags = 0;
    *is_active = 1;
    return 0;
}

static int
null_device(int *device, int ordinal)
{
    *device = ordinal;
    return 0;
}

static int
null_pointer(void **out)
{
    *out = NULL;
    return 0;
}

static int
null_context(void *context)
{
    (void)context;
    return 0;
}

static double
time_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int
compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Pushes from each of n streams to the next. */
static double
median_of_rounds(const dlx_stream *streams, int n, int rounds, double *best)
{
    double *ns = calloc((size_t)rounds, sizeof(*ns));
    for (int r = 0; r < rounds; r++) {
        double start = time_ns();
        for (int i = 0, p = 0; i < PUSHES; i++) {
            int c = p + 1 == n ? 0 : p + 1;
            if (dlx_push(streams[p], streams[c], 0, NULL) != DLX_OK) {
                exit(1);
            }
            p = c;
        }
        ns[r] = (time_ns() - start) / PUSHES;
    }
    qsort(ns, (size_t)rounds, sizeof(*ns), compare);
    double median = ns[rounds / 2];
    *best = ns[0];
    free(ns);
    return median;
}

static void
print_rings(int rounds)
{
    static dlx_stream streams[MOST_STREAMS];
    double best;
    for (int i = 0; i < MOST_STREAMS; i++) {
        streams[i] = (dlx_stream){kDLCUDA, 0, 0x1000 + 0x100 * (uintptr_t)i};
    }
    printf("\"push_ns_by_streams\": {");
    for (int n = 2; n <= MOST_STREAMS; n *= 4) {
        double median = median_of_rounds(streams, n, rounds, &best);
        printf("%s\"%d\": [%.1f, %.1f]", n == 2 ? "" : ", ", n, median, best);
    }
    printf("}, ");
}

int
main(int argc, char **argv)
{
    static const dlx_gpu_calls calls = {
        .event_create = null_create,
        .event_record = null_record,
        .stream_wait_event = null_wait,
        .stream_get_capture_info = null_capture,
        .exchange_capture_mode = null_mode,
        .primary_retain = null_retain,
        .primary_get_state = null_state,
        .device_get = null_device,
        .context_get_current = null_pointer,
        .context_push = null_context,
        .context_pop = null_pointer,
        .context_get_device = null_int,
    };
    int rounds = argc > 1 ? atoi(argv[1]) : 101;
    const dlx_stream two[] = {{kDLCUDA, 0, 0x1000}, {kDLCUDA, 0, 0x2000}};
    const dlx_stream with_legacy[] = {{kDLCUDA, 0, DLX_CUDA_LEGACY}, two[0]};
    double best, best_legacy, best_same;
    if (rounds < 1 || dlx_gpu_install(kDLCUDA, &calls, "null") == NULL) {
        return 1;
    }
    double median = median_of_rounds(two, 2, rounds, &best);
    double median_legacy = median_of_rounds(with_legacy, 2, rounds, &best_legacy);
    double median_same = median_of_rounds(two, 1, rounds, &best_same);
    printf("{");
    print_rings(rounds);
    printf(
        "\"push_ns\": %.1f, \"push_best_ns\": %.1f, \"push_legacy_ns\": %.1f, "
        "\"push_legacy_best_ns\": %.1f, \"same_stream_ns\": %.1f, "
        "\"same_stream_best_ns\": %.1f, \"rounds\": %d, \"pushes\": %d}\n",
        median, best, median_legacy, best_legacy, median_same, best_same, rounds,
        PUSHES);
    return 0;
}
