/* SPDX-License-Identifier: Apache-2.0
 *
 * Counts calls of the driver and the runtime by name, whoever makes them, and the
 * synchronisations that CUPTI itself sees: through CUPTI's callbacks. CUPTI is loaded,
 * not linked, and its few types are restated, so that this builds where it is not
 * installed. No Python here; callbacks come on any thread.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

enum { DOMAIN_DRIVER = 1, DOMAIN_RUNTIME = 2, DOMAIN_SYNCHRONIZE = 4, SITE_ENTER = 0 };
enum { NAMES = 512, NAME_LENGTH = 64 };

/* The beginning of CUpti_CallbackData. */
typedef struct {
    int site;
    const char *function;
} callback_data;

typedef void (*callback)(void *user, int domain, uint32_t id, const void *data);

static struct {
    pthread_mutex_t lock;
    int n;
    char names[NAMES][NAME_LENGTH];
    int64_t counts[NAMES];
    int64_t synchronised;
    int64_t lost; /* calls whose name found no room */
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void
count_name(const char *name)
{
    int i = 0;
    while (i < seen.n && strncmp(seen.names[i], name, NAME_LENGTH - 1) != 0) {
        i++;
    }
    if (i == NAMES) {
        seen.lost++;
        return;
    }
    if (i == seen.n) {
        snprintf(seen.names[seen.n++], NAME_LENGTH, "%s", name);
    }
    seen.counts[i]++;
}

/* What CUPTI calls; exported for a test to call in its stead. */
EXPORT void
cupti_seen(void *user, int domain, uint32_t id, const void *data)
{
    (void)user, (void)id;
    const callback_data *call = data;
    pthread_mutex_lock(&seen.lock);
    if (domain == DOMAIN_SYNCHRONIZE) {
        seen.synchronised++;
    } else if ((domain == DOMAIN_DRIVER || domain == DOMAIN_RUNTIME) &&
               call->site == SITE_ENTER) {
        count_name(call->function);
    }
    pthread_mutex_unlock(&seen.lock);
}

/* Begin to count. 0; -1 where the library does not load; else CUPTI's own status. */
EXPORT int
cupti_open(const char *path)
{
    static void *subscriber;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return -1;
    }
    int (*subscribe)(void **, callback, void *);
    int (*enable)(uint32_t, void *, int);
    *(void **)&subscribe = dlsym(library, "cuptiSubscribe");
    *(void **)&enable = dlsym(library, "cuptiEnableDomain");
    if (subscribe == NULL || enable == NULL) {
        return -1;
    }
    int bad = subscribe(&subscriber, cupti_seen, NULL);
    bad = bad != 0 ? bad : enable(1, subscriber, DOMAIN_DRIVER);
    bad = bad != 0 ? bad : enable(1, subscriber, DOMAIN_RUNTIME);
    return bad != 0 ? bad : enable(1, subscriber, DOMAIN_SYNCHRONIZE);
}

EXPORT void
cupti_reset(void)
{
    pthread_mutex_lock(&seen.lock);
    memset(seen.counts, 0, sizeof seen.counts);
    seen.synchronised = seen.lost = 0;
    pthread_mutex_unlock(&seen.lock);
}

/* The i-th name and its count, or -1 behind the last. */
EXPORT int64_t
cupti_count(int i, char name[NAME_LENGTH])
{
    int64_t count = -1;
    pthread_mutex_lock(&seen.lock);
    if (i < seen.n) {
        memcpy(name, seen.names[i], NAME_LENGTH);
        count = seen.counts[i];
    }
    pthread_mutex_unlock(&seen.lock);
    return count;
}

EXPORT int64_t
cupti_synchronised(void)
{
    return seen.synchronised;
}

EXPORT int64_t
cupti_lost(void)
{
    return seen.lost;
}
