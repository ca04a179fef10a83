/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver's own price: bare calls issued from C in a loop, in nanoseconds. The floor
 * of a hand-off is the pair's host floor and these. Loaded through ctypes, so the GIL
 * is not held; a context must be current. One thread at a time.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

typedef struct {
    int (*event_create)(void **, unsigned);
    int (*event_destroy)(void *);
    int (*event_record)(void *, void *);
    int (*stream_wait)(void *, void *, unsigned);
    int (*is_capturing)(void *, int *);
} driver_calls;

enum { DISABLE_TIMING = 2 };

static driver_calls cu;
static void *event;

static int64_t
now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int
find(void *library, const char *name, void *out)
{
    void *found = dlsym(library, name);
    if (found == NULL) {
        fprintf(stderr, "%s: no such driver call\n", name);
        return -1;
    }
    *(void **)out = found;
    return 0;
}

/* 0, or what went wrong: -1 no library or entry point, else the driver's status. */
EXPORT int
calls_open(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return -1;
    }
    if (find(library, "cuEventCreate", &cu.event_create) < 0 ||
        find(library, "cuEventDestroy_v2", &cu.event_destroy) < 0 ||
        find(library, "cuEventRecord", &cu.event_record) < 0 ||
        find(library, "cuStreamWaitEvent", &cu.stream_wait) < 0 ||
        find(library, "cuStreamIsCapturing", &cu.is_capturing) < 0) {
        return -1;
    }
    return cu.event_create(&event, DISABLE_TIMING);
}

static int
ask(void *stream)
{
    int capturing = 0;
    return cu.is_capturing(stream, &capturing);
}

static int
push(void *producer, void *consumer)
{
    int bad = cu.event_record(event, producer);
    return bad != 0 ? bad : cu.stream_wait(consumer, event, 0);
}

static int
one_turn(char what, void *producer, void *consumer)
{
    void *fresh = NULL;
    int bad;
    switch (what) {
        case 'r': /* a record */
            return cu.event_record(event, producer);
        case 'w': /* a wait for work that is recorded once */
            return cu.stream_wait(consumer, event, 0);
        case 'q': /* a capture query */
            return ask(producer);
        case 'p': /* a push: two queries, a record, a wait */
            bad = ask(producer);
            bad = bad != 0 ? bad : ask(consumer);
            return bad != 0 ? bad : push(producer, consumer);
        case 'b': /* there and back */
            bad = one_turn('p', producer, consumer);
            return bad != 0 ? bad : one_turn('p', consumer, producer);
        case 'e': /* what those do who have no pool: an event for each push */
            bad = cu.event_create(&fresh, DISABLE_TIMING);
            if (bad != 0) {
                return bad;
            }
            bad = cu.event_record(fresh, producer);
            bad = bad != 0 ? bad : cu.stream_wait(consumer, fresh, 0);
            (void)cu.event_destroy(fresh);
            return bad;
        default:
            return -1;
    }
}

/* Nanoseconds of `turns` of `what`, or minus the first bad status. */
EXPORT int64_t
calls_time(char what, uintptr_t producer, uintptr_t consumer, int64_t turns)
{
    int64_t start = now_ns();
    for (int64_t i = 0; i < turns; i++) {
        int bad = one_turn(what, (void *)producer, (void *)consumer);
        if (bad != 0) {
            return bad < 0 ? bad : -bad;
        }
    }
    return now_ns() - start;
}
